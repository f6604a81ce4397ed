"""`config.pbtxt`: how Triton runs a model.

Source: NVIDIA, Triton Inference Server, "Model Configuration" (docs/user_guide/model_configuration.md) and
`model_config.proto` of triton-inference-server/common.
"""

import json
from collections.abc import Sequence

from app.spec.signature import Dimension, Signature, TensorSpec
from app.spec.targets import TritonTarget
from app.spec.targets.triton import TritonBackend
from worker.engine.measure.batching import BatchRange
from worker.engine.targets.tensorrt.trtexec import shape_ranges

BACKENDS: dict[TritonBackend, tuple[str, str, str]] = {
    "onnx": ('backend: "onnxruntime"', "KIND_CPU", "model.onnx"),
    "openvino": ('backend: "openvino"', "KIND_CPU", "model.xml"),
    "tensorrt": ('platform: "tensorrt_plan"', "KIND_GPU", "model.engine"),
}
"""What runs the model, where, and the file that it loads."""
TYPES = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Triton's names of types, without `TYPE_`."""


def config(target: TritonTarget, signature: Signature) -> str:
    """The text of `config.pbtxt`, which ends in a line break."""
    backend, kind, file = BACKENDS[target.backend]
    batch = batch_size(target, signature)
    return "\n".join(
        [
            f"name: {json.dumps(target.name)}",
            backend,
            f"default_model_filename: {json.dumps(file)}",
            f"max_batch_size: {batch}",
            *_tensors("input", signature.inputs, batched=batch > 0),
            *_tensors("output", signature.outputs, batched=batch > 0),
            f"instance_group [ {{ count: {target.instances} kind: {kind} }} ]",
            *([f"dynamic_batching {{ max_queue_delay_microseconds: {target.max_queue_delay_us} }}"] if batch else []),
            "",
        ]
    )


def batch_size(target: TritonTarget, signature: Signature) -> int:
    """Rows that may be put together; 0 where Triton must leave requests as they are.

    It batches along the first axis of all tensors, which must vary together, from one row on.
    """
    first = {_first(tensor) for tensor in (*signature.inputs, *signature.outputs)}
    rows = BatchRange.of(signature)
    if len(first) != 1 or None in first or rows.low > 1:
        return 0
    most = min(target.max_batch_size, rows.high)
    if target.backend == "tensorrt":  # the engine is built for batches up to this
        most = min(most, *(largest[0] for _, _, largest in shape_ranges(signature).values()))
    return most


def _first(tensor: TensorSpec) -> str | None:
    if not tensor.shape:
        return None
    size = tensor.shape[0]
    return size.name if isinstance(size, Dimension) else None


def _tensors(kind: str, tensors: Sequence[TensorSpec], *, batched: bool) -> list[str]:
    each = [f"  {{ {_tensor(tensor, batched=batched)} }}" for tensor in tensors]
    return [f"{kind} [", ",\n".join(each), "]"]


def _tensor(tensor: TensorSpec, *, batched: bool) -> str:
    sizes = [-1 if isinstance(size, Dimension) else size for size in tensor.shape[batched:]]
    # A tensor with no axis beside the batch is one of one value to Triton, and reshaped for the model.
    dims = f"dims: [ {', '.join(map(str, sizes))} ]" if sizes else "dims: [ 1 ] reshape { shape: [ ] }"
    return f"name: {json.dumps(tensor.name)} data_type: TYPE_{TYPES[tensor.dtype]} {dims}"
