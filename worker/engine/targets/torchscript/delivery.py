"""The `torchscript` target: the program compiled, frozen and run by LibTorch, and a C++ program that runs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from app.spec.signature import Signature
from app.spec.targets import TorchScriptTarget
from worker.engine.lowering.program.plan import quantized_program
from worker.engine.model import Model
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.torchscript.cpp_program import FOLDER, write_cpp_program
from worker.engine.targets.torchscript.integers import use_integers
from worker.engine.targets.torchscript.runtime import DEPRECATED, LibTorch
from worker.engine.targets.torchscript.script import compiled, positional, scripted
from worker.engine.targets.usage import example_rows, usage
from worker.engine.torch_program.program import quiet


@contextmanager
def deliver_torchscript(target: TorchScriptTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-torchscript-<engine>.pt` and `….cpp.zip`. Raises `Unconvertible`, `LoadFailed`."""
    stem = f"model-{target.label.replace('/', '-')}"
    module, notes = _compiled(target, model)
    file = _saved(module, context.out / f"{stem}.pt")
    source = write_cpp_program(target, model.signature, context.out / f"{stem}.cpp.zip")
    runtime = LibTorch(_baseline(context), file, model.signature, target.engine, context.threads, notes)
    exact = model is context.original
    yield Exported((file, source), runtime, _usage(target, (file, source), model.signature), exact)


@contextmanager
def open_torchscript(target: TorchScriptTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Open it with LibTorch, beside the original compiled anew. Raises `Unconvertible`, `LoadFailed`."""
    runtime = LibTorch(_baseline(context), files[0], context.original.signature, target.engine, context.threads)
    yield Exported(files, runtime, usage="")


def _compiled(target: TorchScriptTarget, model: Model) -> tuple[torch.jit.ScriptModule, tuple[str, ...]]:
    """The model with its plan in it, and what to know of the plan."""
    if model.plan is None:
        return scripted(model.program), ()
    made = quantized_program(model)
    torch.backends.quantized.engine = target.engine  # packs the weights
    module = made.program.graph_module()
    use_integers(module)
    return compiled(positional(made.program, module)), made.notes


def _baseline(context: ExportContext) -> Path:
    return _saved(scripted(context.original.program), context.scratch / "original.pt")


def _saved(module: torch.jit.ScriptModule, path: Path) -> Path:
    with quiet():
        torch.jit.save(module, str(path))
    return path


def _usage(target: TorchScriptTarget, files: tuple[Path, ...], signature: Signature) -> str:
    file, source = (path.name for path in files)
    names = [tensor.name for tensor in signature.outputs]
    outputs = f"{{{names[0]!r}: returned}}" if len(names) == 1 else f"dict(zip({names}, returned))"
    code = f"""
import numpy as np
import torch

torch.backends.quantized.engine = {target.engine!r}
model = torch.jit.load({file!r})
{example_rows(signature)}
with torch.inference_mode():
    returned = model(*(torch.from_numpy(array) for array in rows.values()))
outputs = {outputs}
"""
    build = (
        f"unzip {source}\n"
        f"cmake -S {FOLDER} -B build "
        "-DCMAKE_PREFIX_PATH=\"$(python -c 'import torch; print(torch.utils.cmake_prefix_path)')\"\n"
        f"cmake --build build\n./build/{FOLDER} {file}"
    )
    release = torch.__version__.split("+")[0]
    return usage(
        target.title,
        (file, source),
        f"torch=={release} numpy",
        code,
        signature,
        DEPRECATED,
        "From C++, with the LibTorch inside the package or the one that pytorch.org offers as an archive:",
        f"```sh\n{build}\n```",
        "With a folder as its second argument the program reads `<input>.bin` and writes `<output>.bin` there.",
    )
