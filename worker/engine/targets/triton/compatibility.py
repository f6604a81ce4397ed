"""Triton: what the target that a repository holds makes of a model."""

from collections.abc import Iterator

from app.spec.compatibility import Compatibility
from app.spec.targets import TritonTarget
from worker.engine.progress import ToolchainMissing
from worker.engine.targets.support.base import Look, Tally, table
from worker.engine.targets.triton.backends import BACKENDS


def triton_compatibility(targets: tuple[TritonTarget, ...], look: Look) -> Iterator[Compatibility]:
    """The inner targets' tables; a refusal where a toolchain is missing, so that the other backends are told."""
    for target in targets:
        try:
            for inner in BACKENDS[type(target.inner)].compatibility((target.inner,), look):
                yield inner.model_copy(update={"target": target})
        except ToolchainMissing as error:
            yield table(target, Tally(), error.explanation)
