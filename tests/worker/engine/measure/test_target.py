"""A whole measurement on real models: float against int8, against itself, against worse copies of itself."""

from pathlib import Path

import numpy as np
import pytest

from app.spec.evaluate import Evaluate, Latency, Limits
from app.spec.report import TargetReport
from app.spec.signature import Signature
from app.spec.targets import OnnxTarget
from tests.support.engine.measured_models import (
    FakeRows,
    conv_net,
    dynamic_int8,
    images,
    linear_net,
    signature,
    static_int8,
    with_scaled_weights,
)
from worker.engine.measure import measure_target
from worker.engine.measure.comparison import Comparison, choose_rows
from worker.engine.measure.host import Host
from worker.engine.measure.running import runner
from worker.engine.onnx_graph.sessions import session
from worker.engine.progress import Unheard
from worker.engine.targets.onnx.runtime import OnnxRuntime

ROWS = 300


class Fractions(Unheard):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def advance(self, fraction: float, message: str = "") -> None:
        self.seen.append(fraction)


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conv_net(tmp_path_factory.mktemp("float") / "original.onnx")


@pytest.fixture(scope="module")
def int8_model(float_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return static_int8(float_model, tmp_path_factory.mktemp("int8") / "model.onnx", images(128, seed=1))


@pytest.fixture(scope="module")
def labelled(float_model: Path) -> FakeRows:
    """Rows whose label is the float model's answer: it is right on every one of them."""
    pictures = images(ROWS)
    scores = runner(session(float_model, 1))({"image": pictures})["scores"]
    return FakeRows({"image": pictures}, scores.argmax(axis=1))


def measured(
    baseline: Path,
    artifact: Path,
    scratch: Path,
    *,
    test: FakeRows | None = None,
    calibration: FakeRows | None = None,
    evaluate: Evaluate | None = None,
    shape: Signature | None = None,
    **changed: object,
) -> TargetReport:
    rows, source = choose_rows(test, calibration, shape or signature(), 0)
    return measure_target(
        Comparison(
            **{
                "target": OnnxTarget(),
                "runtime": OnnxRuntime(baseline, artifact, 1, scratch),
                "artifact": artifact,
                "baseline": baseline,
                "rows": rows,
                "row_source": source,
                "evaluate": evaluate or Evaluate(latency=Latency(runs=60)),
                "signature": shape or signature(),
                "threads": 1,
                "seed": 0,
                "progress": Unheard(),
                "host": Host("x86_64", 2),
            }
            | changed
        )
    )


def test_int8_against_float(float_model: Path, int8_model: Path, labelled: FakeRows, tmp_path: Path) -> None:
    report = measured(float_model, int8_model, tmp_path, test=labelled)

    assert report.size.ratio < 0.6
    assert any("smaller" in reason for reason in report.reasons)
    (top1,) = report.metrics
    assert top1.before == 1.0
    assert 0.8 < top1.after < 1.0, "random weights have narrow margins: some answers must change"
    assert top1.resolution == pytest.approx(1 / ROWS)
    assert top1.drop_low <= top1.drop <= top1.drop_high
    (scores,) = report.parity
    assert scores.output == "scores"
    assert 20 < scores.sqnr_db < 50
    assert scores.top1_agreement == pytest.approx(top1.after)
    assert report.parity_data == "test"
    assert report.placement.integer == 3
    assert report.placement.floating == 0
    assert [layer.name for layer in report.layers] == ["/conv1", "/conv2", "/add", "/head"]
    assert all(layer.sqnr_db is not None and 20 < layer.sqnr_db < 60 for layer in report.layers)
    assert list(tmp_path.iterdir()) == [], "nothing is left in the scratch folder"
    assert TargetReport.model_validate_json(report.model_dump_json()) == report


def test_a_model_against_itself_is_unchanged(float_model: Path, labelled: FakeRows, tmp_path: Path) -> None:
    report = measured(float_model, float_model, tmp_path, test=labelled)

    assert report.verdict == "unchanged"
    assert report.parity[0].sqnr_db is None
    assert report.parity[0].max_abs == 0
    assert report.metrics[0].drop == 0
    assert report.metrics[0].drop_low < 0 < report.metrics[0].drop_high, "no flipped row is no proof"
    assert report.latency[0].speedup_low < 1 < report.latency[0].speedup_high
    assert all(layer.sqnr_db is None for layer in report.layers)


def test_ten_times_the_work_is_slower_beyond_the_noise(tmp_path: Path) -> None:
    small = linear_net(tmp_path / "small.onnx", layers=1, width=512)
    large = linear_net(tmp_path / "large.onnx", layers=30, width=512)

    report = measured(small, large, tmp_path)

    assert report.latency[0].speedup_high < 0.5
    assert report.verdict in {"regressed", "unusable"}
    assert any(reason.startswith("Slower") for reason in report.reasons)
    assert report.parity_data == "synthetic"
    assert any("made-up rows" in note for note in report.notes)


def test_a_broken_copy_is_unusable(float_model: Path, labelled: FakeRows, tmp_path: Path) -> None:
    negated = with_scaled_weights(float_model, tmp_path / "negated.onnx", {"w3": -1.0})

    report = measured(float_model, negated, tmp_path, test=labelled)

    assert report.verdict == "unusable"
    assert report.metrics[0].drop_low > 0.5
    assert any("collapsed" in reason for reason in report.reasons)


def test_a_copy_that_overflows_is_unusable(float_model: Path, labelled: FakeRows, tmp_path: Path) -> None:
    infinite = with_scaled_weights(float_model, tmp_path / "infinite.onnx", {"w3": float("inf")})

    report = measured(float_model, infinite, tmp_path, test=labelled)

    assert report.verdict == "unusable"
    assert report.parity[0].non_finite > 0
    assert "NaN or infinite" in report.reasons[0]


def test_the_source_program_is_the_reference(float_model: Path, labelled: FakeRows, tmp_path: Path) -> None:
    run = runner(session(float_model, 1))

    def shifted(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array + 1 for name, array in run(feeds).items()}

    report = measured(float_model, float_model, tmp_path, test=labelled, reference=shifted)

    assert report.parity[0].max_abs == pytest.approx(1, rel=1e-4)
    assert report.metrics[0].before == 1.0


def test_without_labels_metrics_are_noted_as_missing(float_model: Path, int8_model: Path, tmp_path: Path) -> None:
    report = measured(float_model, int8_model, tmp_path, test=FakeRows({"image": images(40)}))

    assert report.metrics == ()
    assert any(note.startswith("top1: not measured") for note in report.notes)
    assert report.parity[0].rows == 40
    assert any("same answer on" in reason for reason in report.reasons)


def test_labels_that_fit_no_metric_cost_the_metric_and_not_the_result(
    float_model: Path, int8_model: Path, tmp_path: Path
) -> None:
    test = FakeRows({"image": images(40)}, np.linspace(0, 1, 40, dtype=np.float32))
    limited = Evaluate(limits=Limits(max_drop={"top1": 0.01}), latency=Latency(runs=20))

    report = measured(float_model, int8_model, tmp_path, test=test)
    demanded = measured(float_model, int8_model, tmp_path, test=test, evaluate=limited)

    assert report.metrics == ()
    assert "top1: not measured, the labels are float32; classes are numbered with integers." in report.notes
    assert any("same answer on" in reason for reason in report.reasons), "outputs are judged instead"
    assert report.missed_limits == ()
    assert demanded.missed_limits == ("Limit missed: top1 may lose at most 1.0 points, but was not measured.",)


def test_calibration_rows_serve_where_there_is_no_test_data(float_model: Path, tmp_path: Path) -> None:
    labels_to_ignore = np.zeros(20, np.int64)

    report = measured(float_model, float_model, tmp_path, calibration=FakeRows({"image": images(20)}, labels_to_ignore))

    assert report.parity_data == "calibration"
    assert report.parity[0].rows == 20
    assert report.metrics == (), "rows the quantizer has seen do not judge it"


def test_a_missed_limit_is_unusable_and_named(
    float_model: Path, int8_model: Path, labelled: FakeRows, tmp_path: Path
) -> None:
    strict = Evaluate(limits=Limits(min_sqnr_db=90, max_size_ratio=0.01), latency=Latency(runs=20))

    report = measured(float_model, int8_model, tmp_path, test=labelled, evaluate=strict)

    assert report.verdict == "unusable"
    assert len(report.missed_limits) == 2
    assert all(sentence in report.reasons for sentence in report.missed_limits)


def test_a_fixed_batch_is_filled_and_cut(tmp_path: Path) -> None:
    fixed = conv_net(tmp_path / "fixed.onnx", batch=4)
    asked = Evaluate(latency=Latency(batch=(1, 4, 16), runs=20))

    report = measured(
        fixed, fixed, tmp_path, test=FakeRows({"image": images(10)}), evaluate=asked, shape=signature(batch=4)
    )

    assert report.parity[0].rows == 10
    assert [change.batch for change in report.latency] == [4]
    assert [note for note in report.notes if "Latency" in note] == [
        "Latency at batch 1 was not measured: the model's batch is fixed at 4.",
        "Latency at batch 16 was not measured: the model's batch is fixed at 4.",
    ]


def test_no_more_threads_than_cores(float_model: Path, tmp_path: Path) -> None:
    asked = Evaluate(latency=Latency(threads=256, runs=20))
    rows = FakeRows({"image": images(8)})

    capped = measured(float_model, float_model, tmp_path, test=rows, evaluate=asked, host=Host("x86_64", 1))
    single = measured(float_model, float_model, tmp_path, test=rows)

    assert [change.threads for change in capped.latency] == [1]
    assert "Latency was measured on 1 thread: 256 were asked for, this worker has no more." in capped.notes
    assert not any("thread" in note for note in single.notes)


def test_dynamic_quantization_of_products(tmp_path: Path) -> None:
    original = linear_net(tmp_path / "linear.onnx", layers=2)
    artifact = dynamic_int8(original, tmp_path / "dynamic.onnx")

    report = measured(original, artifact, tmp_path, test=FakeRows({"image": images(30)}))

    assert report.placement.integer == 4
    assert report.placement.floating == 0
    assert [layer.name for layer in report.layers] == ["/in", "/layer0", "/layer1", "/out"]
    assert all(layer.sqnr_db is not None and layer.sqnr_db > 10 for layer in report.layers)


def test_progress_never_goes_back(float_model: Path, labelled: FakeRows, tmp_path: Path) -> None:
    heard = Fractions()

    measured(float_model, float_model, tmp_path, test=labelled, progress=heard)

    assert heard.seen == sorted(heard.seen)
    assert heard.seen[-1] == 1.0
    assert len(heard.seen) > 10


@pytest.mark.parametrize(
    ("architecture", "profile", "timed"),
    [
        ("x86_64", "x86", True),
        ("AMD64", "x86-legacy", True),
        ("x86_64", "arm", False),
        ("arm64", "arm", True),
        ("aarch64", "arm", True),
        ("aarch64", "x86", False),
        ("x86_64", "tensorrt", False),
        ("aarch64", "tensorrt", False),
    ],
)
def test_speed_is_measured_only_where_it_is_the_targets(architecture: str, profile: str, *, timed: bool) -> None:
    assert Host(architecture, 2).represents(OnnxTarget(profile=profile)) is timed


@pytest.mark.parametrize("profile", ["arm", "tensorrt"])
def test_a_target_this_machine_is_not_is_not_judged_by_its_speed(profile: str, tmp_path: Path) -> None:
    small = linear_net(tmp_path / "small.onnx", layers=1, width=512)
    slower = linear_net(tmp_path / "slower.onnx", layers=3, width=512)
    limited = Evaluate(limits=Limits(min_speedup=1.5))

    report = measured(
        slower,
        small,
        tmp_path,
        target=OnnxTarget(profile=profile),
        host=Host("x86_64", 2),
        evaluate=limited,
        test=FakeRows({"image": images(8)}),
    )

    assert report.latency == ()
    assert any(f"not what onnx/{profile} is for" in note for note in report.notes)
    assert not any("aster" in reason or "lower" in reason for reason in report.reasons)
    (missed,) = report.missed_limits
    assert f"1.50x is required, but speed on onnx/{profile} cannot be measured on this machine" in missed
    assert report.parity, "what does not depend on the machine is measured"


def test_a_foreign_target_can_improve_without_speed(float_model: Path, int8_model: Path, tmp_path: Path) -> None:
    report = measured(
        float_model, int8_model, tmp_path, target=OnnxTarget(profile="tensorrt"), test=FakeRows({"image": images(40)})
    )

    assert report.verdict == "improved"
    assert report.missed_limits == ()
    assert report.placement.integer == 3
