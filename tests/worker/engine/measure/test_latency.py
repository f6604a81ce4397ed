"""Latency: what bounds it, what it reports, what stops it. No test depends on how fast this machine is."""

import gc
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from app.spec.evaluate import Latency
from app.spec.signature import Dimension, Signature, TensorSpec
from tests.support.engine.measured_models import conv_net, images, linear_net, signature
from worker.engine.measure.batching import BatchRange, SyntheticRows
from worker.engine.measure.errors import ModelRunFailed
from worker.engine.measure.latency import distribution, measure_latency
from worker.engine.measure.running import filled, paired, runner
from worker.engine.onnx_graph.sessions import session
from worker.engine.targets.onnx.runtime import OnnxRuntime
from worker.toolchains.turns import FEWEST_TURNS, take_turns


def test_runs_end_at_the_number_asked_for(tmp_path: Path) -> None:
    model = conv_net(tmp_path / "f.onnx")

    change = measure_latency(OnnxRuntime(model, model, 1, tmp_path), {"image": images(3)}, Latency(runs=21), seed=0)

    assert change.before.runs == change.after.runs == 21
    assert change.batch == 3
    assert change.threads == 1
    assert change.speedup_low <= change.speedup <= change.speedup_high
    assert change.speedup == pytest.approx(change.before.p50_ms / change.after.p50_ms)
    assert all(load >= 0 for load in change.load_average)
    assert gc.isenabled()


def test_the_budget_ends_it_but_never_before_a_few_runs(tmp_path: Path) -> None:
    slow = linear_net(tmp_path / "slow.onnx", layers=4, width=512)
    started = perf_counter()

    change = measure_latency(
        OnnxRuntime(slow, slow, 1, tmp_path), {"image": images(64)}, Latency(runs=10_000, budget_s=0.02), seed=0
    )

    assert FEWEST_TURNS <= change.before.runs < 10_000
    assert perf_counter() - started < 30


def timed(names: str, settings: Latency, seed: int) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """Two models that compute nothing and write their names down; what they wrote, and their times."""
    ran: list[str] = []
    once = tuple(lambda name=name: ran.append(name) for name in names)
    times = take_turns((once[0], once[1]), runs=settings.runs, budget_s=settings.budget_s, seed=seed)
    return "".join(ran), times


def test_models_take_turns_in_random_order_after_a_warm_up() -> None:
    turns = 30

    ran, times = timed("AB", Latency(runs=2 * turns, budget_s=600), seed=3)

    measured, warm_up = ran[-4 * turns :], ran[: -4 * turns]
    order = [measured[start : start + 4] for start in range(0, len(measured), 4)]
    assert set(order) == {"ABBA", "BAAB"}
    assert 5 < order.count("ABBA") < 25
    assert len(times[0]) == len(times[1]) == 2 * turns
    assert warm_up.count("A") == warm_up.count("B") >= 10, "two windows at least, before anything settles"


def test_another_seed_is_another_order() -> None:
    orders = [timed("AB", Latency(runs=60), seed)[0][-120:] for seed in (1, 2)]

    assert orders[0] != orders[1]


def test_distribution_is_ordered_and_in_milliseconds() -> None:
    times = np.arange(1, 1001) * 1e6

    summary = distribution(times)

    assert summary.runs == 1000
    assert summary.p50_ms == pytest.approx(500.5)
    assert summary.p90_ms == summary.quantiles_ms[90]
    assert summary.quantiles_ms[0] == 1
    assert summary.quantiles_ms[100] == 1000
    assert list(summary.quantiles_ms) == sorted(summary.quantiles_ms)


def test_wrong_rows_are_a_documented_error(tmp_path: Path) -> None:
    model = conv_net(tmp_path / "f.onnx")
    runtime = OnnxRuntime(model, model, 1, tmp_path)

    with pytest.raises(ModelRunFailed, match="no array for input 'image'"):
        measure_latency(runtime, {"picture": images(1)}, Latency(), seed=0)
    with pytest.raises(ModelRunFailed) as caught:
        measure_latency(runtime, {"image": np.zeros((1, 2, 3), np.float32)}, Latency(), seed=0)
    assert str(tmp_path) not in caught.value.detail
    with pytest.raises(ModelRunFailed):
        runner(session(model, 1))({"image": np.zeros((1, 1, 8, 8), np.float64)})


def test_batches_are_filled_up_and_cut() -> None:
    seen: list[int] = []

    def double(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(len(feeds["x"]))
        return {"y": 2 * feeds["x"], "whole": np.array(7.0)}

    batches = [({"x": np.arange(4.0)}, None), ({"x": np.arange(3.0)}, None)]
    pairs = list(paired(double, double, iter(batches), 4))

    assert seen == [4, 4, 4, 4]
    assert pairs[1].after["y"].tolist() == [0, 2, 4]
    assert pairs[1].after["whole"] == 7
    assert filled({"x": np.arange(3)}, 7)["x"].tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("batch", "inside", "nearest", "words"),
    [
        (8, [8], {1: 8, 32: 8}, "fixed at 8"),
        (Dimension(name="b", min=2, max=16), [2, 16], {1: 2, 32: 16, 5: 5}, "from 2 to 16"),
        (Dimension(name="b"), [1, 4096], {1: 1, 32: 32}, "from 1 to"),
    ],
)
def test_batch_range(batch: int | Dimension, inside: list[int], nearest: dict[int, int], words: str) -> None:
    found = BatchRange.of(signature(batch))

    assert all(size in found for size in inside)
    assert 0 not in found
    assert {asked: found.nearest(asked) for asked in nearest} == nearest
    assert str(found).startswith(words)


def test_made_up_rows_follow_the_signature() -> None:
    wanted = Signature(
        inputs=(
            TensorSpec(name="ids", dtype="int64", shape=(Dimension(name="b"), Dimension(name="t", max=12))),
            TensorSpec(name="mask", dtype="bool", shape=(Dimension(name="b"), 12)),
            TensorSpec(name="pixels", dtype="uint8", shape=(Dimension(name="b"), 4, 4)),
            TensorSpec(name="half", dtype="float16", shape=(Dimension(name="b"), Dimension(name="w"))),
        ),
        outputs=(),
    )
    rows = SyntheticRows(wanted, seed=0)

    batches = list(rows.batches(40))
    again = list(rows.batches(40))

    assert [len(feeds["ids"]) for feeds, _ in batches] == [40, 24]
    assert all(labels is None for _, labels in batches)
    first = batches[0][0]
    assert {name: (array.dtype.name, array.shape[1:]) for name, array in first.items()} == {
        "ids": ("int64", (12,)),
        "mask": ("bool", (12,)),
        "pixels": ("uint8", (4, 4)),
        "half": ("float16", (16,)),
    }
    assert set(np.unique(first["ids"])) <= {0, 1}
    assert np.array_equal(first["half"], again[0][0]["half"])
