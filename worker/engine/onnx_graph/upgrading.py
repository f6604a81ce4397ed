"""ONNX files of any age, brought to operator sets that everything here knows."""

import onnx
from onnx import ModelProto, inliner, version_converter

from worker.engine.errors import LoadFailed
from worker.engine.onnx_graph.file import default_opset

OLDEST, NEW = 13, 17
"""Older files are converted to `NEW`; from `OLDEST` on, operators take sizes and axes as inputs."""


def upgraded(model: ModelProto) -> ModelProto:
    """The model without functions of its own, with operator set 13 or later. Raises `LoadFailed`.

    `model` is changed or returned as it is.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import) or default_opset(model) >= OLDEST:
        return model
    try:
        converted: ModelProto = version_converter.convert_version(model, NEW)
    except Exception as error:  # the converter raises whatever its adapters meet
        raise LoadFailed(
            f"The file has operator set {default_opset(model)} and cannot be converted to {NEW}: "
            f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
            remedy=f"Convert it with onnx.version_converter on your machine, or export it with opset {NEW}.",
        ) from error
    converted.ir_version = max(converted.ir_version, onnx.helper.OP_SET_ID_VERSION_MAP[("ai.onnx", NEW)])
    return converted
