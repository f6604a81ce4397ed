"""Pictures come from their archive one by one, upright, in red, green and blue."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.support.engine.tables import rows_of
from tests.support.pictures import PACKINGS, packed, picture, saved, zip_of
from worker.engine.data.errors import BrokenImage, UnreadableData
from worker.engine.data.images import UndecodableImage, decode

FLOAT = {"type": "to_float"}


@pytest.mark.parametrize("how", PACKINGS)
def test_rows_are_the_pictures_and_their_classes(how: str, tmp_path: Path) -> None:
    names = [f"{'bca'[n % 3]}/{n}.png" for n in range(20)]
    files = {name: picture(7, 5, seed=n) for n, name in enumerate(names)}

    rows = rows_of(tmp_path, packed(files, how))

    ((images, labels),) = rows.batches(50)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(files[name]))).transpose(2, 0, 1) for name in names])
    assert images["image"].dtype == np.uint8
    assert np.array_equal(images["image"], pixels)
    assert list(labels) == [("abc".index(name[0])) for name in names]
    ((some, _),) = rows.sample(3, seed=0).batches(8)
    assert np.array_equal(some["image"], pixels[rows.sample(3, seed=0).indices])


def test_splits_are_those_of_the_folders_or_those_declared(tmp_path: Path) -> None:
    files = {f"{'train' if n % 4 else 'test'}/{n % 2}/{n}.png": picture(seed=n) for n in range(40)}
    content = zip_of(files)

    assert list(rows_of(tmp_path, content, split="test").indices) == list(range(0, 40, 4))
    assert len(rows_of(tmp_path, content)) == 40
    declared = rows_of(tmp_path, content, split="test", splits={"test": 0.5})
    assert len(declared) == 20
    with pytest.raises(UnreadableData, match="calibration"):
        rows_of(tmp_path, content, split="calibration")


def test_pictures_of_any_size_are_made_alike(tmp_path: Path) -> None:
    files = {f"c/{n}.png": picture(20 + n, 30 - n, seed=n) for n in range(9)}
    crop = {"type": "center_crop", "height": 16, "width": 16}
    steps = [FLOAT, {"type": "resize_shorter", "size": 18}, crop]

    ((images, _),) = rows_of(tmp_path, zip_of(files), preprocess={"image": steps}).batches(9)

    assert images["image"].shape == (9, 3, 16, 16)
    assert images["image"].dtype == np.float32
    with pytest.raises(UnreadableData, match="differ in size"):
        list(rows_of(tmp_path, zip_of(files), preprocess={"image": [FLOAT]}).batches(9))


def test_the_only_input_takes_the_pictures(tmp_path: Path) -> None:
    content, steps = zip_of({"c/a.png": picture()}), {"image": [FLOAT]}

    ((inputs, labels),) = rows_of(tmp_path, content, ["x"], preprocess=steps).batches(1)
    assert inputs.keys() == {"x"}
    assert inputs["x"].dtype == np.float32
    assert list(labels) == [0]
    ((inputs, _),) = rows_of(tmp_path, content, ["pixels"], image="pixels").batches(1)
    assert inputs.keys() == {"pixels"}
    for names, spec in ((["x", "mask"], {}), (["x"], {"image": "pixels"})):
        with pytest.raises(UnreadableData, match="no array named"):
            rows_of(tmp_path, content, names, **spec)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int) -> None:
    content = picture(16, 24, form="JPEG", orientation=orientation)
    with Image.open(io.BytesIO(content)) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened)).transpose(2, 0, 1)
    assert np.array_equal(decode(content), upright)


@pytest.mark.parametrize(
    ("mode", "form"),
    [("L", "PNG"), ("L", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG"), ("1", "PNG")],
)
def test_every_picture_has_three_channels(mode: str, form: str) -> None:
    content = picture(9, 8, mode=mode, form=form)
    with Image.open(io.BytesIO(content)) as opened:
        assert np.array_equal(decode(content), np.asarray(opened.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("how", PACKINGS)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_cut_off_is_named(how: str, form: str, tmp_path: Path) -> None:
    whole = picture(64, 64, form=form)
    rows = rows_of(tmp_path, packed({"c/a.png": whole, "c/b.png": whole[: len(whole) // 2]}, how))

    with pytest.raises(BrokenImage, match=r"Picture 1 .*c/b\.png"):
        list(rows.batches(2))


def test_a_picture_changed_after_admission_is_named(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, zip_of({"c/a.png": picture(form="JPEG")}))
    content = (tmp_path / "data").read_bytes()
    (tmp_path / "data").write_bytes(content.replace(b"JFIF", b"jfif"))

    with pytest.raises(BrokenImage, match="checksum"):
        list(rows.batches(1))


def test_a_bomb_is_not_decoded() -> None:
    with pytest.raises(UndecodableImage, match="20000 x 20000"):
        decode(saved(Image.new("1", (20_000, 20_000))))


MEMORY = """
import pathlib, resource, sys
from tests.support.engine.tables import rows_of
rows = rows_of(pathlib.Path(sys.argv[1]), (pathlib.Path(sys.argv[1]) / "pictures").read_bytes())
list(rows.sample(200, 0).batches(16))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(len(inputs["image"]) for inputs, _ in rows.batches(16))
print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("how", PACKINGS)
def test_memory_does_not_grow_with_the_archive(how: str, tmp_path: Path) -> None:
    """2,000 pictures of 48 KB: 98 MB of pixels go by."""
    one = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)))
    (tmp_path / "pictures").write_bytes(packed({f"c/{n}.png": one for n in range(2000)}, how))

    ran = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)

    total, grown_mib = map(int, ran.stdout.split())
    assert total == 2000
    assert grown_mib < 16
