"""Which output learns: on a network with two heads, and on one that classifies every token."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.spec.data import DatasetSpec
from app.spec.distill import Distill
from app.spec.finetune import FineTune
from app.spec.prune import PruneChannels
from app.spec.quantize_aware import QuantizeAware
from app.spec.signature import Signature, TensorSpec
from examples import digits
from tests.support.engine import zoo
from tests.support.engine.orders import data_file
from tests.support.engine.trainings import BATCH, SIGNATURE, digits_rows, training_context
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.model import Model, new_folder
from worker.engine.passes.table import apply_step
from worker.engine.torch_program.program import Program
from worker.engine.training.losses import ClassWeightsMismatch, TrainingLabelsOutOfRange, UnknownOutput
from worker.engine.training.teachers import TeacherMismatch

PLAN = {"epochs": 12, "batch": 16, "learning_rate": 0.01}


class TwoHeads(nn.Module):
    """Digits to scores of odd and even, [rows, 2], and of the ten digits, [rows, 10]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        *trunk, last = digits.digits_cnn(seed, width=4)
        self.trunk, self.digit = nn.Sequential(*trunk), last
        self.odd = nn.Linear(last.in_features, 2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shared = self.trunk(image)
        return self.odd(shared), self.digit(shared)


def two_heads(folder: Path, seed: int = 0, names: tuple[str, str] = ("odd", "digit")) -> Model:
    outputs = tuple(
        TensorSpec(name=name, dtype="float32", shape=(BATCH, size)) for name, size in zip(names, (2, 10), strict=True)
    )
    signature = SIGNATURE.model_copy(update={"outputs": outputs})
    program = Program(zoo.program(TwoHeads(seed), torch.zeros(2, 1, 8, 8)), signature)
    return Model(program, signature, new_folder(folder / "scratch"))


def right(model: Model, output: str, rows: Rows) -> float:
    inputs, labels = next(rows.batches(len(rows)))
    return float((model.program(inputs)[output].argmax(1) == (labels % 2 if output == "odd" else labels)).mean())


def finetuned(model: Model, rows: Rows, folder: Path, **step: object) -> Changed:
    return apply_step(FineTune.model_validate(PLAN | step), model, training_context(folder, {"train": rows}))


def odd_rows(folder: Path) -> Rows:
    """Digits labelled with 0 and 1."""
    images, numbers = digits.all_digits()
    np.savez(folder / "odd.npz", image=images[:300].astype(np.float32) / 255, y=numbers[:300] % 2)
    return Rows.open(folder, data_file("odd.npz", DatasetSpec()), ["image"])


def test_the_output_named_learns_the_labels(tmp_path: Path) -> None:
    rows, test = digits_rows(tmp_path, slice(0, 400)), digits_rows(tmp_path, slice(1000, None))

    changed = finetuned(two_heads(tmp_path), rows, tmp_path, output="digit")

    assert right(changed.model, "digit", test) > 0.8
    assert changed.facts["trained_output"] == "digit"
    assert changed.facts["validation_top1"] > 0.8
    assert "Output 'digit' was trained and chose the best epoch; 'odd' may have changed with it." in changed.notes
    before, after = (one.program.exported.state_dict for one in (two_heads(tmp_path), changed.model))
    assert torch.equal(before["odd.weight"], after["odd.weight"])


def test_left_out_the_first_that_fits_learns_and_its_classes_bound_the_labels(tmp_path: Path) -> None:
    changed = finetuned(two_heads(tmp_path), odd_rows(tmp_path), tmp_path)

    assert changed.facts["trained_output"] == "odd"
    assert right(changed.model, "odd", digits_rows(tmp_path, slice(1000, None))) > 0.8
    with pytest.raises(TrainingLabelsOutOfRange, match="the model has 2 classes"):
        finetuned(two_heads(tmp_path), digits_rows(tmp_path, slice(0, 50)), tmp_path)


def test_an_output_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownOutput, match="no output 'digits'; its outputs are 'odd', 'digit'"):
        finetuned(two_heads(tmp_path), digits_rows(tmp_path, slice(0, 50)), tmp_path, output="digits")


def test_every_head_learns_from_a_teachers(tmp_path: Path) -> None:
    """By their positions: the teacher has other names. One head alone leaves the other as it began."""
    unlabelled, test = digits_rows(tmp_path, slice(0, 400), labels=False), digits_rows(tmp_path, slice(1000, None))
    odd = finetuned(two_heads(tmp_path), odd_rows(tmp_path), tmp_path).model
    teacher = finetuned(odd, digits_rows(tmp_path, slice(0, 400)), tmp_path, output="digit").model
    wanted = teacher.program({"image": next(test.batches(len(test)))[0]["image"]})

    def agreement(outputs: object) -> tuple[float, float, Changed]:
        step = Distill.model_validate(PLAN | {"alpha": 1, "loss": "kd", "outputs": outputs})
        context = replace(training_context(tmp_path, {"train": unlabelled}), original=teacher)
        changed = apply_step(step, two_heads(tmp_path, seed=1, names=("parity", "number")), context)
        got = changed.model.program({"image": next(test.batches(len(test)))[0]["image"]})
        shares = [
            float((got[ours].argmax(1) == wanted[theirs].argmax(1)).mean())
            for ours, theirs in (("parity", "odd"), ("number", "digit"))
        ]
        return shares[0], shares[1], changed

    odd_all, digit_all, changed = agreement("all")
    odd_alone, digit_alone, _ = agreement(["number"])

    assert changed.facts["matched_outputs"] == "parity, number"
    assert min(odd_all, digit_all, digit_alone) > 0.75
    assert odd_alone < odd_all - 0.1
    with pytest.raises(TeacherMismatch, match="The student has no output 'digit'"):
        agreement(["digit"])


def test_quantization_aware_training_trains_the_output_named(tmp_path: Path) -> None:
    rows = digits_rows(tmp_path, slice(0, 400))
    model = finetuned(two_heads(tmp_path), rows, tmp_path, output="digit").model
    step = QuantizeAware(output="digit", epochs=2, distill="kd", outputs="all")

    changed = apply_step(step, model, training_context(tmp_path, {"train": rows}))

    assert changed.facts["trained_output"] == "digit"
    assert changed.facts["validation_top1"] > 0.8
    assert changed.facts["kernel_agreement"] > 0.99


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Model, Rows]:
    """Seven tokens of 8 values to scores of 5 classes for each, [rows, 7, 5], and rows that can be learned."""
    random = np.random.default_rng(0)
    values = random.standard_normal((400, 7, 8)).astype(np.float32)
    labels = (values @ random.standard_normal((8, 5))).argmax(2)
    np.savez(tmp_path / "tokens.npz", values=values, y=labels)
    signature = Signature(
        inputs=(TensorSpec(name="values", dtype="float32", shape=(BATCH, 7, 8)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=(BATCH, 7, 5)),),
    )
    torch.manual_seed(0)
    program = Program(zoo.program(nn.Linear(8, 5), torch.zeros(2, 7, 8)), signature)
    rows = Rows.open(tmp_path, data_file("tokens.npz", DatasetSpec()), ["values"])
    return Model(program, signature, new_folder(tmp_path / "scratch")), rows


def test_every_token_is_classified(tokens: tuple[Model, Rows], tmp_path: Path) -> None:
    model, rows = tokens
    changed = finetuned(model, rows, tmp_path, epochs=20, learning_rate=0.05, class_weights="balanced")

    inputs, labels = next(rows.batches(400))
    assert changed.facts["validation_top1"] > 0.9 > 0.4 > changed.facts["validation_top1_before"]
    assert float((changed.model.program(inputs)["scores"].argmax(2) == labels).mean()) > 0.9
    with pytest.raises(ClassWeightsMismatch, match="7 class weights and 5 classes"):
        finetuned(model, rows, tmp_path, class_weights=[1] * 7)


def test_tokens_learn_from_a_teacher(tokens: tuple[Model, Rows], tmp_path: Path) -> None:
    model, rows = tokens
    teacher = finetuned(model, rows, tmp_path, epochs=20, learning_rate=0.05).model
    step = Distill(loss="kd", alpha=1, epochs=20, learning_rate=0.05)

    changed = apply_step(step, model, replace(training_context(tmp_path, {"train": rows}), original=teacher))

    inputs, _ = next(rows.batches(400))
    answers = [one.program(inputs)["scores"].argmax(2) for one in (teacher, changed.model)]
    assert float((answers[0] == answers[1]).mean()) > 0.9


def test_a_criterion_that_needs_labels_takes_the_output_they_belong_to(tmp_path: Path) -> None:
    rows = digits_rows(tmp_path, slice(0, 64))
    context = training_context(tmp_path, {"train": rows})

    def pruned(**step: object) -> Changed:
        return apply_step(
            PruneChannels.model_validate({"criterion": "taylor", "round_to": 2, **step}), two_heads(tmp_path), context
        )

    assert pruned(output="digit").model.program.signature.outputs[1].name == "digit"
    with pytest.raises(TrainingLabelsOutOfRange):
        pruned(output="odd")
    with pytest.raises(UnknownOutput, match="'odd', 'digit'"):
        pruned(output="digits")


def test_a_training_that_makes_it_worse_says_so(tmp_path: Path) -> None:
    good = finetuned(two_heads(tmp_path), digits_rows(tmp_path, slice(0, 300)), tmp_path, output="digit")
    assert not any("No epoch was better" in note for note in good.notes)

    rows = digits_rows(tmp_path, slice(0, 300))
    worse = finetuned(good.model, rows, tmp_path, output="digit", epochs=1, learning_rate=5)

    assert any("No epoch was better" in note and "lower the learning rate" in note for note in worse.notes)
    before, after = good.model.program.exported.state_dict, worse.model.program.exported.state_dict
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
