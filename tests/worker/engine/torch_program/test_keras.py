"""Keras files: read without Keras as Keras itself describes them, made programs in its jail, delivered and measured."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from app.admission import admit_model
from app.spec.data import DatasetSpec
from app.spec.failure import Failure
from app.spec.job import JobSpec
from app.spec.signature import Dimension, ModelInfo
from app.spec.work import ModelFile, WorkOrder
from examples.digits import TRAIN_ROWS, all_digits
from tests.support.engine.digits_jobs import FAST, MODEL
from tests.support.engine.orders import data_file
from tests.support.installation.stacks import embedded
from tests.support.target_jobs import Done, finished
from tests.support.toolchains import ENVIRONMENTS
from worker.engine.model import open_model
from worker.engine.progress import ToolchainMissing, Unheard
from worker.engine.torch_program.keras import load_keras
from worker.runtime.job_sandbox import JobSandbox, Limits, Listeners

MAKER = Path(__file__).parents[3] / "support" / "keras_models.py"
pytestmark = pytest.mark.toolchain("keras")

SPLITS = {"splits": {"calibration": 0.3, "test": 0.7}}
SMALL = Limits(wall_s=120, memory_bytes=4 << 30, file_bytes=1 << 30)


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Digits with their channel last, float32, and labels."""
    images, labels = all_digits()
    return np.moveaxis(images.astype(np.float32) / 255, 1, -1), labels


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Keras files, `expected.npy` and `facts.json`."""
    folder = tmp_path_factory.mktemp("keras")
    images, labels = rows()
    np.savez(folder / "train.npz", x=images[:TRAIN_ROWS], y=labels[:TRAIN_ROWS])
    np.savez(folder / "digits.npz", image=images[TRAIN_ROWS:], y=labels[TRAIN_ROWS:])
    python = ENVIRONMENTS.folder("keras") / "bin" / "python"
    ran = subprocess.run([python, MAKER, folder], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder


def admitted(path: Path) -> ModelInfo:
    return admit_model(path, max_inflated_bytes=1 << 30)


def order_for(directory: Path, made: Path, name: str, **spec: object) -> WorkOrder:
    for wanted in (name, "digits.npz"):
        (directory / wanted).write_bytes((made / wanted).read_bytes())
    info, size = admitted(made / name), (made / name).stat().st_size
    declared = DatasetSpec.model_validate(SPLITS)
    return WorkOrder(
        job="job_1",
        attempt=1,
        threads=1,
        spec=JobSpec.model_validate({"model": MODEL, "evaluate": FAST, **spec}),
        model=ModelFile(path=name, sha256="b" * 64, bytes=size, info=info),
        data={role: data_file("digits.npz", declared, role) for role in ("calibration", "test")},
    )


def on_runtime(done: Done, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(done.folder / "model-onnx-x86.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": image})
    return np.asarray(scores)


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_shapes_and_weights_are_those_that_keras_tells(form: str, made: Path) -> None:
    facts: dict[str, Any] = json.loads((made / "facts.json").read_text())
    assert len(facts) == 10
    for name, truth in facts.items():
        info = admitted(made / f"{name}.{form}")
        shapes = [list(output.shape[1:]) for output in info.signature.outputs]
        assert (name, shapes, info.parameters) == (name, truth["outputs"], truth["parameters"])
    both = admitted(made / f"functional.{form}").signature
    assert [tensor.name for tensor in both.inputs] == ["left", "right"]
    assert [tensor.name for tensor in both.outputs] == ["kind", "size"]
    assert both.inputs[0].shape[0] == Dimension(name="batch", min=1)


@pytest.mark.parametrize("name", ["digits.keras", "digits.h5"])
def test_an_upload_computes_what_keras_computes(name: str, made: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    done = finished(job_sandbox, order_for(tmp_path, made, name, targets=[{"format": "onnx"}]), tmp_path)

    target = done.target("onnx/x86")
    assert target.parity[0].max_abs < 1e-4
    assert target.metrics[0].after > 0.95
    found = on_runtime(done, rows()[0][:50])
    assert np.abs(found - np.load(made / "expected.npy")).max() < 1e-4
    assert any("Dropout" in note for note in done.report.notes)


@pytest.mark.toolchain("litert")
def test_a_tensorflow_lite_file_takes_channels_last(made: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    done = finished(job_sandbox, order_for(tmp_path, made, "digits.keras", targets=[{"format": "litert"}]), tmp_path)

    target = done.target("litert")
    assert target.parity[0].max_abs < 1e-4
    assert target.metrics[0].drop == 0


def test_its_weights_can_be_pruned_trained_and_quantized(made: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    """Channels last at its input; layers of one kind are as many as in the model, with nothing in between."""
    steps = [{"type": "prune.channels", "ratio": 0.25, "round_to": 4}, {"type": "quantize.static"}]
    done = finished(
        job_sandbox, order_for(tmp_path, made, "digits.keras", steps=steps, targets=[{"format": "onnx"}]), tmp_path
    )

    target = done.target("onnx/x86")
    assert target.placement.floating == 0
    assert target.placement.integer == 3
    assert target.size.ratio < 0.5


@pytest.mark.parametrize("name", ["convolutions", "depthwise", "pooling", "sequence", "functional"])
def test_other_layers_are_converted(name: str, made: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    order = order_for(tmp_path, made, f"{name}.keras", targets=[{"format": "onnx"}]).model_copy(update={"data": {}})

    done = finished(job_sandbox, order, tmp_path)

    assert all(output.max_abs < 1e-4 for output in done.target("onnx/x86").parity)


def test_weights_in_another_file_are_refused(made: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    order = order_for(tmp_path, made, "linked.h5", targets=[{"format": "onnx"}])
    (tmp_path / "order.json").write_text(order.model_dump_json())

    outcome = job_sandbox.run(tmp_path, SMALL, Listeners())

    assert isinstance(outcome, Failure)
    assert outcome.code == "model.load_failed"
    assert "a link to another place" in outcome.detail


def test_without_the_toolchain_the_answer_says_so(made: Path, tmp_path: Path) -> None:
    order = order_for(tmp_path, made, "digits.keras", targets=[{"format": "onnx"}])

    with pytest.raises(ToolchainMissing, match="keras"):
        open_model(order.model, tmp_path, tmp_path, threads=1)
    with pytest.raises(ToolchainMissing):
        load_keras(order.model, tmp_path, tmp_path, Unheard())


@pytest.mark.slow
@pytest.mark.toolchain("litert")
def test_from_upload_to_artifacts_over_http(made: Path, tmp_path: Path) -> None:
    settings = {"toolchains_dir": ENVIRONMENTS.root.absolute(), "child_memory_bytes": 6 << 30}
    with embedded(tmp_path, **settings) as installation:
        client = installation.client
        model = client.upload_model((made / "digits.keras").read_bytes(), "digits")
        data = client.upload_dataset((made / "digits.npz").read_bytes(), SPLITS)
        assert client.get(f"/models/{model}")["info"]["format"] == "keras"
        job = client.submit(
            {
                "model": model,
                "data": {"calibration": data, "test": data},
                "steps": [{"type": "quantize.static"}],
                "targets": [{"format": "onnx"}, {"format": "litert"}],
                "evaluate": FAST,
            }
        )
        ended = client.wait(job)
        assert ended["status"] == "succeeded", ended["error"]
        for target in client.get(f"/jobs/{job}/report")["targets"]:
            assert target["parity"][0]["top1_agreement"] >= 0.99
            assert target["placement"]["integer"] == 3
            assert target["placement"]["floating"] == 0
