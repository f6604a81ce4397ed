"""The `emulated` device: the artifact itself, on the runtime's own build for another CPU, under QEMU.

The program answers the recorded rows and has its instructions counted; how long it takes is nobody's figure.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from app.spec.device_report import DeviceFacts, DeviceRun
from app.spec.devices import EmulatedDevice
from app.spec.failure import Failure
from worker.engine.devices.errors import DeviceCrashed, DeviceTooSlow, IllegalInstruction, NoRuntimeThere
from worker.engine.devices.recording import ROWS_AT_ONCE, Recording, loaded, stored
from worker.engine.devices.trial import Trial
from worker.engine.onnx_graph.file import parts
from worker.engine.onnx_graph.macs import onnx_macs
from worker.engine.onnx_graph.sessions import ort
from worker.engine.targets.toolchain_runtime import ToolchainRuntime
from worker.engine.toolchains.process import Toolchain, started

RUNTIMES: Final = {".onnx": ("ONNX Runtime", "onnxruntime"), ".tflite": ("LiteRT", "ai-edge-litert")}
"""What loads a file: its name, and its distribution's."""
RUNS: Final = 2
"""Counted: the same run on the same rows differs by less than 0.1 % in its instructions."""
LIMIT_S: Final = 300.0
"""For all rows of one artifact: an emulator runs 0.2 to 1 billion instructions a second."""
BATCH_MACS: Final = 2 * 10**9
"""Of one batch, some 10 s in float32: what is not answered in time is lost by the batch."""
ANSWER_S: Final = LIMIT_S + 60


def run_emulated(device: EmulatedDevice, trial: Trial) -> DeviceRun:
    """Answers and instructions on the emulated CPU.

    Raises `NoRuntimeThere`, `DeviceCrashed`, `DeviceTooSlow`, `AnswersMissing` and the errors of toolchains.
    """
    runtime, package = _runtime(trial)
    with started("emulator", trial.directory, trial.comparison.progress) as emulator:
        versions = emulator.do("version")
        emulation = _Emulation(emulator, device, trial)
        recording = emulation.recording
        ended = emulation.run(trial.files, "artifact", emulation.rows())
        used = {name: versions[name] for name in ("qemu", package)}
        facts = DeviceFacts(cpu=f"{device.cpu} under QEMU", cores=1, system="Linux", versions=used)
        cell = DeviceRun(
            device=device,
            provenance=device.provenance,
            runtime=f"{runtime} {versions[package]}",
            size_bytes=trial.size_bytes,
            threads=1,
            batch=emulation.batch,
            facts=facts,
            illegal_instruction=False,
        )
        if ended["signal"] == "SIGILL":
            return cell.model_copy(update={"illegal_instruction": True, "failure": _illegal(device, ended)})
        answers = emulation.answers()
        _require_answers(device, ended, answers)
        compared = recording.compare(map(loaded, answers), device.provenance)
        relative, notes = emulation.relative(ended["instructions"])
    if compared.rows < recording.rows:
        notes.append(f"{compared.rows} of {recording.rows} rows were answered in the {LIMIT_S:g} s that it has.")
    if package == "onnxruntime" and versions[package] != ort.__version__:
        notes.append(f"The worker has ONNX Runtime {ort.__version__}: bits may differ for that alone.")
    return cell.model_copy(
        update={
            "rows": compared.rows,
            "metrics": compared.metrics,
            "agreement": compared.agreement,
            "agreement_original": compared.agreement_original,
            "bit_exact": compared.bit_exact,
            "relative_instructions": relative,
            "notes": (*compared.notes, *notes),
        }
    )


@dataclass(frozen=True)
class _Emulation:
    """The emulator's folder, with what one trial puts there."""

    emulator: Toolchain
    device: EmulatedDevice
    trial: Trial

    @property
    def batch(self) -> int:
        """Of the runs whose instructions are counted: one row where the model takes it, as devices are used."""
        return self.trial.comparison.batch.nearest(1)

    @cached_property
    def recording(self) -> Recording:
        """The recorded rows, in batches that do not take long."""
        whole, comparison = self.trial.recording, self.trial.comparison
        batch = comparison.batch
        macs, _ = onnx_macs(comparison.onnx_baseline, comparison.signature)
        most = max(1, BATCH_MACS // max(macs or 1, 1))
        if most >= ROWS_AT_ONCE or batch.low > 1 or batch.high == 1:
            return whole
        return whole.split(self.trial.folder / self.device.cpu, min(most, batch.high))

    def rows(self) -> list[str]:
        """The recorded rows, by the names of their files."""
        files = [batch.feeds for batch in self.recording.batches]
        return [shutil.copyfile(file, self._place(file.name)).name for file in files]

    def run(self, files: Sequence[Path], folder: str, rows: list[str]) -> dict[str, Any]:
        """What `worker.toolchains.emulator` says of an artifact, the first of the files, copied into `folder`."""
        for file in files:
            place = self._place(Path(folder, file.relative_to(files[0].parent)))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        few = stored(self._place("few.npz"), self.trial.comparison.feeds(self.batch)).name
        return self.emulator.do(
            "run",
            deadline_s=ANSWER_S,
            cpu=self.device.cpu,
            artifact=f"{folder}/{files[0].name}",
            feeds=rows,
            into=[f"answers-{name}" for name in rows],
            few=few,
            runs=RUNS,
            limit_s=LIMIT_S,
        )

    def answers(self) -> list[Path]:
        """The files of outputs that it wrote, in order."""
        names = [self._place(f"answers-{batch.feeds.name}") for batch in self.recording.batches]
        return [name for name in names if name.exists()]

    def relative(self, instructions: float | None) -> tuple[float | None, list[str]]:
        """Instructions of one run as a share of the original's, and why it is not known."""
        before = self.run(_original(self.trial), "original", [])["instructions"]
        if before is None or instructions is None:
            return None, ["The original in float32 could not be run there, so its instructions are not known."]
        return instructions / before, []

    def _place(self, name: str | Path) -> Path:
        return self.emulator.folder / name


def _runtime(trial: Trial) -> tuple[str, str]:
    name = trial.files[0].name
    runtime = RUNTIMES.get(trial.files[0].suffix)
    if runtime is None:
        raise NoRuntimeThere(f"Emulated devices have no runtime for {name}.")
    return runtime


def _original(trial: Trial) -> Sequence[Path]:
    """In the format of the artifact, the loadable file first."""
    runtime = trial.comparison.runtime
    if isinstance(runtime, ToolchainRuntime):
        return [runtime.toolchain.folder / name for name in runtime.baseline]
    return parts(trial.comparison.onnx_baseline)


def _require_answers(device: EmulatedDevice, ended: dict[str, Any], answers: list[Path]) -> None:
    if ended["signal"] not in (None, "SIGALRM"):
        raise DeviceCrashed(f"On {device.title} it ended by {ended['signal']}: {ended['words']}")
    if not answers:
        raise DeviceTooSlow(f"{device.title}, answered nothing in {LIMIT_S:g} s.")


def _illegal(device: EmulatedDevice, ended: dict[str, Any]) -> Failure:
    feature = ended["feature"] or "an extension that is not known here"
    detail = f"{device.title}, has no instruction {ended['instruction']} (bytes as stored): it belongs to {feature}."
    return Failure.of(IllegalInstruction(detail))
