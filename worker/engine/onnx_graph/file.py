"""ONNX files on disk: opening an upload, reading, tidying and saving a graph."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from worker.engine.errors import LoadFailed

PROTOBUF_BYTES = 1_900_000_000
"""Of tensors, at most, in one file: a protobuf message ends below 2 GiB. A larger model has a second file."""
COPY_BYTES = 1 << 20


def unpack_bundle(bundle: Path, into: Path) -> Path:
    """The ONNX file of a zip or tar that also holds its external tensors, extracted below `into`.

    Only regular files are written, each below `into`. Raises `LoadFailed`.
    """
    graphs = []
    for name, stream in _members(bundle):
        place = PurePosixPath(name)
        if place.parts[:1] == ("__MACOSX",) or place.name == ".DS_Store":
            continue  # what macOS adds to archives; admission passes over it, too
        if place.is_absolute() or ".." in place.parts or "\\" in name or not place.parts:
            raise LoadFailed("The archive has a member outside of its own folder.")
        file = into.joinpath(*place.parts)
        if file.exists():
            raise LoadFailed("The archive has two members of the same name.")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as copy:
            shutil.copyfileobj(stream, copy, COPY_BYTES)
        if file.suffix == ".onnx":
            graphs.append(file)
    if len(graphs) != 1:
        raise LoadFailed(f"The archive holds {len(graphs)} .onnx files instead of one.")
    return graphs[0]


def _members(bundle: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every regular file; links, devices and folders are passed over."""
    if zipfile.is_zipfile(bundle):
        with zipfile.ZipFile(bundle) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    with archive.open(member) as stream:
                        yield member.filename, stream
        return
    try:
        with tarfile.open(bundle) as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isreg() else None
                if content is not None:
                    yield entry.name, content
    except tarfile.TarError as error:
        raise LoadFailed("The archive of the model is not readable.") from error


def save(model: ModelProto, path: Path, *, whole_below: int = PROTOBUF_BYTES) -> list[Path]:
    """Write the model; its tensors go to `<name>.data` beside it if they have `whole_below` bytes or more."""
    # Not ByteSize() of the model, which fails for the very models in question.
    if sum(tensor.ByteSize() for tensor in model.graph.initializer) < whole_below:
        onnx.save(model, path)
        return [path]
    data = path.with_name(path.name + ".data")
    data.unlink(missing_ok=True)  # onnx appends
    onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data.name)
    return [path, data]


def bytes_on_disk(path: Path) -> int:
    """Size of the ONNX file and of the external tensor files it names."""
    return sum(part.stat().st_size for part in parts(path))


def parts(path: Path) -> list[Path]:
    """The ONNX file, and the external tensor files it names, in its folder or below."""
    graph = onnx.load(path, load_external_data=False).graph
    places = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    return [path, *(path.parent / place for place in sorted(places))]


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield this graph and every graph inside its control-flow nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from graphs(inner)


def forget_origins(model: ModelProto) -> None:
    """Remove documentation and exporter notes: they hold source paths and stack traces of whoever exported it."""
    model.ClearField("doc_string")
    for function in model.functions:
        function.ClearField("doc_string")
        function.ClearField("metadata_props")
        _forget(function.node)
    for graph in graphs(model.graph):
        graph.ClearField("doc_string")
        graph.ClearField("metadata_props")
        _forget(graph.node)
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.ClearField("doc_string")
            value.ClearField("metadata_props")


def _forget(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")


def keep_used_domains(model: ModelProto) -> None:
    """Declare only the operator sets that occur: ONNX Runtime's optimizer declares all it knows."""
    used = {node.domain for graph in graphs(model.graph) for node in graph.node}
    used |= {node.domain for function in model.functions for node in function.node}
    used |= {function.domain for function in model.functions}
    kept = [opset for opset in model.opset_import if opset.domain in used | {"", "ai.onnx"}]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def default_opset(model: ModelProto) -> int:
    """The version of the standard operators."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 1)
