"""What is said about a model before any job."""

from pathlib import Path

import pytest

from app.spec.inspection import Inspection, InspectionOrder
from tests.support.engine.orders import signature_of, upload
from worker.engine.inspect import STEPS, inspect
from worker.engine.progress import Unheard


def inspected(folder: Path, name: str, directory: Path) -> Inspection:
    (directory / name).write_bytes((folder / name).read_bytes())
    signature = signature_of(folder / "digits.onnx")
    order = InspectionOrder(model=upload(directory, name, signature), threads=1)
    return inspect(order, directory, Unheard())


@pytest.fixture
def program(digits_folder: Path, tmp_path: Path) -> Inspection:
    return inspected(digits_folder, "digits.pt2", tmp_path)


def test_a_program_is_told_by_its_groups(program: Inspection) -> None:
    assert program.parameters == 160_074
    assert program.macs == 64 * 32 * 9 + 64 * 32 * 64 * 9 + 16 * 64 * 128 * 9 + 512 * 128 + 128 * 10
    assert [(group.name, group.channels) for group in program.groups] == [("0", 32), ("3", 64), ("7", 128), ("12", 128)]
    assert program.groups[3].parameters == 512 * 128 + 128 + 128 * 10
    assert program.operators["aten.conv2d.default"] == 3
    assert program.frozen_operators == {}
    assert set(program.steps) == {step.kind() for step in STEPS}
    assert all(outlook.applicable for outlook in program.steps.values())
    assert "4 groups of channels; without half of each, 75% of" in program.steps["prune.channels"].says
    assert "rows in the role calibration" in program.steps["quantize.static"].says


def test_an_onnx_file_costs_the_same_and_has_the_same_groups(
    program: Inspection, digits_folder: Path, tmp_path: Path
) -> None:
    found = inspected(digits_folder, "digits.onnx", tmp_path)

    assert found.macs == program.macs
    assert found.operators["Conv"] == 3
    assert [group.channels for group in found.groups] == [group.channels for group in program.groups]
    assert found.not_imported == ""
    assert found.steps["prune.channels"].applicable
    assert found.steps["quantize.dynamic"].applicable
