"""Every way of measuring works on something tiny; how long anything takes is nobody's concern here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import torch

from app.spec.evaluate import Latency
from bench import calibration, digits, passes, quantizer, requests, resnet50, streaming, upload
from bench.harness.client import Refused, connected
from bench.harness.npz_stream import NpzStream
from bench.harness.service import Service, alone, embedded
from examples.digits import export_onnx, save_dataset
from tests.support.stack.missing import ServerMissing, skip_or_fail
from tests.support.stack.redis import RedisServer

pytestmark = pytest.mark.extended  # all of them: each measures something for seconds

PLAN = Latency(runs=20, budget_s=2)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits' architecture with random weights: three convolutions."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(1024, 10),
    )
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    export_onnx(model.eval(), path)
    return path


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).random((6, 1, 8, 8), np.float32)


@contextmanager
def api(folder: Path) -> Iterator[Service]:
    try:
        RedisServer(folder).stop()
    except ServerMissing as missing:
        skip_or_fail(missing)
    with alone(folder) as service:
        yield service


def test_both_quantizers_are_compared_on_the_same_rows(network: Path, rows: np.ndarray, tmp_path: Path) -> None:
    figures = {one.name: one for one in quantizer.compared("net", network, rows, rows + 0.01, tmp_path, PLAN)}

    assert 0.5 < figures["net: size, Pare / ONNX Runtime"].value < 1.5
    assert figures["net: signal to noise, Pare"].value > 20
    assert figures["net: signal to noise, ONNX Runtime"].value > 20
    (required,) = [one for one in figures.values() if one.bound is not None]
    assert required.name.startswith("net: latency, Pare / fastest of ONNX Runtime (")
    ways = {name: one for name, one in figures.items() if name.startswith("net: latency, Pare / Q")}
    assert len(ways) == len(quantizer.WAYS) == 12
    fastest = required.name.partition("(")[2].removesuffix(")")
    assert ways[f"net: latency, Pare / {fastest}"].value == required.value


def test_every_way_of_the_library_is_another_graph(network: Path, rows: np.ndarray, tmp_path: Path) -> None:
    """Formats, types and scales are what their names say."""
    prepared, ranges = quantizer.calibrated(network, rows, tmp_path)
    types = {"u8": onnx.TensorProto.UINT8, "s8": onnx.TensorProto.INT8}
    for way in quantizer.WAYS:
        graph = onnx.load(quantizer.by_library(prepared, ranges, way, tmp_path)).graph
        operators = {node.op_type for node in graph.node}
        assert ("QLinearConv" in operators, "Conv" in operators) == (way.form == "QOperator", way.form == "QDQ"), way
        weights = [one for one in graph.initializer if one.name.endswith("_quantized") and len(one.dims) == 4]
        assert {one.data_type for one in weights} == {types[way.types[2:]]}, way
        channels = weights[0].dims[0]
        scales = [one for one in graph.initializer if one.name == weights[0].name.replace("_quantized", "_scale")]
        assert [np.prod(one.dims, dtype=int) for one in scales] == [channels if way.per_channel else 1], way
        codes = np.abs(onnx.numpy_helper.to_array(weights[0]).astype(int)).max()
        assert (codes <= 64) == way.reduce_range, way


@pytest.mark.parametrize("who", ["pare", "library"])
def test_calibration_reports_the_memory_of_a_fresh_process(
    who: str, network: Path, rows: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "rows.npz", image=rows)

    seen = calibration.measured(who, network, tmp_path / "rows.npz", tmp_path)

    assert seen["seconds"] > 0
    assert 0 < seen["peak_mb"] < 500


@pytest.mark.parametrize(("observer", "apart"), [("minmax", 2), ("mse", 3)])
def test_passes_over_the_rows_are_counted(
    observer: str, apart: int, network: Path, rows: np.ndarray, tmp_path: Path
) -> None:
    figures = passes.rows_run("net", network, rows, tmp_path, observer, rounds=2)

    assert [figure.value for figure in figures[:2]] == [apart * (len(rows) + 1), len(rows) + 1]
    assert 0 < figures[2].low <= figures[2].high


def test_convolutions_are_counted_in_the_graph_that_is_executed(
    network: Path, rows: np.ndarray, tmp_path: Path
) -> None:
    quantized = quantizer.by_pare(network, rows, tmp_path)

    assert resnet50.convolutions(quantized, tmp_path) == {"QLinearConv": 2}
    before = resnet50.convolutions(network, tmp_path)
    assert before.total() == 2
    assert "QLinearConv" not in before


def test_a_job_goes_through_the_service_and_nothing_is_left_running(network: Path, tmp_path: Path) -> None:
    save_dataset(tmp_path / "digits.npz")
    with embedded(tmp_path) as service, connected(service.url) as client:
        report = digits.quantized(client, network, tmp_path / "digits.npz", budget_s=0.5)

    figures = {one.name: one.value for one in digits.figures([report.targets[0], report.targets[0]])}
    assert figures["test images"] == 598
    assert figures["size after / before"] < 0.5
    assert not psutil.pid_exists(service.pid)


def test_a_job_that_fails_ends_the_story(tmp_path: Path) -> None:
    with embedded(tmp_path) as service, connected(service.url) as client:
        spec = requests.submission(client, tmp_path)
        spec["evaluate"] = {"limits": {"max_size_ratio": 0.01}, "latency": {"runs": 20, "budget_s": 0.2}}
        with pytest.raises(Refused, match=r"limits\.missed"):
            client.finished(client.submit(spec))
        with pytest.raises(Refused, match="404"):
            client.delete("models", "mdl_" + "0" * 32)
        waits = requests.starts(client, requests.submission(client, tmp_path), 2)
    assert len(waits) == 2
    assert min(waits) >= 0


def test_requests_are_measured_in_turns_and_uploads_both_ways(tmp_path: Path) -> None:
    content = NpzStream.of(1)
    with api(tmp_path) as service, connected(service.url) as client:
        sent = [upload.whole(client, content), upload.in_parts(client, content)]
        costs = requests.request_costs(service, requests.submission(client, tmp_path), rounds=2, block=3)

    assert len({*sent}) == 2
    assert all(name.startswith("ds_") for name in sent)
    assert {name: len(rounds) for name, rounds in costs.items()} == {
        "GET /livez": 2,
        "GET /jobs/{id}": 2,
        "POST /jobs/validate": 2,
        "POST /jobs": 1,
    }


def test_the_cost_of_a_request_is_set_beside_one_that_does_nothing() -> None:
    costs = {"GET /livez": [(0.001, 0.01), (0.003, 0.02)], "GET /jobs/{id}": [(0.004, 0.02), (0.004, 0.04)]}

    figures = {figure.name: figure.value for figure in requests.request_figures(costs)}

    assert figures["GET /jobs/{id}: CPU / that of GET /livez"] == pytest.approx(2)
    assert figures["GET /jobs/{id}: rate, one connection"] == pytest.approx(37.5)
    assert "GET /livez: CPU / that of GET /livez" not in figures


def test_a_child_says_its_first_line(tmp_path: Path) -> None:
    waits = requests.first_lines(tmp_path / "children", 2)

    assert len(waits) == 2
    assert min(waits) > 0


def test_pictures_are_admitted_and_read_from_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "pictures.tar"
    assert streaming.write_pictures(archive, 2_000_000) == 20
    for what in ("admission", "reading"):
        assert streaming.alone(what, archive)["seconds"] > 0
