"""Small real files to upload."""

import io

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from app.admission.architectures import network
from app.spec.architecture import Architecture

FEATURES, CLASSES, ROWS = 4, 3, 40


def onnx_classifier(seed: int = 0) -> bytes:
    """A linear classifier: x [batch, 4] float32 -> scores [batch, 3]."""
    random = np.random.default_rng(seed)
    weight = numpy_helper.from_array(random.normal(size=(FEATURES, CLASSES)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"], name="head")],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def npz_bytes(rows: int = ROWS, *, seed: int = 0, **replaced: np.ndarray) -> bytes:
    """Rows for the classifier: x and y; `replaced` swaps or adds arrays."""
    random = np.random.default_rng(seed)
    arrays = {
        "x": random.normal(size=(rows, FEATURES)).astype(np.float32),
        "y": random.integers(0, CLASSES, rows),
    }
    arrays.update(replaced)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def weights_arrays(architecture: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights as the architecture wants them; variances are positive."""
    random = np.random.default_rng(seed)
    return {
        name: np.abs(random.standard_normal(wanted.shape, dtype=np.float32)) * np.float32(0.02) + np.float32(0.01)
        for name, wanted in network(architecture).tensors.items()
        if wanted.dtype == "float32"
    }


def weights_bytes(architecture: Architecture, seed: int = 0) -> bytes:
    """The same as a `.safetensors` file."""
    return save(weights_arrays(architecture, seed))
