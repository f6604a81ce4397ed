"""Calibration rows are run once for everything that is declared, and what is declared does not change by that."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from app.spec.quantize import Observer, QuantizeStatic
from tests.support.engine.orders import changed, context, model_of, rows_of
from worker.engine.data.rows import Batch, Rows
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.passes import quantize_static
from worker.engine.quantization.statistics.collector import Collector
from worker.engine.quantization.statistics.extremes import ChannelExtremes, Extremes
from worker.engine.quantization.statistics.histogram import StreamedHistogram
from worker.engine.quantization.statistics.means import InputMean

ROWS = 40


class CountedRows(Rows):
    """Rows that say how many of them were read."""

    def batches(self, size: int) -> Iterator[Batch]:
        for inputs, labels in super().batches(size):
            self.read.append(len(inputs["image"]))
            yield inputs, labels

    def sample(self, count: int, seed: int) -> Rows:
        return self

    @property
    def read(self) -> list[int]:
        """Rows of each batch that was read."""
        return self.__dict__.setdefault("_read", [])


@pytest.fixture
def rows(tmp_path: Path) -> CountedRows:
    opened = rows_of(tmp_path, image=np.random.default_rng(0).standard_normal((ROWS, 1, 8, 8)).astype(np.float32))
    return CountedRows(opened.arrays, opened.preprocess, opened.indices)


@pytest.fixture
def corrected_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bias is corrected: choosing those that help reads a sample of the rows anew for each, after the pass."""
    monkeypatch.setattr(quantize_static, "better_with", lambda plan, *_: plan.input_means)


@pytest.mark.usefixtures("corrected_unseen")
@pytest.mark.parametrize("observer", ["minmax", "moving_average", "percentile", "entropy", "mse"])
def test_ranges_and_means_take_one_pass(
    observer: Observer, rows: CountedRows, digits_folder: Path, tmp_path: Path
) -> None:
    found = changed(QuantizeStatic(observer=observer), digits_folder / "digits.onnx", tmp_path, rows)

    probe, *passed = rows.read
    assert found.facts["corrected_biases"] > 0
    assert probe == 1, "the first row tells how large activations are"
    assert sum(passed) == ROWS


@pytest.mark.usefixtures("corrected_unseen")
def test_rescaling_takes_one_more(rows: CountedRows, digits_folder: Path, tmp_path: Path) -> None:
    changed(QuantizeStatic(equalize=True, smooth=True), digits_folder / "digits.onnx", tmp_path, rows)

    assert sum(rows.read) == 2 * (1 + ROWS)


def test_statistics_are_the_same_together_and_apart(rows: CountedRows, digits_folder: Path, tmp_path: Path) -> None:
    prepared = model_of(digits_folder / "digits.onnx", tmp_path).prepared
    graph = onnx.load(prepared).graph
    index = GraphIndex(graph)
    layer = [node for node in graph.node if node.op_type == "Conv"][1]
    value = layer.input[0]

    def collected(*, together: bool) -> tuple[Extremes, ChannelExtremes, StreamedHistogram, InputMean]:
        statistics = Extremes(), ChannelExtremes(1, 4), StreamedHistogram(), InputMean(index, layer)
        collectors = [Collector(prepared)] * 4 if together else [Collector(prepared) for _ in range(4)]
        for collector, statistic in zip(collectors, statistics, strict=True):
            collector.observe(value, statistic)
        for collector in dict.fromkeys(collectors):
            collector.run(rows, context(tmp_path))
        return statistics

    one, other = collected(together=True), collected(together=False)

    assert one[0].range() == other[0].range()
    assert np.array_equal(one[1].magnitude, other[1].magnitude)
    assert np.array_equal(one[2].finished().counts, other[2].finished().counts)
    assert np.array_equal(one[3].mean(), other[3].mean())


def test_nothing_declared_reads_no_row(rows: CountedRows, digits_folder: Path, tmp_path: Path) -> None:
    Collector(digits_folder / "digits.onnx").run(rows, context(tmp_path))

    assert not rows.read
