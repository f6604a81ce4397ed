"""Small real ONNX models and rows that the measurements are tried on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from app.spec.signature import Dimension, Signature, TensorSpec

CLASSES = 10
PIXELS = 8


@dataclass
class FakeRows:
    """Rows in memory with the API of `worker.engine.data.rows.Rows`."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def batches(self, size: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield (
                {name: array[rows] for name, array in self.inputs.items()},
                None if self.labels is None else self.labels[rows],
            )


def images(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 1, PIXELS, PIXELS)).astype(np.float32)


def signature(batch: int | Dimension | None = None) -> Signature:
    first = Dimension(name="batch", min=1) if batch is None else batch
    return Signature(
        inputs=(TensorSpec(name="image", dtype="float32", shape=(first, 1, PIXELS, PIXELS)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=(first, CLASSES)),),
    )


def _weights(rng: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    fan_in = int(np.prod(shape[1:])) or 1
    return numpy_helper.from_array((rng.standard_normal(shape) / fan_in**0.5).astype(np.float32), name)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    shapes: tuple[list[int | str], list[int | str]],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shapes[1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def conv_net(path: Path, *, batch: int | str = "batch", channels: int = 16, seed: int = 0) -> Path:
    """Conv, ReLU, Conv, Add of the first, ReLU, flatten, Gemm: scores of ten classes for one-channel images."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "/conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "/relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "/conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a2"], "/add"),
        helper.make_node("Relu", ["a2"], ["r2"], "/relu2"),
        helper.make_node("Flatten", ["r2"], ["flat"], "/flatten", axis=1),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["scores"], "/head", transB=1),
    ]
    weights = [
        _weights(rng, "w1", channels, 1, 3, 3),
        _weights(rng, "b1", channels),
        _weights(rng, "w2", channels, channels, 3, 3),
        _weights(rng, "b2", channels),
        _weights(rng, "w3", CLASSES, channels * PIXELS * PIXELS),
        _weights(rng, "b3", CLASSES),
    ]
    return save(path, nodes, weights, ([batch, 1, PIXELS, PIXELS], [batch, CLASSES]))


def linear_net(path: Path, *, layers: int = 1, width: int = 256, seed: int = 0) -> Path:
    """Flatten, then `layers` products of width x width, then scores: its work grows with `layers`."""
    rng = np.random.default_rng(seed)
    nodes = [helper.make_node("Flatten", ["image"], ["h"], "/flatten", axis=1)]
    weights = [_weights(rng, "w_in", PIXELS * PIXELS, width), _weights(rng, "w_out", width, CLASSES)]
    nodes.append(helper.make_node("MatMul", ["h", "w_in"], ["h0"], "/in"))
    for layer in range(layers):
        weights.append(_weights(rng, f"w{layer}", width, width))
        nodes.append(helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"h{layer + 1}"], f"/layer{layer}"))
    nodes.append(helper.make_node("MatMul", [f"h{layers}", "w_out"], ["scores"], "/out"))
    return save(path, nodes, weights, (["batch", 1, PIXELS, PIXELS], ["batch", CLASSES]))


class _Reader(CalibrationDataReader):
    def __init__(self, batches: list[np.ndarray]) -> None:
        self._batches = iter([{"image": batch} for batch in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def static_int8(model: Path, into: Path, calibration: np.ndarray) -> Path:
    """QDQ, unsigned activations, signed weights per channel, as for x86."""
    prepared = into.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared))
    quantize_static(
        str(prepared),
        str(into),
        _Reader([calibration]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return into


def dynamic_int8(model: Path, into: Path) -> Path:
    quantize_dynamic(str(model), str(into), per_channel=True)
    return into


def with_scaled_weights(model: Path, into: Path, factors: dict[str, float]) -> Path:
    """A copy in which the named weights are multiplied."""
    loaded = onnx.load(model)
    for tensor in loaded.graph.initializer:
        if tensor.name in factors:
            scaled = numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), tensor.name))
    onnx.save(loaded, into)
    return into
