"""The opset of a delivered ONNX file: the versions of its operators."""

import onnx
from onnx import ModelProto, version_converter

from worker.engine.errors import PlanNotSupported, Unconvertible
from worker.engine.onnx_graph.file import default_opset

FIRST_IR = onnx.helper.OP_SET_ID_VERSION_MAP
"""The version of the file format that came with each opset."""


def with_opset(model: ModelProto, opset: int, purpose: str) -> ModelProto:
    """The model with at least this opset. Raises `PlanNotSupported`: `purpose` needs it."""
    if default_opset(model) >= opset:
        return model
    try:
        converted: ModelProto = version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises whatever its adapters meet
        raise PlanNotSupported(
            f"{purpose} needs opset {opset}, to which the model cannot be converted: {type(error).__name__}.",
            remedy=f"Export the model with opset {opset}, or use int8 and float32.",
        ) from error
    converted.ir_version = max(converted.ir_version, FIRST_IR[("ai.onnx", opset)])
    return converted


def in_opset(model: ModelProto, opset: int | None) -> ModelProto:
    """The model with exactly this opset; as it is for None. Raises `Unconvertible`.

    The file is in the format that came with the opset, which runtimes of its time read.
    """
    if opset is None:
        return model
    converted = model
    if default_opset(model) != opset:
        try:
            converted = version_converter.convert_version(model, opset)
        except Exception as error:
            raise Unconvertible(
                f"The file cannot be written with opset {opset}: {type(error).__name__}: {str(error)[:300]}",
                remedy="Leave `opset` out, or ask for a newer one: newer operators and types need it.",
            ) from error
    converted.ir_version = FIRST_IR[("ai.onnx", opset)]
    return converted
