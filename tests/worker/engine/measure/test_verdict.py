"""Every way a result can be good, bad, or not different."""

from dataclasses import replace

import pytest

from app.spec.evaluate import Limits, OutputLimits
from app.spec.figures import Distribution, MetricChange
from app.spec.report import LatencyChange, OutputParity, Size
from worker.engine.measure.intervals import share_interval
from worker.engine.measure.verdict import Figures, judge


def size(after: int, before: int = 1000) -> Size:
    """In kB."""
    return Size(before_bytes=1000 * before, after_bytes=1000 * after)


def top1(drop: float, low: float, high: float, before: float = 0.97) -> MetricChange:
    return MetricChange(
        metric="top1",
        before=before,
        after=before - drop,
        rows=450,
        resolution=1 / 450,
        drop=drop,
        drop_low=low,
        drop_high=high,
    )


def mse(before: float, after: float, low: float) -> MetricChange:
    return MetricChange(
        metric="mse",
        before=before,
        after=after,
        rows=450,
        drop=after - before,
        drop_low=low,
        drop_high=2 * (after - before) - low,
    )


def latency(speedup: float, low: float, high: float, batch: int = 1) -> LatencyChange:
    def taking(ms: float) -> Distribution:
        return Distribution(runs=200, mean_ms=ms, p50_ms=ms, p90_ms=ms, p99_ms=ms, quantiles_ms=(ms,) * 101)

    return LatencyChange(
        batch=batch,
        threads=1,
        before=taking(speedup),
        after=taking(1),
        speedup=speedup,
        speedup_low=low,
        speedup_high=high,
        load_average=(0, 0),
    )


def output(
    sqnr_db: float | None, agreement: float | None = None, rows: int = 450, name: str = "scores"
) -> OutputParity:
    low, high = share_interval(agreement, rows) if agreement is not None else (None, None)
    return OutputParity(
        output=name,
        rows=rows,
        sqnr_db=sqnr_db,
        sqnr_low_db=sqnr_db,
        cosine=1,
        max_abs=1,
        top1_agreement=agreement,
        agreement_low=low,
        agreement_high=high,
        answers=None if agreement is None else rows,
        independent_answers=None if agreement is None else rows,
    )


SAME_SPEED = latency(1.01, 0.98, 1.04)
FASTER = latency(2.0, 1.9, 2.1)
NO_DROP = top1(0.0, 0.0, 0.0)
NOISY_DROP = top1(0.002, -0.004, 0.009)
SMALL_DROP = top1(0.009, 0.002, 0.016)
LARGE_DROP = top1(0.03, 0.015, 0.045)
COLLAPSE = top1(0.4, 0.35, 0.45)

NOTHING = Figures(
    size=size(1000),
    metrics=(NO_DROP,),
    latency=(SAME_SPEED,),
    parity=(output(30, 0.99),),
    limits=Limits(),
    batches=(1,),
    judged="scores",
)
UNLABELLED = {"size": size(260), "metrics": ()}
AT_CHANCE = NO_DROP.model_copy(update={"before": 0.1, "after": 0.1, "chance": 0.11, "before_low": 0.08})

AGREEMENT = Limits(min_agreement=0.9)


def limits(name: str, **own: float) -> Limits:
    return Limits(outputs={name: OutputLimits(**own)})


INTEGERS = {"size": size(260), "metrics": (), "discrete": frozenset({"scores"})}

CASES = {
    "nothing differs": ("unchanged", {}),
    "one per cent smaller is metadata": ("unchanged", {"size": size(991)}),
    "one per cent larger is metadata": ("unchanged", {"size": size(1009)}),
    "a drop within the noise": ("unchanged", {"metrics": (NOISY_DROP,)}),
    "nothing measured but the size": ("unchanged", {"metrics": (), "latency": (), "parity": ()}),
    "smaller": ("improved", {"size": size(260)}),
    "faster": ("improved", {"latency": (FASTER,)}),
    "more accurate": ("improved", {"metrics": (top1(-0.03, -0.05, -0.01),)}),
    "smaller, a drop within the noise": ("improved", {"size": size(260), "metrics": (NOISY_DROP,)}),
    "smaller, less than a point lost": ("improved", {"size": size(260), "metrics": (SMALL_DROP,)}),
    "smaller, slightly slower": ("improved", {"size": size(260), "latency": (latency(0.95, 0.93, 0.97),)}),
    "hardly smaller, more slowed": ("regressed", {"size": size(986), "latency": (latency(0.93, 0.9, 0.97),)}),
    "hardly faster, more grown": ("regressed", {"size": size(1080), "latency": (latency(1.03, 1.01, 1.05),)}),
    "faster, slightly larger": ("improved", {"size": size(1050), "latency": (FASTER,)}),
    "faster at one batch, equal at another": ("improved", {"latency": (FASTER, latency(1, 0.9, 1.1, 16))}),
    "less than a point lost for nothing": ("regressed", {"metrics": (SMALL_DROP,)}),
    "slower": ("regressed", {"latency": (latency(0.95, 0.93, 0.97),)}),
    "two per cent larger is the export's": ("unchanged", {"size": size(10_190, 10_000)}),
    "a few kB larger is the export's": ("unchanged", {"size": size(28, 14)}),
    "many kB larger and beyond two per cent": ("regressed", {"size": size(10_210, 10_000)}),
    "a small file, far larger": ("regressed", {"size": size(31, 14)}),
    "larger": ("regressed", {"size": size(1050)}),
    "larger and slower": ("regressed", {"size": size(2000), "latency": (latency(0.5, 0.4, 0.6),)}),
    "smaller, points lost": ("regressed", {"size": size(260), "metrics": (LARGE_DROP,)}),
    "smaller, five times slower": ("regressed", {"size": size(260), "latency": (latency(0.2, 0.19, 0.21),)}),
    "faster, much larger": ("regressed", {"size": size(1500), "latency": (FASTER,)}),
    "faster here, much slower there": ("regressed", {"latency": (FASTER, latency(0.5, 0.4, 0.6, 16))}),
    "smaller, one of two metrics lost": ("regressed", {"size": size(260), "metrics": (NO_DROP, LARGE_DROP)}),
    "mse up a little for a gain": ("improved", {"size": size(260), "metrics": (mse(1.0, 1.04, 0.02),)}),
    "mse up by half": ("regressed", {"size": size(260), "metrics": (mse(1.0, 1.5, 0.3),)}),
    "mse tripled": ("unusable", {"size": size(260), "metrics": (mse(1.0, 3.0, 1.5),)}),
    "accuracy gone": ("unusable", {"size": size(260), "metrics": (COLLAPSE,)}),
    "not finite": ("unusable", {"size": size(260), "non_finite": 3}),
    "unlabelled, close": ("improved", {"size": size(260), "metrics": (), "parity": (output(25, 0.97),)}),
    "unlabelled, close by distance, other answers": ("regressed", {**UNLABELLED, "parity": (output(25, 0.7),)}),
    "unlabelled, far by distance, the same answers": ("improved", {**UNLABELLED, "parity": (output(8, 0.97),)}),
    "unlabelled, values close": ("improved", {**UNLABELLED, "parity": (output(25),)}),
    "unlabelled, values far": ("regressed", {**UNLABELLED, "parity": (output(8),)}),
    "unlabelled, few rows": ("unproven", {**UNLABELLED, "parity": (output(25, 1.0, rows=8),)}),
    "unlabelled, few rows of which one differs": ("unproven", {**UNLABELLED, "parity": (output(25, 7 / 8, rows=8),)}),
    "unlabelled, few rows, rounding": ("improved", {**UNLABELLED, "parity": (output(70, 1.0, rows=8),)}),
    "unlabelled, few rows, equal": ("improved", {**UNLABELLED, "parity": (output(None, 1.0, rows=8),)}),
    "one row of values": (
        "unproven",
        {**UNLABELLED, "parity": (output(25).model_copy(update={"sqnr_low_db": -300.0, "rows": 1}),)},
    ),
    "calibration rows": ("unproven", {**UNLABELLED, "row_source": "calibration"}),
    "calibration rows, equal": (
        "improved",
        {**UNLABELLED, "row_source": "calibration", "parity": (output(None, 1.0),)},
    ),
    "made-up rows": ("unproven", {**UNLABELLED, "row_source": "synthetic", "parity": (output(None, 1.0),)}),
    "a pure export on made-up rows": ("unchanged", {"metrics": (), "row_source": "synthetic", "exact": True}),
    "a pure export that is smaller": ("improved", {**UNLABELLED, "row_source": "synthetic", "exact": True}),
    "labelled, the other output ruined": (
        "unusable",
        {"size": size(260), "parity": (output(30, 0.99), output(-1, name="box"))},
    ),
    "labelled, the other output lost": (
        "regressed",
        {"size": size(260), "parity": (output(30, 0.99), output(2, name="box"))},
    ),
    "a drop that few rows leave open": ("unproven", {"size": size(260), "metrics": (top1(0.0, -0.3, 0.3),)}),
    "a drop beyond what is tolerated, within the noise": (
        "unproven",
        {"size": size(260), "metrics": (top1(0.03, -0.01, 0.045),)},
    ),
    "few labelled rows, equal outputs": (
        "improved",
        {"size": size(260), "metrics": (top1(0.0, -0.3, 0.3),), "parity": (output(None, 1.0),)},
    ),
    "labels at chance, other answers": (
        "regressed",
        {"size": size(260), "metrics": (AT_CHANCE,), "parity": (output(5, 0.7),)},
    ),
    "labels at chance, the same answers": (
        "improved",
        {"size": size(260), "metrics": (AT_CHANCE,), "parity": (output(25, 0.99),)},
    ),
    "another shape": ("unusable", {"size": size(260), "uncompared": ("boxes",)}),
    "as many boxes as it finds": ("unproven", {"size": size(260), "data_dependent": ("boxes",)}),
    "unlabelled, near the bound": ("unproven", {"size": size(260), "metrics": (), "parity": (output(8, 0.9),)}),
    "unlabelled, other answers": ("unusable", {"size": size(260), "metrics": (), "parity": (output(8, 0.3),)}),
    "unlabelled, noise": ("unusable", {"size": size(260), "metrics": (), "parity": (output(-1),)}),
    "unlabelled, equal": ("improved", {"size": size(260), "metrics": (), "parity": (output(None, 1.0),)}),
    "integers, equal": ("improved", {**INTEGERS, "parity": (output(None, 1.0),)}),
    "integers, one row far off": ("improved", {**INTEGERS, "parity": (output(3, 0.995),)}),
    "integers, some rows differ": ("regressed", {**INTEGERS, "parity": (output(40, 0.98),)}),
    "integers, most rows differ": ("unusable", {**INTEGERS, "parity": (output(40, 0.3),)}),
    "smaller, not compared": ("unproven", {"size": size(260), "metrics": (), "parity": ()}),
    "labels outweigh parity": ("improved", {"size": size(260), "parity": (output(5, 0.8),)}),
    "no gain by the labels, most answers others": ("unusable", {"size": size(260), "parity": (output(5, 0.4),)}),
    "a gain by the labels, most answers others": (
        "improved",
        {"size": size(260), "metrics": (top1(-0.5, -0.6, -0.4, 0.3),), "parity": (output(5, 0.4),)},
    ),
    "limit: drop": ("unusable", {"metrics": (LARGE_DROP,), "limits": Limits(max_drop={"top1": 0.01})}),
    "limit: more is allowed": (
        "improved",
        {"size": size(260), "metrics": (COLLAPSE,), "limits": Limits(max_drop={"top1": 0.5})},
    ),
    "limit: metric not measured": ("unusable", {"limits": Limits(max_drop={"top5": 0.5})}),
    "limit: size": ("unusable", {"size": size(400), "limits": Limits(max_size_ratio=0.3)}),
    "limit: size kept": ("improved", {"size": size(260), "limits": Limits(max_size_ratio=0.3)}),
    "limit: speed": ("unusable", {"latency": (FASTER,), "limits": Limits(min_speedup=3)}),
    "limit: slow is allowed": (
        "improved",
        {"size": size(260), "latency": (latency(0.2, 0.19, 0.21),), "limits": Limits(min_speedup=0.1)},
    ),
    "limit: speed at a batch that was not measured": (
        "unusable",
        {"latency": (FASTER,), "batches": (1, 16), "limits": Limits(min_speedup=1.5)},
    ),
    "limit: signal to noise": ("unusable", {"size": size(260), "limits": Limits(min_sqnr_db=31)}),
    "limit: signal to noise of equal outputs": (
        "improved",
        {"size": size(260), "parity": (output(None),), "limits": Limits(min_sqnr_db=90)},
    ),
    "limit: agreement": ("unusable", {"size": size(260), "limits": Limits(min_agreement=0.995)}),
    "limit: agreement of an output without answers": ("unusable", {"parity": (output(40),), "limits": AGREEMENT}),
    "limit: of one output": (
        "unusable",
        {"parity": (output(40, 0.99), output(20, name="box")), "limits": limits("box", min_sqnr_db=30)},
    ),
    "limit: of one output replaces that of all": (
        "improved",
        {
            "size": size(260),
            "parity": (output(40, 0.99), output(20, name="box")),
            "limits": limits("box", min_sqnr_db=15).model_copy(update={"min_sqnr_db": 30}),
        },
    ),
    "limit: of an output that was not compared": ("unusable", {"limits": limits("boxes", min_sqnr_db=15)}),
    "limit: signal to noise of nothing": ("unusable", {"parity": (), "limits": Limits(min_sqnr_db=1)}),
}


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: str) -> None:
    expected, changed = CASES[case]

    judgement = judge(replace(NOTHING, **changed))

    assert judgement.verdict == expected, judgement.reasons
    assert bool(judgement.missed_limits) == (case.startswith("limit") and expected == "unusable")
    assert judgement.reasons
    assert all(reason.endswith(".") and "  " not in reason for reason in judgement.reasons)


def test_reasons_are_sentences_with_figures() -> None:
    figures = replace(NOTHING, size=size(12_400, 44_700), metrics=(NOISY_DROP,), latency=(SAME_SPEED,))

    assert judge(figures).reasons == (
        "3.6 times smaller (44.7 MB -> 12.4 MB).",
        "top-1 97.0 % -> 96.8 %: a drop of 0.2 points, below what 450 rows can resolve reliably.",
        "Output 'scores' follows the original at 30.0 dB signal to noise, the same answer on 99.0% of 450 rows.",
        "No difference in speed shown: 1.01x (0.98 to 1.04).",
    )


def test_a_real_loss_is_given_with_its_interval() -> None:
    reasons = judge(replace(NOTHING, metrics=(LARGE_DROP,), latency=(latency(0.5, 0.45, 0.55, 16), FASTER))).reasons

    assert "top-1 97.0 % -> 94.0 %: a drop of 3.0 points (1.5 to 4.5) on 450 rows." in reasons
    assert "Slower at batch 16: 0.50x (0.45 to 0.55), p50 500 µs -> 1.00 ms." in reasons
    assert "Faster at batch 1: 2.00x (1.90 to 2.10), p50 2.00 ms -> 1.00 ms." in reasons


def test_a_loss_that_outweighs_a_gain_says_how_to_allow_it() -> None:
    slower = judge(replace(NOTHING, size=size(260), latency=(latency(0.2, 0.19, 0.21),)))
    worse = judge(replace(NOTHING, size=size(260), metrics=(LARGE_DROP,)))

    assert "min_speedup" in slower.reasons[-1]
    assert "max_drop" in worse.reasons[-1]


def test_missed_limits_name_what_was_asked_and_what_was_found() -> None:
    missed = judge(
        replace(
            NOTHING,
            size=size(400),
            metrics=(LARGE_DROP,),
            limits=Limits(max_drop={"top1": 0.01}, max_size_ratio=0.3, min_speedup=2, min_sqnr_db=40),
        )
    ).missed_limits

    assert missed == (
        "Limit missed: top1 lost 3.0 points, at most 1.0 points is allowed.",
        "Limit missed: the file has 0.4 times the original's size, at most 0.3 is allowed.",
        "Limit missed: 1.01x at batch 1, at least 2.00x is required.",
        "Limit missed: output 'scores' has 30.0 dB signal to noise, at least 40 dB is required.",
    )


def test_one_row_is_one_row() -> None:
    one = top1(1.0, -0.76, 1.0, before=1.0).model_copy(update={"rows": 1})

    judgement = judge(replace(NOTHING, metrics=(one,)))

    assert judgement.verdict == "unproven"
    assert "below what 1 row can resolve reliably." in judgement.reasons[1]


def test_a_slower_artifact_that_kept_its_answers_needs_no_advice_on_quality() -> None:
    slower = judge(replace(NOTHING, size=size(260), latency=(latency(0.2, 0.19, 0.21),)))
    worse = judge(replace(NOTHING, size=size(260), metrics=(LARGE_DROP,)))
    beside = judge(replace(NOTHING, size=size(260), parity=(output(30, 0.99), output(2, name="box"))))

    assert (slower.quality_kept, worse.quality_kept, beside.quality_kept) == (True, False, False)
    assert any("'box' follows the original at 2.0 dB" in reason for reason in beside.reasons)


def test_what_is_not_proven_says_how_many_rows_would_tell() -> None:
    few = judge(replace(NOTHING, size=size(260), metrics=(), parity=(output(25, 1.0, rows=8),)))
    seen = judge(replace(NOTHING, size=size(260), metrics=(), row_source="calibration"))

    assert few.reasons[-1].endswith("below 90% counts as a loss; about 35 rows would tell.")
    assert "`data.test`" in seen.reasons[-1]


def test_growth_that_is_no_loss_is_still_told() -> None:
    reasons = judge(replace(NOTHING, size=size(16, 14))).reasons

    assert reasons[0] == "Larger by 2 kB (14 kB -> 16 kB): no more than metadata explains."
