"""Programs, by a converter's own registry of operators; where that knows all of them, by a dry run."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from app.spec.compatibility import Compatibility
from app.spec.targets import ToolchainName
from worker.engine.targets.base import Deliver
from worker.engine.targets.support.base import Look, Tally, table
from worker.engine.targets.support.dry_run import by_delivery
from worker.engine.toolchains.process import started
from worker.engine.torch_program.fixed_shape import save_fixed_shape


def by_toolchain(
    name: ToolchainName, deliver: Deliver, targets: tuple[Any, ...], look: Look, registry: Callable[[str], str]
) -> Iterator[Compatibility]:
    """The same, where a toolchain has the registry; `registry` names it, given its version.

    Raises the toolchain's errors, and `NotImported` for an ONNX file of which no program can be made.
    """
    with started(name, look.directory, look.progress) as toolchain:
        save_fixed_shape(look.model.program, targets[0].batch, toolchain.folder / "program.pt2")
        answer = toolchain.do("compatibility", program="program.pt2")
    yield from by_registry(deliver, targets, look, answer["operators"], answer["unknown"], registry(answer["version"]))


def by_registry(
    deliver: Deliver,
    targets: tuple[Any, ...],
    look: Look,
    operators: Mapping[str, int],
    unknown: Collection[str],
    registry: str,
) -> Iterator[Compatibility]:
    """PyTorch's operators, by count, if the registry has some not; else those of the delivered file.

    `registry` names it, with its version: "litert-torch 0.10.0 registry of lowerings".
    """
    if not unknown:
        yield from by_delivery(deliver, targets, look)
        return
    tally = Tally()
    for operator, count in operators.items():
        if operator in unknown:
            tally.add(operator, "unsupported", "The registry has no such operator.", registry, count)
        else:
            tally.add(operator, "supported", "", registry, count)
    refusal = f"Not in the {registry}: {', '.join(sorted(unknown))}."
    yield from (table(target, tally, refusal) for target in targets)
