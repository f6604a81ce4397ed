"""A step, target, kind of device, metric or observer of the contract has exactly one implementation."""

from app.spec.devices import DEVICES
from app.spec.metrics import METRICS
from app.spec.quantize import OBSERVERS
from app.spec.steps import STEPS
from app.spec.targets import TARGETS
from worker.engine.devices import table as devices
from worker.engine.measure.metrics.table import ACCUMULATORS
from worker.engine.passes.table import PASSES
from worker.engine.quantization import observers
from worker.engine.targets.table import FORMATS


def test_every_step_has_a_pass() -> None:
    assert set(PASSES) == set(STEPS)


def test_every_target_has_a_format() -> None:
    assert set(FORMATS) == set(TARGETS)


def test_every_kind_of_device_has_a_way_to_run() -> None:
    assert set(devices.DEVICES) == set(DEVICES)


def test_every_kind_of_metric_has_an_accumulator() -> None:
    assert set(ACCUMULATORS) == {type(metric) for metric in METRICS.values()}


def test_every_observer_has_a_class() -> None:
    assert set(observers.OBSERVERS) == set(OBSERVERS)
