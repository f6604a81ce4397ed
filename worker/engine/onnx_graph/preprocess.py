"""The float graph as quantization wants it: shapes inferred, constants and batch norms folded, every node named."""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process

from worker.engine.errors import LoadFailed
from worker.engine.onnx_graph.file import bytes_on_disk, forget_origins, graphs, keep_used_domains, save
from worker.engine.onnx_graph.normal_form import (
    drop_defaults,
    inputs_that_are_constants,
    share_equal_weights,
    share_transposed_tables,
    write_biases_as_vectors,
)

LARGE_BYTES = 1_500_000_000
"""Beyond this, intermediate files keep tensors outside of the protobuf message (which shape inference enlarges)."""


def preprocess(source: Path, scratch: Path) -> Path:
    """Write `prepared.onnx` into `scratch` (once) and return it. Raises `LoadFailed`."""
    prepared = scratch / "prepared" / "prepared.onnx"
    if not prepared.exists():
        prepared.parent.mkdir(parents=True, exist_ok=True)
        folded = prepared.with_name("folded.onnx")
        _fold(_without_defaults(source, prepared.with_name("plain.onnx")), folded)
        model = onnx.load(folded)
        name_nodes(model)
        write_biases_as_vectors(model.graph)
        share_equal_weights(model.graph)
        share_transposed_tables(model.graph)
        forget_origins(model)
        keep_used_domains(model)
        save(model, prepared)
    return prepared


def _without_defaults(source: Path, plain: Path) -> Path:
    """The file, or a copy in which no initializer is an input: the runtime folds nothing that a caller may set."""
    if not inputs_that_are_constants(onnx.load(source, load_external_data=False).graph):
        return source
    model = onnx.load(source)
    drop_defaults(model)
    return save(model, plain)[0]


def _fold(source: Path, folded: Path) -> None:
    """ONNX Runtime's own preparation; without symbolic shapes where their inference does not know an operator."""
    failure: Exception | None = None
    for skip_symbolic in (False, True):
        try:
            with _temporary_files_in(folded.parent), _quiet():
                quant_pre_process(
                    source,
                    folded,
                    skip_symbolic_shape=skip_symbolic,
                    auto_merge=True,
                    save_as_external_data=bytes_on_disk(source) > LARGE_BYTES,
                    all_tensors_to_one_file=True,
                )
            return
        except Exception as error:  # noqa: BLE001  # symbolic inference raises whatever its 3,000 lines meet
            failure = error
    raise LoadFailed(f"The model's shapes cannot be inferred: {type(failure).__name__}.") from failure


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """A job may write into its own directory only, and its temporary files can be as large as the model."""
    import tempfile

    before, tempfile.tempdir = tempfile.tempdir, os.fspath(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice to call the function that is being called."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: the quantizer and skip lists tell nodes apart by name."""
    taken = Counter(node.name for graph in graphs(model.graph) for node in graph.node)
    number = 0
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.name and taken[node.name] == 1:
                continue
            taken[node.name] -= 1
            while not node.name or taken[node.name]:
                number += 1
                node.name = f"{node.op_type}_{number}"
            taken[node.name] = 1
