"""A step, target, kind of device, metric or observer of the contract has exactly one implementation."""

import ast

from app.spec.devices import DEVICES
from app.spec.metrics import METRICS
from app.spec.quantize import OBSERVERS
from app.spec.steps import STEPS
from app.spec.targets import TARGETS
from tests.support.root import ROOT
from worker.engine.devices import table as devices
from worker.engine.measure.metrics.table import ACCUMULATORS
from worker.engine.passes.table import PASSES
from worker.engine.quantization import observers
from worker.engine.targets.table import FORMATS


def test_every_step_has_a_pass() -> None:
    assert set(PASSES) == set(STEPS)


def test_every_target_has_a_format() -> None:
    assert set(FORMATS) == set(TARGETS)


def test_a_target_is_one_folder() -> None:
    for target, form in FORMATS.items():
        folder = f"worker.engine.targets.{target.kind()}"
        assert {form.deliver.__module__, form.reopen.__module__} == {f"{folder}.delivery"}
        assert form.compatibility.__module__ == f"{folder}.compatibility"


def test_every_kind_of_device_has_a_way_to_run() -> None:
    assert set(devices.DEVICES) == set(DEVICES)


def test_every_kind_of_metric_has_an_accumulator() -> None:
    assert set(ACCUMULATORS) == {type(metric) for metric in METRICS.values()}


def test_every_observer_has_a_class() -> None:
    assert set(observers.OBSERVERS) == set(OBSERVERS)


def test_no_other_file_names_a_metric() -> None:
    names = METRICS.keys() - OBSERVERS.keys()  # an observer and a loss of distillation are called mse, too
    naming = [
        str(path.relative_to(ROOT))
        for package in ("app", "worker")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Constant) and node.value in names and "metrics" not in path.parts
    ]

    assert naming == []
