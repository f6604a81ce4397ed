"""Steps are taken once: an attempt goes on from the checkpoints of an earlier one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from app.spec.base import Step
from tests.support.engine import zoo
from tests.support.engine.orders import context
from tests.support.engine.two_inputs import SIGNATURE, rows
from worker.engine.checkpoints import UNFINISHED, Checkpoints
from worker.engine.context import Changed, Context
from worker.engine.model import Model, new_folder
from worker.engine.passes import table as passes
from worker.engine.progress import Unheard
from worker.engine.steps import Taken, take_steps
from worker.engine.torch_program.program import Program

RECIPE = "a" * 64


class Halve(Step):
    """Halve the weights of the last layer."""

    type: Literal["halve"] = "halve"
    fails: bool = False


class Died(Exception):
    pass


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Halve]:
    """The steps that were carried out."""
    done: list[Halve] = []

    def halve(step: Halve, model: Model, context: Context) -> Changed:
        if step.fails:
            raise Died
        done.append(step)
        module = model.program.graph_module()
        with torch.no_grad():
            module.get_parameter("score.weight").mul_(0.5)
        note = context.scratch / f"{len(done)}.json"
        note.write_text(json.dumps(len(done)))
        changed = model.with_program(model.program.rebuilt(module), sparse=model.sparse | {"score.weight"})
        return Changed(changed, "Halved.", {"done": len(done)}, files={"note.json": note})

    monkeypatch.setitem(passes.PASSES, Halve, halve)
    return done


def model(folder: Path) -> Model:
    exported = zoo.program(zoo.TwoInputs(), torch.zeros(2, 3, 16, 16), torch.zeros(2, 5))
    return Model(Program(exported, SIGNATURE), SIGNATURE, new_folder(folder / "models"))


def run(folder: Path, steps: tuple[Step, ...], recipe: str = RECIPE) -> Taken:
    checkpoints = Checkpoints(folder / "checkpoints", Unheard())
    *_, last = take_steps(steps, model(folder), context(folder), recipe, checkpoints)
    return last


def score(of: Model) -> torch.Tensor:
    return of.program.exported.state_dict["score.weight"]


def test_steps_follow_each_other(taken: list[Halve], tmp_path: Path) -> None:
    last = run(tmp_path, (Halve(), Halve()))

    assert torch.equal(score(last.model), 0.25 * score(model(tmp_path)))
    assert [report.facts["done"] for report in last.reports] == [1, 2]
    assert sorted(last.files) == ["step-1-note.json", "step-2-note.json"]
    assert last.model.sparse == {"score.weight"}


def test_a_second_attempt_goes_on_where_the_first_one_died(taken: list[Halve], tmp_path: Path) -> None:
    with pytest.raises(Died):
        run(tmp_path, (Halve(), Halve(fails=True)))
    shutil.rmtree(tmp_path / "scratch")  # only the checkpoints outlive an attempt

    last = run(tmp_path, (Halve(), Halve(fails=False)))

    assert len(taken) == 2, "the first step was taken again"
    assert torch.equal(score(last.model), 0.25 * score(model(tmp_path)))
    assert [report.summary for report in last.reports] == ["Halved.", "Halved."]
    assert last.files["step-1-note.json"].read_text() == "1"
    assert last.model.sparse == {"score.weight"}
    assert last.model.program(rows(3)).keys() == {"first", "second"}


def test_checkpoints_of_another_recipe_are_not_used(taken: list[Halve], tmp_path: Path) -> None:
    run(tmp_path, (Halve(),))
    run(tmp_path, (Halve(),), recipe="b" * 64)

    assert len(taken) == 2


def test_a_checkpoint_that_is_not_complete_is_not_used(taken: list[Halve], tmp_path: Path) -> None:
    run(tmp_path, (Halve(),))
    (tmp_path / "checkpoints" / "step-1.json").unlink()
    run(tmp_path, (Halve(),))

    assert len(taken) == 2


def test_the_caller_hears_of_each_checkpoint_when_it_is_complete(taken: list[Halve], tmp_path: Path) -> None:
    heard: list[tuple[str, bool]] = []

    class Listening(Unheard):
        def checkpoint(self, name: str) -> None:
            heard.append((name, (tmp_path / "checkpoints" / name).is_file()))

    checkpoints = Checkpoints(tmp_path / "checkpoints", Listening())
    list(take_steps((Halve(),), model(tmp_path), replace(context(tmp_path)), RECIPE, checkpoints))

    assert heard == [("step-1-note.json", True), ("step-1.pt2", True), ("step-1.json", True)]


def test_the_state_of_a_step_is_forgotten_when_the_step_is_done(taken: list[Halve], tmp_path: Path) -> None:
    unfinished = tmp_path / "checkpoints" / f"{UNFINISHED}1.json"
    unfinished.parent.mkdir()
    unfinished.write_text("1")
    with pytest.raises(Died):
        run(tmp_path, (Halve(fails=True),))
    assert unfinished.exists()

    run(tmp_path, (Halve(),))

    assert not unfinished.exists()
