"""Opening uploads: plain ONNX, bundles, and programs, each checked against what admission read."""

import contextlib
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from app.admission import admit_model
from app.spec.signature import Dimension, Signature, TensorSpec
from tests.support.engine import zoo
from tests.support.engine.orders import outputs_of, signature_of, upload
from worker.engine.data.rows import Rows
from worker.engine.errors import LoadFailed
from worker.engine.model import Model, open_model
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.torch_program.errors import InconsistentModel

BATCH = Dimension(name="batch")


def opened(directory: Path, name: str, signature: Signature, *, external_data: bool = False) -> Model:
    (directory / "scratch").mkdir(exist_ok=True)
    file = upload(directory, name, signature, external_data=external_data)
    return open_model(file, directory, directory / "scratch", threads=1)


def copy(source: Path, folder: Path) -> Path:
    target = folder / source.name
    target.write_bytes(source.read_bytes())
    return target


def test_a_program_and_its_onnx_form_agree(digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    copy(digits_folder / "digits.pt2", tmp_path)
    model = opened(tmp_path, "digits.pt2", signature_of(digits_folder / "digits.onnx"))

    inputs, labels = next(digits_test.batches(200))
    reference = model.reference(inputs)["logits"]
    assert outputs_of(model.graph, inputs)[0] == pytest.approx(reference, abs=1e-4)
    assert (reference.argmax(1) == labels).mean() > 0.97
    assert signature_of(model.graph).inputs[0].name == "image"
    assert outputs_of(model.graph, {"image": np.zeros((1, 1, 8, 8), np.float32)})[0].shape == (1, 10)


def test_a_program_with_two_inputs_and_a_dictionary(tmp_path: Path) -> None:
    program = zoo.program(zoo.TwoInputs(), torch.zeros(2, 3, 16, 16), torch.zeros(2, 5))
    torch.export.save(program, tmp_path / "two.pt2")
    signature = Signature(
        inputs=(
            TensorSpec(name="image", dtype="float32", shape=(BATCH, 3, 16, 16)),
            TensorSpec(name="facts", dtype="float32", shape=(BATCH, 5)),
        ),
        outputs=(
            TensorSpec(name="score", dtype="float32", shape=(BATCH, 1)),
            TensorSpec(name="embedding", dtype="float32", shape=(BATCH, 64)),
        ),
    )
    model = opened(tmp_path, "two.pt2", signature)

    random = np.random.default_rng(0)
    inputs = {
        "image": random.standard_normal((7, 3, 16, 16)).astype(np.float32),
        "facts": random.standard_normal((7, 5)).astype(np.float32),
    }
    reference = model.reference(inputs)
    assert [output.shape for output in reference.values()] == [(7, 1), (7, 64)]
    for name, output in zip(reference, outputs_of(model.graph, inputs), strict=True):
        assert output == pytest.approx(reference[name], abs=1e-4)


def test_sample_inputs_are_not_unpickled(tmp_path: Path) -> None:
    program = zoo.program(zoo.TwoInputs(), torch.zeros(2, 3, 16, 16), torch.zeros(2, 5))
    torch.export.save(program, tmp_path / "clean.pt2")
    marker = tmp_path / "marker"
    payload = f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode()
    with zipfile.ZipFile(tmp_path / "clean.pt2") as clean, zipfile.ZipFile(tmp_path / "two.pt2", "w") as hostile:
        for member in clean.infolist():
            hostile.writestr(member, payload if "sample_inputs" in member.filename else clean.read(member))
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):  # what is left of the payload is no tensor
        warnings.simplefilter("ignore")
        torch.export.load(tmp_path / "two.pt2")
    assert marker.exists(), "torch itself runs the payload; if it no longer does, washing can go"
    marker.unlink()

    from worker.engine.torch_program.pt2 import load_program

    names = Signature(
        inputs=tuple(TensorSpec(name=name, dtype="float32", shape=()) for name in ("image", "facts")),
        outputs=tuple(TensorSpec(name=name, dtype="float32", shape=()) for name in ("score", "embedding")),
    )
    load_program(tmp_path / "two.pt2", names, tmp_path)
    assert not marker.exists()


class Spectrum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(x)


def test_an_operator_without_onnx_form_is_named(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Spectrum(), (torch.eye(3),)), tmp_path / "eigen.pt2")
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(3, 3)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(3,)),),
    )
    with pytest.raises(ExportFailed, match="eigh"):
        opened(tmp_path, "eigen.pt2", signature).graph  # noqa: B018  # made when it is asked for


def test_a_program_that_draws_random_numbers_is_refused(tmp_path: Path) -> None:
    """Its ONNX form cannot be compared with it: a model exported in training mode keeps its dropout."""
    model = torch.nn.Sequential(torch.nn.Linear(16, 256), torch.nn.Dropout(0.5), torch.nn.Linear(256, 4)).train()
    torch.export.save(torch.export.export(model, (torch.zeros(2, 16),)), tmp_path / "noisy.pt2")
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(2, 16)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(2, 4)),),
    )
    with pytest.raises(ExportFailed) as caught:
        opened(tmp_path, "noisy.pt2", signature).graph  # noqa: B018
    assert caught.value.remedy == ExportFailed.remedy

    (tmp_path / "scratch").mkdir(exist_ok=True)
    info = admit_model(tmp_path / "noisy.pt2", max_inflated_bytes=1 << 30)
    file = upload(tmp_path, "noisy.pt2", info.signature).model_copy(update={"info": info})
    with pytest.raises(ExportFailed, match="training mode") as caught:
        open_model(file, tmp_path, tmp_path / "scratch", threads=1).graph  # noqa: B018
    assert "model.eval()" in caught.value.remedy


def test_another_signature_is_inconsistent(digits_folder: Path, tmp_path: Path) -> None:
    right = signature_of(digits_folder / "digits.onnx")
    wrong = Signature(inputs=(right.inputs[0].model_copy(update={"name": "other"}),), outputs=right.outputs)
    copy(digits_folder / "digits.onnx", tmp_path)
    with pytest.raises(InconsistentModel, match="other"):
        opened(tmp_path, "digits.onnx", wrong)
    copy(digits_folder / "digits.pt2", tmp_path)
    with pytest.raises(InconsistentModel, match="1 inputs"):
        opened(tmp_path, "digits.pt2", Signature(inputs=right.inputs * 2, outputs=right.outputs))


@pytest.mark.parametrize("name", ["broken.onnx", "broken.pt2"])
def test_bytes_that_are_no_model(name, digits_folder: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x08\x09" + bytes(1000))
    with pytest.raises(LoadFailed) as caught:
        opened(tmp_path, name, signature_of(digits_folder / "digits.onnx"))
    assert str(tmp_path) not in caught.value.detail


def bundle_of(source: Path, folder: Path) -> list[Path]:
    inner = folder / "inner"
    inner.mkdir()
    onnx.save(onnx.load(source), inner / "model.onnx", save_as_external_data=True, location="weights.bin")
    return [inner / "model.onnx", inner / "weights.bin"]


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_a_bundle_is_unpacked(form, digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    files = bundle_of(digits_folder / "digits.onnx", tmp_path)
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "bundle", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, f"exported/{file.name}")
    else:
        with tarfile.open(tmp_path / "bundle", "w:gz" if form == "tar.gz" else "w") as archive:
            for file in files:
                archive.add(file, f"./{file.name}")
    model = opened(tmp_path, "bundle", signature_of(digits_folder / "digits.onnx"), external_data=True)

    inputs, _ = next(digits_test.batches(20))
    assert np.array_equal(outputs_of(model.graph, inputs)[0], outputs_of(digits_folder / "digits.onnx", inputs)[0])


def test_what_macos_adds_to_a_zip_is_passed_over(digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    files = bundle_of(digits_folder / "digits.onnx", tmp_path)
    with zipfile.ZipFile(tmp_path / "bundle", "w") as archive:
        for file in files:
            archive.write(file, f"exported/{file.name}")
            archive.writestr(f"__MACOSX/exported/._{file.name}", b"attributes")
        archive.writestr("exported/.DS_Store", b"folder view")
    model = opened(tmp_path, "bundle", signature_of(digits_folder / "digits.onnx"), external_data=True)

    inputs, _ = next(digits_test.batches(20))
    assert np.array_equal(outputs_of(model.graph, inputs)[0], outputs_of(digits_folder / "digits.onnx", inputs)[0])
    assert {file.name for file in model.graph.parent.parent.rglob("*")} == {"exported", "model.onnx", "weights.bin"}


def test_a_tar_of_a_whole_folder(digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    """`tar cf bundle -C inner .` writes "./" and "./model.onnx"."""
    files = bundle_of(digits_folder / "digits.onnx", tmp_path)
    with tarfile.open(tmp_path / "bundle", "w") as archive:
        archive.add(files[0].parent, ".")
        assert {member.name for member in archive.getmembers()} == {".", "./model.onnx", "./weights.bin"}
    model = opened(tmp_path, "bundle", signature_of(digits_folder / "digits.onnx"), external_data=True)

    inputs, _ = next(digits_test.batches(20))
    assert np.array_equal(outputs_of(model.graph, inputs)[0], outputs_of(digits_folder / "digits.onnx", inputs)[0])


@pytest.mark.parametrize("name", ["../out.onnx", "/tmp/out.onnx", "a\\..\\out.onnx"])
def test_a_bundle_stays_in_its_folder(name, digits_folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bundle", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(LoadFailed, match="outside"):
        opened(tmp_path, "bundle", signature_of(digits_folder / "digits.onnx"), external_data=True)


def test_links_in_a_bundle_are_passed_over(digits_folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.onnx"
    copy(digits_folder / "digits.onnx", tmp_path).rename(secret)
    with tarfile.open(tmp_path / "bundle", "w") as archive:
        link = tarfile.TarInfo("model.onnx")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    with pytest.raises(LoadFailed, match=r"0 \.onnx files"):
        opened(tmp_path, "bundle", signature_of(secret), external_data=True)
