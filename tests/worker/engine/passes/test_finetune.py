"""finetune: a damaged network recovers, a pruned one stays pruned."""

from pathlib import Path

import torch

from app.spec.finetune import FineTune
from examples import digits
from tests.support.engine.orders import model_of
from tests.support.engine.trainings import digits_model, digits_rows, top1, training_context
from worker.engine.passes.table import apply_step


def test_a_damaged_network_recovers(tmp_path: Path) -> None:
    network = digits.digits_cnn(seed=0, width=8).eval()
    context = training_context(tmp_path, {"train": digits_rows(tmp_path, slice(0, 1000))})
    test = digits_rows(tmp_path, slice(1000, None))
    fresh = digits_model(network, tmp_path)
    trained = apply_step(FineTune(epochs=4, learning_rate=0.005), fresh, context).model
    with torch.no_grad():
        torch.manual_seed(0)
        network.load_state_dict(trained.program.exported.state_dict)
        for weight in network.parameters():
            weight.add_(0.6 * weight.std(correction=0) * torch.randn_like(weight))
    damaged = digits_model(network, tmp_path)

    changed = apply_step(FineTune(epochs=4, learning_rate=0.002), damaged, context)

    assert top1(damaged, test) < 0.85
    assert top1(changed.model, test) > 0.93
    assert changed.facts["validation_top1"] > changed.facts["validation_top1_before"]
    assert changed.facts["train_rows"] == 900
    assert [chart.title for chart in changed.charts] == ["Loss", "Right answers on the validation rows"]
    assert len(changed.charts[0].x) == 5
    assert "% right answers (before: " in changed.summary
    assert top1(damaged, test) < 0.85, "the model that was given has changed"


def test_an_onnx_file_is_trained_as_the_program_that_it_becomes(digits_folder: Path, tmp_path: Path) -> None:
    context = training_context(tmp_path, {"train": digits_rows(tmp_path, slice(0, 100))})
    model = model_of(digits_folder / "digits.onnx", tmp_path)
    changed = apply_step(FineTune(epochs=1), model, context)

    before, after = (dict(one.program.graph_module().named_parameters()) for one in (model, changed.model))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
