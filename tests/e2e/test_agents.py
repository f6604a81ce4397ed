"""One job, measured on its worker and on a device whose agent is a process of its own."""

import signal
from pathlib import Path

import pytest

from tests.support.agent.device import Device, enrolled, running
from tests.support.installation.jobs import BRIEF, recipe
from tests.support.installation.serving import Stack
from tests.support.installation.waiting import until
from tests.support.toolchains import ENVIRONMENTS
from worker.toolchains.emulator import hosted


@pytest.fixture
def device(stack: Stack, tmp_path: Path) -> tuple[Device, str]:
    return enrolled(stack.client.http, tmp_path / "pi")


def asking(model: str, data: str, agent: str, *, latency: dict | None = None, **changes: object) -> dict:
    job = recipe(model, data, latency=latency, **changes)
    return job | {"evaluate": job["evaluate"] | {"devices": [{"type": "local"}, {"type": "agent", "agent": agent}]}}


def test_one_job_is_measured_here_and_on_the_device(
    stack: Stack, device: tuple[Device, str], digits_model: str, digits_data: str
) -> None:
    pi, agent = device
    job = stack.client.submit(asking(digits_model, digits_data, agent, latency=BRIEF))
    with running(pi):
        ended = stack.client.wait(job)
    assert ended["status"] == "succeeded", ended["error"]

    (target,) = stack.client.get(f"/jobs/{job}/report")["targets"]
    here, there = target["devices"]
    assert (here["device"]["type"], there["device"]["agent"]) == ("local", agent)
    assert there["failure"] is None
    assert there["provenance"] == "measured"
    assert there["runtime"].startswith("ONNX Runtime ")
    # The device of this test is the worker's own machine, with the same runtime.
    assert (there["bit_exact"], there["agreement"]) == (True, 1.0)
    assert there["rows"] == 512
    assert there["latency"]["runs"] == BRIEF["runs"]
    assert there["latency"]["p50_ms"] > 0
    (top1,) = there["metrics"]
    assert top1["metric"] == "top1"
    assert abs(top1["drop"]) < 0.01
    assert there["size_bytes"] == here["size_bytes"] == target["size"]["after_bytes"]
    assert there["load_ms"] > 0
    assert there["peak_memory_bytes"] > 10 << 20
    assert there["facts"]["versions"].keys() >= {"onnxruntime", "python", "pare-agent"}
    assert any(note.startswith("The original takes") for note in there["notes"])
    page = stack.client.http.get(f"/jobs/{job}/report", headers={"Accept": "text/markdown"}).text
    assert f"Agent …{agent[-6:]}" in page
    leftovers = [stored for stored in _stored(stack) if stored.startswith("agent-")]
    assert leftovers == []


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["embedded"], indirect=True)
@pytest.mark.toolchain("emulator")
def test_a_device_with_another_processor(stack: Stack, digits_model: str, digits_data: str, tmp_path: Path) -> None:
    """The agent and its runtime are aarch64 programs here, run by QEMU as on a Cortex-A53."""
    environment = ENVIRONMENTS.folder("emulator")
    python = emulated(environment, "cortex-a53")
    pi, agent = enrolled(stack.client.http, tmp_path / "pi", python, str(environment / "arm64" / "site"))
    assert stack.client.get(f"/agents/{agent}")["facts"]["arch"] == "aarch64"
    job = stack.client.submit(asking(digits_model, digits_data, agent, latency=BRIEF))
    with running(pi):
        ended = stack.client.wait(job, 240)
    assert ended["status"] == "succeeded", ended["error"]

    here, there = stack.client.get(f"/jobs/{job}/report")["targets"][0]["devices"]
    assert there["failure"] is None
    assert "aarch64" in there["facts"]["system"]
    assert there["facts"]["cpu"] == "Cortex-A53"
    assert "asimd" in there["facts"]["cpu_flags"]
    assert "asimddp" not in there["facts"]["cpu_flags"]
    assert there["agreement"] >= 0.99
    assert there["latency"]["p50_ms"] > here["latency"]["p50_ms"]  # each instruction is imitated
    assert abs(there["metrics"][0]["drop"]) <= 0.01


def emulated(environment: Path, cpu: str) -> list[str]:
    """The command that runs Python on the CPU."""
    python = environment / "arm64" / "usr" / "bin" / "python3.11"
    qemu = hosted(environment, "qemu-aarch64")
    return [*qemu, "-L", str(environment / "cpus" / cpu), "-cpu", cpu, str(python)]


def test_a_device_that_is_killed_in_the_middle_is_asked_again(
    stack: Stack, device: tuple[Device, str], heavy_model: str, tiny_data: str
) -> None:
    pi, agent = device
    seconds = {"batch": [1024], "runs": 200, "budget_s": 3}
    job = stack.client.submit(asking(heavy_model, tiny_data, agent, latency=seconds))
    with running(pi):
        until(lambda: list(pi.state.glob("work/*/request.json")), "the measurement to begin", 60)
        pi.end(signal.SIGKILL)
    with running(pi):
        ended = stack.client.wait(job)

    assert ended["status"] == "succeeded", ended["error"]
    there = stack.client.get(f"/jobs/{job}/report")["targets"][0]["devices"][1]
    assert there["failure"] is None
    assert there["latency"]["runs"] > 0
    assert "attempt 2 begins" in pi.said()


def test_a_device_that_is_revoked_costs_its_figures_and_not_the_job(
    stack: Stack, device: tuple[Device, str], tiny_model: str, tiny_data: str
) -> None:
    _, agent = device
    job = stack.client.submit(asking(tiny_model, tiny_data, agent))
    stack.client.wait_for_stage(job, "trying")
    stack.client.http.delete(f"/agents/{agent}")
    ended = stack.client.wait(job)

    assert ended["status"] == "succeeded", ended["error"]
    here, there = stack.client.get(f"/jobs/{job}/report")["targets"][0]["devices"]
    assert here["failure"] is None
    assert there["failure"]["code"] == "agent.revoked"


def test_a_canceled_job_does_not_wait_for_its_device(
    stack: Stack, device: tuple[Device, str], tiny_model: str, tiny_data: str
) -> None:
    job = stack.client.submit(asking(tiny_model, tiny_data, device[1]))
    stack.client.wait_for_stage(job, "trying")
    stack.client.cancel(job)

    assert stack.client.wait(job, 20)["status"] == "canceled"


def _stored(stack: Stack) -> list[str]:
    from app.storage import open_store

    return [stored.key for stored in open_store(stack.installation.loaded()).list("")]
