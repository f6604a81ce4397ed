"""quantize.aware: what was trained is what runs, in few bits, and hardly worse than in 32."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from app.spec.quantize_aware import QuantizeAware
from app.spec.signature import Dimension, Signature, TensorSpec
from app.spec.targets import OnnxTarget
from examples import digits
from tests.support.engine import zoo
from tests.support.engine.orders import executed, lowered, model_of, outputs_of, rows_of
from tests.support.engine.trainings import digits_model, digits_rows, top1, training_context
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.model import Model, new_folder
from worker.engine.passes.table import apply_step
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.torch_program.program import Program

BATCH = Dimension(name="batch", min=1, max=4096)


@pytest.fixture(scope="module")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return digits_model(digits.train_digits_cnn(seed=0), tmp_path_factory.mktemp("digits"))


def aware(model: Model, rows: Rows, folder: Path, step: QuantizeAware, *profiles: str) -> Changed:
    context = training_context(folder, {"train": rows})
    targets = tuple(OnnxTarget(profile=profile) for profile in profiles)
    return apply_step(step, model, type(context)(**{**vars(context), "targets": targets}))


def right_answers(file: Path, rows: Rows) -> float:
    inputs, labels = next(rows.batches(len(rows)))
    return float((outputs_of(file, inputs)[0].argmax(1) == labels).mean())


def weights_of(file: Path) -> dict[str, np.ndarray]:
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
    return {name: array for name, array in stored.items() if name.endswith("_quantized") and array.dtype == np.int8}


@pytest.mark.parametrize(
    ("weights", "activations", "size", "drop"),
    [
        ("int4", "int8", 0.17, 0.005),
        ("int4", "int4", 0.17, 0.005),
        ("int3", "int8", 0.14, 0.005),
        ("int2", "int8", 0.10, 0.012),
    ],
)
def test_digits_in_few_bits(weights, activations, size, drop, trained_digits: Model, tmp_path: Path) -> None:
    test = digits_rows(tmp_path, slice(1000, None))
    step = QuantizeAware(weights=weights, activations=activations, epochs=3)

    changed = aware(trained_digits, digits_rows(tmp_path, slice(0, 1000)), tmp_path, step)
    file = lowered(changed.model, "x86", tmp_path)

    assert right_answers(file, test) >= top1(trained_digits, test) - drop
    assert file.stat().st_size < size * trained_digits.graph.stat().st_size
    operators = executed(file, tmp_path)
    assert (operators["QLinearConv"], operators["QGemm"], operators["Conv"] + operators["Gemm"]) == (3, 2, 0)
    assert changed.facts["kernel_agreement"] == 1.0
    assert changed.facts["folded_batch_norms"] == 3
    assert changed.charts[0].title == "Loss"
    assert [row[2] for row in changed.tables[0].rows] == [
        "-127 ... 127",
        *3 * [{"int4": "-8 ... 7", "int3": "-4 ... 3", "int2": "-2 ... 1"}[weights]],
        "-127 ... 127",
    ]
    assert changed.tables[0].rows[1][4] == {"int8": "0 ... 255", "int4": "0 ... 15"}[activations]


def mixed_data(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Ten patterns in noise."""
    patterns = np.random.default_rng(0).standard_normal((10, 3, 16, 16))
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, rows)
    noise = random.standard_normal((rows, 3, 16, 16))
    return {"image": (0.3 * patterns[labels] + noise).astype(np.float32), "y": labels}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Model:
    signature = Signature(
        inputs=(TensorSpec(name="image", dtype="float32", shape=(BATCH, 3, 16, 16)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=(BATCH, 10)),),
    )
    program = Program(zoo.program(zoo.Mixed(), torch.zeros(2, 3, 16, 16)), signature)
    return Model(program, signature, new_folder(tmp_path_factory.mktemp("mixed")))


@pytest.mark.parametrize("bits", [("int8", "int8"), ("int3", "int4")])
def test_integer_kernels_give_the_trained_answers(bits, mixed: Model, tmp_path: Path) -> None:
    """Additions, depthwise convolutions, concatenations, clamps and pooling are trained as they will run."""
    rows, unseen = rows_of(tmp_path, **mixed_data(600, 1)), mixed_data(500, 2)
    step = QuantizeAware(weights=bits[0], activations=bits[1], epochs=1)

    changed = aware(mixed, rows, tmp_path, step, "x86", "x86-legacy")
    files = {profile: lowered(changed.model, profile, tmp_path) for profile in ("x86", "x86-legacy", "arm")}
    operators = executed(files["x86"], tmp_path)

    assert changed.facts["kernel_agreement"] >= 0.98
    assert (operators["QLinearConv"], operators["QLinearAdd"], operators["QLinearConcat"]) == (5, 1, 1)
    assert operators["Conv"] + operators["FusedConv"] + operators["Gemm"] + operators["AveragePool"] == 0
    answers = {profile: outputs_of(file, {"image": unseen["image"]})[0] for profile, file in files.items()}
    for other in ("x86-legacy", "arm"):
        assert np.mean(answers[other].argmax(1) == answers["x86"].argmax(1)) > 0.98
    assert max(np.abs(one.astype(int)).max() for one in weights_of(files["x86"]).values()) <= 64


def test_an_onnx_file_is_trained_as_the_program_that_it_becomes(digits_folder: Path, tmp_path: Path) -> None:
    rows = digits_rows(tmp_path, slice(0, 200))
    step = QuantizeAware(epochs=1)
    changed = aware(model_of(digits_folder / "digits.onnx", tmp_path), rows, tmp_path, step)

    assert executed(lowered(changed.model, "x86", tmp_path), tmp_path)["QLinearConv"] == 3


def test_nothing_to_quantize(trained_digits: Model, tmp_path: Path) -> None:
    rows = digits_rows(tmp_path, slice(0, 10))
    with pytest.raises(NothingToQuantize):
        aware(trained_digits, rows, tmp_path, QuantizeAware(skip={"operators": ("Conv", "Gemm")}))
