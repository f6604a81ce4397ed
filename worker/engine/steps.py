"""Taking a job's steps, each from where the last one ended: in this attempt or, by its checkpoint, in another."""

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from app.spec.report import StepReport
from app.spec.steps import AnyStep
from worker.engine.checkpoints import Checkpoints
from worker.engine.context import Changed, Context
from worker.engine.model import Model, new_folder
from worker.engine.passes.table import apply_step
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.pt2 import load_program


@dataclass(frozen=True)
class Taken:
    """What the steps so far led to."""

    model: Model
    reports: tuple[StepReport, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    """To deliver beside the model, by file name."""


def take_steps(
    steps: tuple[AnyStep, ...], original: Model, context: Context, recipe: str, checkpoints: Checkpoints
) -> Iterator[Taken]:
    """Yield before each step and after the last; steps that an earlier attempt finished are not taken again.

    A step that changed the program leaves a checkpoint, `step-N.pt2`, which is a model of its own. `recipe` tells
    the checkpoints of this recipe from those of another. Raises what the steps raise.
    """
    taken = _resumed(steps, original, context, recipe, checkpoints) or Taken(original)
    for number, step in enumerate(steps[len(taken.reports) :], len(taken.reports) + 1):
        yield taken
        started = time.monotonic()
        changed = apply_step(step, taken.model, replace(context, checkpoints=checkpoints))
        context.progress.log(changed.summary)
        files = {f"step-{number}-{name}": path for name, path in changed.files.items()}
        report = StepReport(
            type=step.kind(),
            seconds=time.monotonic() - started,
            summary=changed.summary,
            facts=changed.facts,
            charts=changed.charts,
            tables=changed.tables,
            notes=changed.notes,
        )
        taken = Taken(changed.model, (*taken.reports, report), {**taken.files, **files})
        _keep(taken, changed, files, recipe, checkpoints)
    yield taken


def _keep(taken: Taken, changed: Changed, files: Mapping[str, Path], recipe: str, checkpoints: Checkpoints) -> None:
    """Keep the program after a step; what describes it comes last, so that it is never there without the rest."""
    program = changed.model.source
    if changed.model.plan is not None or not isinstance(program, Program):
        return  # plans come last and are made in minutes; what changes an ONNX file takes seconds
    number = len(taken.reports)
    for name, path in files.items():
        checkpoints.keep(name, partial(shutil.copyfile, path))
    checkpoints.keep(f"step-{number}.pt2", program.save)
    described = {
        "recipe": recipe,
        "sparse": sorted(changed.model.sparse),
        "reports": [report.model_dump(mode="json") for report in taken.reports],
        "files": sorted(taken.files),
    }
    checkpoints.keep_json(f"step-{number}.json", described)
    checkpoints.drop_unfinished()


def _resumed(
    steps: tuple[AnyStep, ...], original: Model, context: Context, recipe: str, checkpoints: Checkpoints
) -> Taken | None:
    """Where an earlier attempt got to, if it left a checkpoint."""
    for number in range(len(steps), 0, -1):
        described: dict[str, Any] | None = checkpoints.find_json(f"step-{number}.json")
        saved = checkpoints.find(f"step-{number}.pt2")
        if described is None or saved is None or described["recipe"] != recipe:
            continue
        files = {name: checkpoints.find(name) for name in described["files"]}
        context.progress.log(
            f"Going on after step {number} ({steps[number - 1].kind()}), which an earlier attempt took."
        )
        model = Model(
            load_program(saved, original.signature, context.scratch),
            original.signature,
            new_folder(context.scratch),
            sparse=frozenset(described["sparse"]),
        )
        reports = tuple(StepReport.model_validate(report) for report in described["reports"])
        return Taken(model, reports, {name: path for name, path in files.items() if path is not None})
    return None
