"""Weights of a TensorFlow Lite file stored as the codes that a plan gave them, for kernels of dynamic range.

The converter would choose scales of its own, and for every layer. Here a file of floats is given the plan's codes for
the plan's layers: in front of such a weight, kernels round activations as they come and multiply integers.
Source: tensorflow/compiler/mlir/lite/schema/schema.fbs (tensors, quantization parameters, packing of INT4).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
LOWEST_INT4, HIGHEST_INT4 = -8, 7
TAKES_CODES = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
}


@dataclass(frozen=True)
class Codes:
    """A symmetric weight: value = scale * code, with a scale for each entry of the first axis, or one for all."""

    codes: np.ndarray
    """int8, `[outputs, inputs]` or `[outputs, inputs of a group, height, width]`."""
    scales: np.ndarray
    """float32 `[outputs]` or `[1]`."""

    def layouts(self) -> Iterable[tuple[np.ndarray, int]]:
        """The codes as files may hold them, each with the axis of its scales."""
        if self.codes.ndim == 2:
            yield self.codes, 0
        else:
            yield self.codes.transpose(0, 2, 3, 1), 0
            if self.codes.shape[1] == 1:
                yield self.codes.transpose(1, 2, 3, 0), 3  # depthwise: channels last

    def values(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """float32 values of codes in a file's layout."""
        shape = [1] * codes.ndim
        shape[axis] = -1
        return codes.astype(np.float32) * self.scales.reshape(shape).astype(np.float32)


def store_codes(path: Path, weights: list[Codes]) -> int:
    """Replace float weights of the file that equal values of `weights` by their codes; the number replaced.

    Where all codes of a weight lie between -8 and 7, two of them share a byte.
    """
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)  # a file of this format ends at 2 GB
    stored = 0
    for graph in model.subgraphs:
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode in TAKES_CODES:
                stored += _store(model, graph.tensors[operator.inputs[1]], weights)
    _empty_unread(model)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    path.write_bytes(builder.Output())
    return stored


def _store(model: Any, tensor: Any, weights: list[Codes]) -> bool:
    if tensor.type != schema.TensorType.FLOAT32 or model.buffers[tensor.buffer].data is None:
        return False
    floats = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape)
    for weight in weights:
        for codes, axis in weight.layouts():
            if codes.shape == floats.shape and np.array_equal(weight.values(codes, axis), floats):
                _replace(model, tensor, codes, weight.scales, axis)
                return True
    return False


def _replace(model: Any, tensor: Any, codes: np.ndarray, scales: np.ndarray, axis: int) -> None:
    packed = bool(codes.min() >= LOWEST_INT4 and codes.max() <= HIGHEST_INT4)
    flat = np.ascontiguousarray(codes).reshape(-1)
    tensor.type = schema.TensorType.INT4 if packed else schema.TensorType.INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.asarray(scales, np.float32)
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = axis
    # A buffer of its own: another operator may read the same floats.
    buffer = schema.BufferT()
    buffer.data = _packed(flat) if packed else flat.view(np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def _empty_unread(model: Any) -> None:
    """Drop the contents of buffers that no tensor has any more. Their places stay: tensors name theirs by place."""
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    read |= {entry.buffer for entry in model.metadata or ()}
    for place, buffer in enumerate(model.buffers):
        if place not in read:
            buffer.data = None


def _packed(codes: np.ndarray) -> np.ndarray:
    """Two codes in a byte, the first in its low half."""
    nibbles = np.append(codes, np.zeros(len(codes) % 2, np.int8)).astype(np.uint8) & 0xF
    return (nibbles[0::2] | (nibbles[1::2] << 4)).astype(np.uint8)
