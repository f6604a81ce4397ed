"""ONNX files of any age, brought to operator sets that everything here knows."""

from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, ValueInfoProto, helper, inliner, version_converter

from app.spec.signature import Signature
from worker.engine.data.synthetic import at_least, example_batch
from worker.engine.errors import LoadFailed
from worker.engine.onnx_graph.differences import distance
from worker.engine.onnx_graph.file import default_opset, save
from worker.engine.onnx_graph.sessions import session

OLDEST, NEW = 13, 17
"""Older files are converted to `NEW`; from `OLDEST` on, operators take sizes and axes as inputs."""

SIZES = (16, 32, 48, 64, 128, 224, 320, 576)
"""Of varying dimensions, tried in this order."""
ROWS = 2
TOLERANCE = 1e-3
"""Largest difference of an output, relative to its largest magnitude."""


def modernized(path: Path, into: Path, signature: Signature) -> Path:
    """The file as everything here knows it: of operator set 13 or later, with the tensors of `signature` as outputs.

    An older one is written to `into` and compared with `path` in ONNX Runtime; one that needs nothing is returned as
    it is. Raises `LoadFailed`.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf has no typed class for it
        raise LoadFailed(f"The file is no ONNX model: {error}") from error
    wanted = [tensor.name for tensor in signature.outputs]
    declared = [opset.domain or "ai.onnx" for opset in model.opset_import]
    is_current = default_opset(model) >= OLDEST and len(set(declared)) == len(declared)
    if is_current and all(value.name in wanted and _is_tensor(value) for value in model.graph.output):
        return path
    model = onnx.load(path)
    _keep_one_opset_each(model)
    _deliver_tensors(model.graph, wanted)
    before = path if is_current else into.with_name("before.onnx")
    if not is_current:
        save(model, before)
        model = upgraded(model)
    save(model, into)
    if not is_current:
        _require_same(before, into, signature)
    return into


def _is_tensor(value: ValueInfoProto) -> bool:
    return bool(value.type.HasField("tensor_type"))


def _keep_one_opset_each(model: ModelProto) -> None:
    """Drop repetitions: a domain may be declared twice, as skl2onnx does, or by both names of the standard one."""
    versions = {"" if opset.domain == "ai.onnx" else opset.domain: opset.version for opset in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())


def _deliver_tensors(graph: GraphProto, wanted: list[str]) -> None:
    """Return what stands before a ZipMap in place of its maps, under their name, and only the `wanted` outputs."""
    maps = {node.output[0]: node for node in graph.node if node.op_type == "ZipMap" and node.output[0] in wanted}
    for name, node in maps.items():
        node.CopyFrom(helper.make_node("Identity", [node.input[0]], [name], name=node.name))
    kept = [value for value in graph.output if value.name in wanted]
    del graph.output[:]
    for value in kept:
        scores = helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, None)
        graph.output.append(scores if value.name in maps else value)


def _require_same(before: Path, after: Path, signature: Signature) -> None:
    """Raise `LoadFailed` if the converter made another model of it; inputs are made up, of sizes that both run on."""
    names = [tensor.name for tensor in signature.outputs]
    sessions = [session(path, 1) for path in (before, after)]
    for size in SIZES:
        feeds = example_batch(at_least(signature, size), ROWS, 0)
        try:
            wants = sessions[0].run(names, feeds)
        except Exception:  # noqa: BLE001,S112  # the sizes do not fit; the next ones may
            continue
        for name, want, got in zip(names, wants, sessions[1].run(names, feeds), strict=True):
            if want.shape != got.shape or distance(got, want) > TOLERANCE:
                raise LoadFailed(
                    f"onnx.version_converter makes another model of the file: output {name} differs.",
                    remedy=f"Export the model with opset {NEW}.",
                )
        return


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
