"""Work orders, models and rows for tests, made the way the service makes them."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx

from app.spec.base import Step
from app.spec.data import ArraySpec, DatasetInfo, DatasetSpec
from app.spec.signature import Dimension, ModelInfo, Signature, TensorSpec
from app.spec.targets import OnnxProfile, OnnxTarget
from app.spec.work import DataFile, ModelFile
from worker.engine.context import Changed, Context
from worker.engine.data.rows import Rows
from worker.engine.model import Model, new_folder
from worker.engine.onnx_graph.sessions import session
from worker.engine.passes.table import apply_step
from worker.engine.progress import Unheard
from worker.engine.targets.base import ArtifactProvenance, ExportContext
from worker.engine.targets.onnx.delivery import deliver_onnx

PROVENANCE = ArtifactProvenance("job_1", "a" * 64, "b" * 64)
DTYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64", onnx.TensorProto.FLOAT16: "float16"}


def signature_of(path: Path) -> Signature:
    """Names, types and shapes of an ONNX file's inputs and outputs."""
    graph = onnx.load(path, load_external_data=False).graph

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        shape = tuple(
            Dimension(name=size.dim_param or "free") if size.WhichOneof("value") != "dim_value" else size.dim_value
            for size in value.type.tensor_type.shape.dim
        )
        return TensorSpec(name=value.name, dtype=DTYPES[value.type.tensor_type.elem_type], shape=shape)

    return Signature(inputs=tuple(map(spec, graph.input)), outputs=tuple(map(spec, graph.output)))


def upload(directory: Path, name: str, signature: Signature, *, external_data: bool = False) -> ModelFile:
    path = directory / name
    form = "pt2" if name.endswith(".pt2") else "onnx"
    info = ModelInfo(format=form, signature=signature, parameters=1, nodes=1, operators={}, external_data=external_data)
    return ModelFile(path=name, sha256="b" * 64, bytes=path.stat().st_size, info=info)


def data_file(name: str, spec: DatasetSpec, split: str | None = None, **arrays: np.ndarray) -> DataFile:
    described = {key: ArraySpec(dtype=str(array.dtype), shape=array.shape) for key, array in arrays.items()}
    rows = next((len(array) for array in arrays.values()), 0)
    return DataFile(path=name, info=DatasetInfo(format="npz", rows=rows, arrays=described), spec=spec, split=split)


def rows_of(directory: Path, **arrays: np.ndarray) -> Rows:
    """The arrays as rows on disk."""
    np.savez(directory / "rows.npz", **arrays)
    return Rows.open(directory, data_file("rows.npz", DatasetSpec(), **arrays))


def context(directory: Path, calibration: Rows | None = None) -> Context:
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    return Context({} if calibration is None else {"calibration": calibration}, scratch, 1, 0, Unheard())


def model_of(graph: Path, directory: Path) -> Model:
    """An ONNX file as the engine opens it; what is made from it goes below `directory`."""
    return Model(graph, signature_of(graph), new_folder(directory / "scratch"))


def changed(step: Step, graph: Path, directory: Path, calibration: Rows | None = None) -> Changed:
    """The graph after one step."""
    return apply_step(step, model_of(graph, directory), context(directory, calibration))


def lowered(model: Model, profile: OnnxProfile, directory: Path) -> Path:
    """The delivered file."""
    out = directory / "out"
    out.mkdir(exist_ok=True)
    exporting = ExportContext(model, PROVENANCE, directory, out, directory / "scratch", 1, Unheard())
    with deliver_onnx(OnnxTarget(profile=profile), model, exporting) as exported:
        return exported.files[0]


def executed(model: Path, directory: Path, *, as_on_arm: bool = False) -> Counter[str]:
    """Operators of the graph the runtime really executes, or would on ARM, whose kernels take signed activations."""
    config = {"session.qdqisint8allowed": "1"} if as_on_arm else {}
    session(model, 1, optimized=directory / "optimized.onnx", config=config)
    return Counter(node.op_type for node in onnx.load(directory / "optimized.onnx").graph.node)


def outputs_of(model: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    return session(model, 1).run(None, inputs)


def sqnr_db(reference: np.ndarray, noisy: np.ndarray) -> float:
    """Signal to quantization noise, in decibels."""
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - noisy).sum()))
