"""The rows that the toys take: all that a step, a metric, an observer and a target need beside their own files."""

from collections.abc import Iterator

import pytest

from app.spec import quantize
from app.spec.metrics import METRICS
from app.spec.steps import STEPS
from app.spec.targets import TARGETS
from tests.extending.toy_metric import AnswersByClass, BalancedAccuracy
from tests.extending.toy_observer import HalfOfTheExtremes
from tests.extending.toy_step import RoundWeights, round_weights
from tests.extending.toy_target import GZIP, GzipTarget
from tests.support.api import base_url, client, components, dataset_id, model_id, settings
from worker.engine.measure.metrics.table import ACCUMULATORS
from worker.engine.passes.table import PASSES
from worker.engine.quantization import observers
from worker.engine.targets.table import FORMATS

__all__ = ["base_url", "client", "components", "dataset_id", "model_id", "settings"]


@pytest.fixture(autouse=True)
def with_toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tables with a row for each toy, as long as a test lasts."""
    STEPS.append(RoundWeights)
    monkeypatch.setitem(PASSES, RoundWeights, round_weights)

    monkeypatch.setitem(METRICS, BalancedAccuracy.name, BalancedAccuracy())
    monkeypatch.setitem(ACCUMULATORS, BalancedAccuracy, AnswersByClass)

    monkeypatch.setitem(quantize.OBSERVERS, "half", "half of it")
    monkeypatch.setitem(observers.OBSERVERS, "half", HalfOfTheExtremes)

    TARGETS.append(GzipTarget)
    monkeypatch.setitem(FORMATS, GzipTarget, GZIP)

    yield

    STEPS.remove(RoundWeights)
    TARGETS.remove(GzipTarget)
