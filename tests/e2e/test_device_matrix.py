"""The whole device matrix from one `POST /jobs`: a worker, three emulated CPUs, an estimated Pi and an agent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.spec.device_report import DeviceRun
from app.spec.report import Report
from tests.support.agent.device import enrolled, running
from tests.support.installation.client import Client
from tests.support.installation.jobs import BRIEF, DIGITS_SPLITS, recipe
from tests.support.installation.serving import PACE
from tests.support.installation.stacks import embedded
from tests.support.toolchains import ENVIRONMENTS

pytestmark = pytest.mark.toolchain("emulator")

SECONDS = 400
"""QEMU takes half a minute for each CPU."""
TYPES = ("local", "emulated/cortex-a53", "emulated/cortex-a76", "emulated/x86-avx2", "estimated/raspberry-pi-4b/4")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """An installation whose worker has the emulators."""
    folder = tmp_path / "installation"
    folder.mkdir()
    with embedded(folder, toolchains_dir=ENVIRONMENTS.root, **PACE) as installation:
        yield installation.client


@pytest.mark.slow
def test_digits_in_integers_on_six_devices(client: Client, digits: Path, tmp_path: Path) -> None:
    model = client.upload_model((digits / "digits.onnx").read_bytes(), "digits")
    data = client.upload_dataset((digits / "digits.npz").read_bytes(), DIGITS_SPLITS, "digits")
    pi, agent = enrolled(client.http, tmp_path / "pi")
    devices = [
        {"type": "local"},
        *({"type": "emulated", "cpu": cpu} for cpu in ("cortex-a53", "cortex-a76", "x86-avx2")),
        {"type": "estimated", "device": "raspberry-pi-4b", "threads": 4},
        {"type": "agent", "agent": agent},
    ]
    job = client.submit(
        recipe(model, data, evaluate={"metrics": ["top1"], "latency": BRIEF, "devices": devices}, timeout_s=SECONDS)
    )
    with running(pi):
        ended = client.wait(job, SECONDS)
    assert ended["status"] == "succeeded", ended["error"]

    report = Report.model_validate(client.get(f"/jobs/{job}/report"))
    (target,) = report.targets
    cells = {cell.device.label: cell for cell in target.devices}
    assert tuple(cells) == (*TYPES, f"agent/{agent}")
    assert [label for label, cell in cells.items() if cell.failure] == []
    _each_says_where_it_is_from(cells)
    here, small, large, old, estimated, field = cells.values()
    assert len({cell.size_bytes for cell in cells.values()}) == 1
    assert here.metrics == target.metrics
    assert field.bit_exact is True, "the agent of this test runs on the worker's machine"
    exact = bool({"avx512_vnni", "avx_vnni"} & set(report.machine.cpu_flags))
    assert small.bit_exact == large.bit_exact == exact
    assert old.bit_exact is not exact, "bytes saturate where VNNI is missing"
    assert estimated.estimate is not None
    assert estimated.metrics == (), "accuracy is not estimated"

    page = client.http.get(f"/jobs/{job}/report", headers={"Accept": "text/html"}).text
    markdown = client.http.get(f"/jobs/{job}/report", headers={"Accept": "text/markdown"}).text
    for cell in cells.values():
        assert cell.device.title in page
        assert cell.device.title in markdown
    assert page.count('class="tag emulated"') >= 3


def _each_says_where_it_is_from(cells: dict[str, DeviceRun]) -> None:
    assert [cell.provenance for cell in cells.values()] == [
        "measured",
        "emulated",
        "emulated",
        "emulated",
        "estimated",
        "measured",
    ]
    for cell in cells.values():
        assert (cell.latency is not None) == (cell.provenance == "measured"), cell.device.label
        assert (cell.estimate is not None) == (cell.provenance == "estimated"), cell.device.label
