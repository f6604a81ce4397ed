"""Core ML: packages from PyTorch programs (coremltools), and on macOS the framework that runs them.

Sources: https://apple.github.io/coremltools/docs-guides (conversion of exported programs, palettization, prediction).
"""

import contextlib
import io
import logging
import platform
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of quantized programs
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from torch._ops import OpOverload

from .artifacts import Arrays, Artifacts
from .coreml_package import Package, copy_folder

ct.models.utils._ModelPackage = ct.models.model._ModelPackage = Package  # noqa: SLF001  # no other way in

COMPUTE = {"conv", "conv_transpose", "linear", "matmul", "einsum", "scaled_dot_product_attention", "lstm", "gru"}
"""Operators of MIL that multiply and add."""
POOLS = {getattr(torch.ops.aten, f"{kind}_pool{rank}d").default for kind in ("max", "avg") for rank in (1, 2, 3)}
STAMP = (1980, 1, 1, 0, 0, 0)


def version() -> dict[str, Any]:
    """Of the converter, and whether Core ML itself is here."""
    return {"version": ct.__version__, "runs": platform.system() == "Darwin"}


def compatibility(program: str) -> dict[str, Any]:
    """Operators of the flat program as they are converted, by name and count, and those that no converter is for."""
    exported = torch.export.load(program).run_decompositions({})
    targets = Counter(str(node.target) for node in exported.graph.nodes if isinstance(node.target, OpOverload))
    unknown = sorted(name for name in targets if _TORCH_OPS_REGISTRY.get_func(name) is None)
    return {"operators": dict(targets), "unknown": unknown, "version": ct.__version__}


def convert(
    program: str, into: str, inputs: list[str], outputs: list[str], precision: str, *, shared: bool
) -> dict[str, Any]:
    """The flat program in the `.pt2` file as `into`, a zipped package; `shared`: weights of few values get tables.

    The answer lists what was not palettized.
    """
    exported = _with_strides(torch.export.load(program)).run_decompositions({})
    places = _places(exported)
    compute = {"fp16": ct.precision.FLOAT16, "fp32": ct.precision.FLOAT32}[precision]
    heard = _Heard()
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        model = ct.convert(
            exported,
            convert_to="mlprogram",
            compute_precision=compute,
            minimum_deployment_target=ct.target.iOS18,
            inputs=[
                ct.TensorType(name=name, shape=shape, dtype=kind)
                for name, (shape, kind) in zip(inputs, places, strict=True)
            ],
            outputs=[ct.TensorType(name=name) for name in outputs],
            skip_model_load=True,
        )
        if shared:
            with heard:
                config = cto.OpPalettizerConfig(mode="unique", weight_threshold=0)
                model = cto.palettize_weights(model, cto.OptimizationConfig(global_config=config))
    folder = Path(into.removesuffix(".zip"))
    copy_folder(Path(model.package_path), folder)
    _zip(folder, Path(into))
    return {"file": into, "skipped": heard.skipped}


class _Heard(logging.Handler):
    """Names of operators that the compression leaves alone: it says so in its log, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "Skipped" in message or "skipped" in message or "skipping" in message.lower():
            self.skipped.append(message[:200])

    def __enter__(self) -> None:
        logging.getLogger("coremltools").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("coremltools").removeHandler(self)


def _with_strides(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Write out the strides of poolings: the converter fails on those that are left to be the kernel's size."""
    for node in exported.graph.nodes:
        if node.target in POOLS and (len(node.args) < 3 or not node.args[2]):
            node.args = (*node.args[:2], node.args[1], *node.args[3:])
    return exported


def _places(exported: torch.export.ExportedProgram) -> list[tuple[tuple[int, ...], Any]]:
    """Shapes and types of the inputs."""
    values = {node.name: node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder"}
    inputs = [values[name] for name in exported.graph_signature.user_inputs]
    return [(tuple(map(int, value.shape)), _kind(value.dtype)) for value in inputs]


def _kind(dtype: torch.dtype) -> Any:
    """Core ML has floats of 32 and 16 bits and integers of 32."""
    if dtype.is_floating_point:
        return np.float16 if dtype == torch.float16 else np.float32
    return np.int32


def _zip(folder: Path, into: Path) -> None:
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", STAMP)
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)


def _unpacked(path: Path) -> Path:
    """The package of an archive."""
    folder = path.with_suffix("")
    if not folder.exists():
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path.parent)
    return folder


class _Open:
    """A package on Core ML's CPU, for macOS. It takes so many rows in one call; more are run in several."""

    def __init__(self, path: Path, _threads: int) -> None:
        self.model = ct.models.MLModel(str(_unpacked(path)), compute_units=ct.ComputeUnit.CPU_ONLY)
        described = self.model.get_spec().description.input
        self.shapes = {feature.name: tuple(feature.type.multiArrayType.shape) for feature in described}
        self.batch = next((shape[0] for shape in self.shapes.values() if shape), 1)

    def __call__(self, feeds: Arrays) -> Arrays:
        rows = max((len(array) for array in feeds.values() if array.ndim), default=1)
        parts = [self.model.predict(call) for call in self._calls(feeds, rows)]
        return {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}

    def _calls(self, feeds: Arrays, rows: int) -> Iterator[Arrays]:
        for start in range(0, rows, self.batch):
            place = np.arange(start, start + self.batch) % rows
            yield {name: _narrow(feeds[name][place]) for name in self.shapes}


def _narrow(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind == "f" else array.astype(np.int32)


_artifacts = Artifacts(_Open)
run, time = _artifacts.run, _artifacts.time


def placement(artifact: str, threads: int) -> dict[str, Any]:
    """Operators of the package's program; where Core ML runs them is known on the device alone."""
    del threads
    operators = _operators(_unpacked(Path(artifact)))
    floating = sum(count for name, count in operators.items() if name in COMPUTE)
    return {"operators": dict(operators), "integer": 0, "floating": floating}


def _operators(folder: Path) -> Counter[str]:
    """Number of operations by kind, of a package on disk; constants are left out."""
    spec = ct.utils.load_spec(str(folder))
    every = (
        operation.type
        for function in spec.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in block.operations
    )
    return Counter(kind for kind in every if kind != "const")
