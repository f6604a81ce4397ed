"""`emulated` devices: artifacts of real jobs, in jailed processes, under QEMU. Skips loudly without the emulators."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.spec.device_report import DeviceRun
from tests.support.devices import two_valued
from tests.support.devices.stand_in import with_a_runtime_that_needs_dot_products
from tests.support.engine.digits_jobs import order_for
from tests.support.target_jobs import Done, finished
from tests.support.toolchains import ENVIRONMENTS
from worker.engine.toolchains.environments import Environments
from worker.runtime.job_sandbox import JobSandbox

STATIC = {"type": "quantize.static"}
FAST = {"latency": {"batch": [1], "runs": 20, "budget_s": 1}}


pytestmark = pytest.mark.toolchain("emulator")


def evaluate(*cpus: str) -> dict[str, object]:
    return FAST | {"devices": [{"type": "emulated", "cpu": cpu} for cpu in cpus]}


def onnx(*profiles: str) -> list[dict[str, str]]:
    return [{"format": "onnx", "profile": profile} for profile in profiles]


def cell(job: Done, label: str, cpu: str) -> DeviceRun:
    (found,) = (cell for cell in job.target(label).devices if cell.device.label == f"emulated/{cpu}")
    assert found.failure is None
    return found


def has_vnni(job: Done) -> bool:
    """Whether this worker multiplies bytes exactly; where it does not, it is what saturates alike."""
    return bool({"avx512_vnni", "avx_vnni"} & set(job.report.machine.cpu_flags))


@pytest.mark.slow
def test_integers_saturate_on_avx2_and_the_legacy_profile_cures_it(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    """VPMADDUBSW adds two products of bytes into 16 bits. ONNX Runtime multiplies s8s8 by it too, shifted to u8s8."""
    two_valued.save(tmp_path)
    directory = tmp_path / "job"
    directory.mkdir()
    targets = onnx("x86", "arm", "x86-legacy")
    # Ranges that hold 99 % of the values have large codes, and sums of large codes are those that saturate.
    spec = {
        "steps": [STATIC | {"observer": "percentile", "percentile": 99.0}],
        "targets": targets,
        "evaluate": evaluate("x86-avx2"),
    }
    job = finished(job_sandbox, order_for(directory, tmp_path, "digits.onnx", **spec), directory)

    for label in ("onnx/x86", "onnx/arm"):
        saturated = cell(job, label, "x86-avx2")
        assert saturated.bit_exact is not has_vnni(job)
        assert saturated.metrics[0].drop >= 0.01
        assert saturated.metrics[0].drop_low > 0, "more than chance explains"
    cured = cell(job, "onnx/x86-legacy", "x86-avx2")
    assert cured.bit_exact is True
    assert cured.agreement == 1
    assert cured.metrics[0].drop <= 0.002


def test_an_ordinary_network_changes_little_on_avx2(done: Callable[..., Done]) -> None:
    job = done(steps=[STATIC], targets=onnx("x86"), evaluate=evaluate("x86-avx2"))

    saturated = cell(job, "onnx/x86", "x86-avx2")
    assert saturated.bit_exact is not has_vnni(job)
    assert saturated.metrics[0].drop < 0.01
    assert saturated.agreement is not None
    assert saturated.agreement > 0.99


def test_arm_cpus_compute_the_bits_of_this_worker(done: Callable[..., Done]) -> None:
    job = done(steps=[STATIC], targets=onnx("x86"), evaluate=evaluate("cortex-a53", "cortex-a76"))

    small, large = (cell(job, "onnx/x86", cpu) for cpu in ("cortex-a53", "cortex-a76"))
    for found in (small, large):
        assert found.provenance == "emulated"
        assert found.latency is None, "emulated time is no latency"
        assert found.bit_exact is has_vnni(job)
        assert found.metrics[0].drop <= 0.002
        assert found.rows == 512
        assert found.illegal_instruction is False
        assert found.metrics[0].provenance == "emulated"
        assert found.runtime.startswith("ONNX Runtime 1.")
    assert small.relative_instructions is not None
    assert large.relative_instructions is not None
    assert 0.5 < small.relative_instructions < 1, "without dot products, int8 saves little"
    assert 0.2 < large.relative_instructions < 0.6, "with them, a lot"


def test_an_instruction_that_the_cpu_lacks_is_told_by_name(digits_folder: Path, tmp_path: Path) -> None:
    """A runtime whose kernel uses SDOT without asking: the Cortex-A76 has it, the A53 does not."""
    environments = Environments(tmp_path / "environments")
    with_a_runtime_that_needs_dot_products(ENVIRONMENTS.folder("emulator"), environments.folder("emulator"))
    with JobSandbox(tmp_path / "room", sandbox="best-effort", threads=1, environments=environments) as job_sandbox:
        directory = tmp_path / "job"
        directory.mkdir()
        order = order_for(directory, digits_folder, "digits.onnx", evaluate=evaluate("cortex-a53", "cortex-a76"))
        job = finished(job_sandbox, order, directory)

    small, large = job.target("onnx/x86").devices
    assert small.illegal_instruction is True
    assert small.failure is not None
    assert small.failure.code == "device.illegal_instruction"
    assert "0094824e" in small.failure.detail
    assert "asimddp" in small.failure.detail
    assert large.illegal_instruction is False
    assert large.failure is None
    assert large.rows == 512


@pytest.mark.slow
@pytest.mark.toolchain("litert")
def test_litert_runs_there_too(done: Callable[..., Done]) -> None:
    job = done(targets=[{"format": "litert"}], evaluate=evaluate("cortex-a53"))

    found = cell(job, job.report.targets[0].target.label, "cortex-a53")
    assert found.runtime.startswith("LiteRT 2.")
    assert found.agreement == 1
    assert found.rows == 512
    assert found.relative_instructions == pytest.approx(1, abs=0.01), "the same network, in the same format"


@pytest.mark.toolchain("openvino")
def test_a_format_without_a_runtime_there_is_refused(done: Callable[..., Done]) -> None:
    job = done(targets=[{"format": "openvino"}], evaluate=evaluate("cortex-a53"))

    (refused,) = job.target("openvino/fp32").devices
    assert refused.failure is not None
    assert refused.failure.code == "device.no_runtime"
