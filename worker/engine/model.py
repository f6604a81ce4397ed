"""The model a job works on: a program or an ONNX file, how it looks as float32 ONNX, and the plan attached to it."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from app.spec.signature import Dimension, ModelInfo, Signature
from app.spec.work import ModelFile
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.export import OnnxForm
from worker.engine.onnx_graph.file import unpack_bundle
from worker.engine.onnx_graph.preprocess import preprocess
from worker.engine.onnx_graph.sessions import session
from worker.engine.onnx_graph.upgrading import modernized
from worker.engine.onnx_import.errors import ImportFailed
from worker.engine.onnx_import.program_form import ProgramForm
from worker.engine.onnx_import.reference import examples_of
from worker.engine.plan.plan import Plan
from worker.engine.progress import Progress, Unheard
from worker.engine.torch_program.errors import InconsistentModel
from worker.engine.torch_program.program import Program

Reference = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""The source program: outputs by name for one batch of inputs by name."""

UNHEARD = Unheard()


@dataclass(frozen=True)
class Model:
    """A float32 model. A step returns another one; files are never changed in place."""

    source: Path | Program
    """The uploaded ONNX file, with its external tensors beside it, or a program."""
    signature: Signature
    folder: Path
    """Where files made from it are kept; no other model writes there."""
    plan: Plan | None = None
    """How to quantize or store it; carried out by each target in its own way."""
    sparse: frozenset[str] = frozenset()
    """Parameters of the program that were pruned: their zeros stay zero when it is trained."""

    onnx_form: OnnxForm = field(default_factory=OnnxForm, repr=False, compare=False)
    """What a program became as ONNX; whatever is attached to the model shares it."""
    program_form: ProgramForm = field(default_factory=ProgramForm, repr=False, compare=False)
    """What an ONNX file became as a program, likewise."""

    @property
    def graph(self) -> Path:
        """The float32 ONNX file. A program is exported when this is first asked for. Raises `ExportFailed`."""
        if isinstance(self.source, Path):
            return self.source
        return self.onnx_form.of(self.source, self.folder).path

    @property
    def translated(self) -> Program:
        """The program operator by operator as in `graph`, with nodes named like the values there.

        It is shared: take a copy with `Program.graph_module` to change it. Raises `ExportFailed`, and `NotImported`
        for an ONNX file of which no program can be made.
        """
        return Program(self.onnx_form.of(self.program, self.folder).translated, self.signature)

    @property
    def prepared(self) -> Path:
        """The float graph as quantization wants it, made when first asked for. Raises `LoadFailed`."""
        return preprocess(self.graph, self.folder)

    @property
    def reference(self) -> Reference | None:
        """The program that was uploaded, where that was not the ONNX file itself."""
        return self.source if isinstance(self.source, Program) else None

    @property
    def program(self) -> Program:
        """The program, to be changed and trained; an ONNX file is imported when this is first asked for.

        Raises `NotImported` for an ONNX file of which none can be made.
        """
        if isinstance(self.source, Program):
            return self.source
        return self.program_form.of(self.source, self.signature)

    def as_program(self) -> "Model":
        """The model as the program it is or becomes, so that whatever is found out about it is about that.

        Raises `NotImported`.
        """
        return self if isinstance(self.source, Program) else self.with_program(self.program)

    def with_program(self, program: Program, *, sparse: frozenset[str] | None = None) -> "Model":
        """The model after a step that changed its program; `sparse` replaces the names of pruned parameters."""
        if self.plan is not None:
            raise ValueError("a plan describes the weights as they were")
        return replace(
            self,
            source=program,
            signature=program.signature,
            folder=new_folder(self.folder.parent),
            onnx_form=self.onnx_form.of_changed(),
            sparse=self.sparse if sparse is None else sparse,
        )


def new_folder(parent: Path) -> Path:
    """An empty folder for a model's files."""
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="model-", dir=parent))


def open_model(
    upload: ModelFile,
    directory: Path,
    scratch: Path,
    *,
    threads: int,
    progress: Progress = UNHEARD,
    rows: Rows | None = None,
) -> Model:
    """Load an upload that admission has accepted. A program is exported to ONNX when its `graph` is first asked for.

    That export is compared with the program on `rows`, where there are some. `progress` is asked for a toolchain where
    the format needs one. Raises `LoadFailed`, `InconsistentModel`, `ReexportFailed`, `ToolchainMissing`.
    """
    model = load_model(upload, directory, scratch, progress)
    if isinstance(model.source, Path):
        require_signature(model.source, model.signature, threads)
        return model if rows is not None else replace(model, signature=runnable_sizes(model, threads))
    in_training_mode = any("training mode" in warning for warning in upload.info.warnings)
    return replace(model, onnx_form=OnnxForm(rows, in_training_mode=in_training_mode))


def load_model(upload: ModelFile, directory: Path, scratch: Path, progress: Progress = UNHEARD) -> Model:
    """Load an upload; nothing has been run or exported yet. Raises `LoadFailed`, `ToolchainMissing`."""
    path, signature, folder = directory / upload.path, upload.info.signature, new_folder(scratch)
    if upload.info.format == "keras":
        from worker.engine.torch_program.keras import load_keras

        return Model(load_keras(upload, directory, scratch, progress), signature, folder)
    if upload.info.format != "onnx":
        return Model(_program(path, upload.info, scratch), signature, folder)
    graph = unpack_bundle(path, folder / "bundle") if upload.info.external_data else path
    return Model(modernized(graph, folder / "modern.onnx", signature), signature, folder)


def _program(path: Path, info: ModelInfo, scratch: Path) -> Program:
    # Imported here: torch.export takes a second, and torchvision another, that an ONNX job can do without.
    from worker.engine.torch_program.architectures import load_weights
    from worker.engine.torch_program.pt2 import load_program

    if info.architecture is not None:
        return load_weights(info.architecture, path)
    return load_program(path, info.signature, scratch)


def runnable_sizes(model: Model, threads: int) -> Signature:
    """The signature of an ONNX file whose varying sizes begin where ONNX Runtime runs it on made-up inputs.

    A network for sound or pictures wants some size, which its file does not say. As it was where none is found.
    """
    if not any(isinstance(size, Dimension) for tensor in model.signature.inputs for size in tensor.shape[1:]):
        return model.signature
    try:
        return next(examples_of(model.graph, model.signature, threads, seed=0)).signature
    except ImportFailed:
        return model.signature


def require_signature(graph: Path, signature: Signature, threads: int) -> None:
    """Load the graph; raise `InconsistentModel` if it has other inputs or outputs, `LoadFailed` if it does not load."""
    runner = session(graph, threads)
    for kind, loaded, declared in (
        ("inputs", runner.get_inputs(), signature.inputs),
        ("outputs", runner.get_outputs(), signature.outputs),
    ):
        names, expected = [entry.name for entry in loaded], [tensor.name for tensor in declared]
        if names != expected:
            raise InconsistentModel(f"The loaded graph's {kind} are {names}, its file declared {expected}.")
