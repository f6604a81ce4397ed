"""A zip or tar with one ONNX file and the tensor files it refers to."""

import posixpath
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO

from app.admission.errors import AdmissionError, Broken, Inflating
from app.admission.member_names import is_litter
from app.admission.onnx import OnnxFile, read_onnx
from app.admission.onnx_tensors import External
from app.admission.zipped import Archive, Member
from app.spec.signature import ModelInfo


class ExternalData(AdmissionError):
    """The ONNX file keeps tensors in another file that is missing, too short, or outside of the upload."""

    code = "model.external_data"
    remedy = "Upload a zip or tar of the .onnx file and its tensor files, with the names that the .onnx file uses."


MAX_GRAPH_BYTES = 2 << 30
"""A protobuf message ends below 2 GiB."""


def graph_members(names: Mapping[str, Member]) -> list[str]:
    """The members that claim to be ONNX files; the only claim that counts, for the runtime needs to know which."""
    return [name for name in names if name.endswith(".onnx")]


def tidy(members: Mapping[str, Member]) -> dict[str, Member]:
    """The members without a leading "./" and without what macOS adds; raises `Broken` if two become one.

    Only for bundles, which the worker unpacks by these rules. Other loaders go by the names as they are.
    """
    kept: dict[str, Member] = {}
    for raw, member in members.items():
        name = raw.removeprefix("./")
        if is_litter(name):
            continue
        if name in kept:
            raise Broken(f"two members are named {name!r}")
        kept[name] = replace(member, name=name)
    return kept


def read_bundle(file: BinaryIO, members: Mapping[str, Member], archive: Archive | None) -> ModelInfo:
    """Read the bundle's graph and check that every tensor it refers to is in the bundle, as long as it must be.

    `archive` inflates compressed members; None: `members` are stored.
    Raises `ExternalData` and what `read_onnx` raises.
    """
    graphs = graph_members(members)
    if len(graphs) != 1:
        raise Broken(f"the archive holds {len(graphs)} .onnx files instead of one")
    graph = members[graphs[0]]
    onnx = read_onnx(file, graph.start, graph.start + graph.size) if graph.stored else _inflated(archive, graph)
    used = {_resolve(external, graph, members) for external in onnx.externals}
    if stray := sorted(members.keys() - used - {graph.name}):
        raise Broken(f"the archive holds {stray[0]!r}, to which the model does not refer")
    return onnx.info.model_copy(update={"external_data": True})


def _inflated(archive: Archive | None, graph: Member) -> OnnxFile:
    if archive is None or graph.size > MAX_GRAPH_BYTES:
        raise Inflating(f"{graph.name!r} would inflate to {graph.size} bytes")
    with tempfile.TemporaryFile() as spool:
        for piece in archive.chunks(graph):
            spool.write(piece)
        spool.flush()
        return read_onnx(spool, 0, graph.size)


def _resolve(external: External, graph: Member, members: Mapping[str, Member]) -> str:
    """The member that holds a tensor's bytes."""
    folder = posixpath.dirname(graph.name)
    name = posixpath.join(folder, external.location)
    where = f"Tensor {external.tensor[:80]!r} is to be found in {external.location[:80]!r}"
    if name not in members or name == graph.name or external.location.startswith("/"):
        raise ExternalData(f"{where}, which is not in the archive.")
    length = members[name].size - external.offset if external.length is None else external.length
    if external.offset + length > members[name].size or length != external.needs:
        raise ExternalData(
            f"{where}: {external.needs} bytes from {external.offset}, of a file of {members[name].size} bytes."
        )
    return name
