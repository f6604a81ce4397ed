"""The `triton` target: another target's artifact, measured on its own runtime, in a model repository."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from app.spec.signature import Signature
from app.spec.targets import TritonTarget
from worker.engine.model import Model, new_folder
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.triton.backends import BACKENDS
from worker.engine.targets.triton.config import batch_size, config
from worker.engine.targets.triton.repository import unpack_repository, write_repository

REPOSITORY = "model_repository"
BUILD_FIRST = "Build the engine first, on the server, with the command below."


@contextmanager
def deliver_triton(target: TritonTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-triton-<backend>.zip`. Raises what the inner target does."""
    inside = replace(context, out=new_folder(context.scratch))
    with BACKENDS[type(target.inner)].deliver(target.inner, model, inside) as inner:
        path = context.out / f"model-{target.label.replace('/', '-')}.zip"
        archive = write_repository(target.name, config(target, model.signature), inner.files, path)
        text = _usage(target, archive, inner, model.signature)
        yield replace(inner, files=(archive,), usage=text)


@contextmanager
def open_triton(target: TritonTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Open what the repository holds, on its own runtime. Raises what the inner target does."""
    inside = unpack_repository(files[0], new_folder(context.scratch))
    with BACKENDS[type(target.inner)].reopen(target.inner, inside, context) as inner:
        yield replace(inner, files=files)


def _usage(target: TritonTarget, archive: Path, inner: Exported, signature: Signature) -> str:
    rows = batch_size(target, signature)
    batching = (
        f"Requests are put together to batches of up to {rows} rows; one waits {target.max_queue_delay_us} µs at most."
        if rows
        else "Requests are not put together: `max_batch_size` is 0, or the model's tensors do not share a batch that "
        "varies from 1 on."
    )
    served = f"{REPOSITORY}/{target.name}/1/model"
    # The inner artifact's own text, with the places that its files have in the repository.
    own = inner.usage.replace(inner.files[0].stem, served).replace("# ", "## ", 1)
    return "\n".join(
        [
            f"# {target.title}",
            "",
            f"Files: `{archive.name}`",
            "",
            "```sh",
            f"unzip {archive.name} -d {REPOSITORY}",
            f"tritonserver --model-repository={REPOSITORY}",
            "```",
            "",
            batching,
            "",
            f"`{target.name}/config.pbtxt` says so, and can be changed without a new export.",
            "",
            "What was measured is the artifact on its own runtime, without the server.",
            "",
            *([BUILD_FIRST, ""] if target.backend == "tensorrt" else []),
            own,
        ]
    )
