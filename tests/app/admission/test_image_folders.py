"""Archives of pictures are admitted by the headers of their pictures, in memory that does not depend on their size."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from app.admission import AdmissionError, admit_dataset
from app.admission.image_head import NotAnImage, head_of
from app.spec.data import ArraySpec, DatasetInfo, DatasetSpec
from app.spec.signature import Dimension
from tests.support.pictures import PACKINGS, packed, picture, tar_of, zip_of

GIB = 1 << 30
TWO = {"cats/a.png": picture(seed=1), "dogs/b.jpg": picture(seed=2, form="JPEG"), "cats/c.png": picture(seed=3)}


@pytest.fixture
def given(tmp_path: Path) -> Any:
    """Admits an archive under a declaration."""

    def admit(content: bytes, **spec: Any) -> DatasetInfo:
        path = tmp_path / "upload"
        path.write_bytes(content)
        return admit_dataset(path, DatasetSpec.model_validate(spec), max_inflated_bytes=GIB)

    return admit


def refused(given: Any, content: bytes, **spec: Any) -> AdmissionError:
    with pytest.raises(AdmissionError) as error:
        given(content, **spec)
    return error.value


@pytest.mark.parametrize("how", PACKINGS)
@pytest.mark.parametrize("top", ["", "./", "pets/", "./pets/"])
def test_folders_are_classes_in_sorted_order(given: Any, how: str, top: str) -> None:
    backwards = {f"{top}{name}": content for name, content in reversed(TWO.items())}
    assert given(packed(backwards, how)) == DatasetInfo(
        format="images",
        rows=3,
        arrays={"image": ArraySpec(dtype="uint8", shape=(3, 3, 6, 6)), "y": ArraySpec(dtype="int64", shape=(3,))},
        label_range=(0, 1),
        classes=("cats", "dogs"),
    )


@pytest.mark.parametrize("top", ["", "pets/"])
def test_folders_of_splits_are_splits(given: Any, top: str) -> None:
    files = {f"{top}{split}/{name}": content for split in ("train", "val") for name, content in TWO.items()}
    files[f"{top}test/dogs/x.png"] = picture()
    info = given(zip_of(files))
    assert info.splits == {"train": 3, "validation": 3, "test": 1}
    assert info.classes == ("cats", "dogs")


def test_sizes_that_vary_are_a_range(given: Any) -> None:
    sizes = [(8, 20), (30, 10), (9, 9)]
    info = given(zip_of({f"c/{n}.png": picture(*size) for n, size in enumerate(sizes)}))
    height, width = Dimension(name="height", min=8, max=30), Dimension(name="width", min=9, max=20)
    assert info.arrays["image"].shape == (3, 3, height, width)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_lies_on_its_side_is_counted_upright(orientation: int) -> None:
    content = picture(4, 10, form="JPEG", orientation=orientation)
    with Image.open(io.BytesIO(content)) as opened:
        width, height = ImageOps.exif_transpose(opened).size
    assert head_of(content).shown == (height, width)


def test_the_input_may_be_named(given: Any) -> None:
    assert given(zip_of(TWO), image="pixels").arrays.keys() == {"pixels", "y"}
    with pytest.raises(ValueError, match="labels"):
        DatasetSpec(image="y")


def test_preprocessing_is_checked_against_the_sizes(given: Any) -> None:
    files = zip_of({"c/a.png": picture(40, 60), "c/b.png": picture(50, 30)})
    crop = {"type": "center_crop", "height": 32, "width": 32}
    error = refused(given, files, preprocess={"image": [crop]})
    assert error.code == "dataset.transform_mismatch"
    assert "40 x 30" in error.detail
    shorter = [{"type": "to_float"}, {"type": "resize_shorter", "size": 32}, crop]
    assert given(files, preprocess={"image": shorter}).rows == 2
    crop = crop | {"height": 30, "width": 30}
    assert given(files, preprocess={"image": [crop]}).rows == 2


@pytest.mark.parametrize(
    "other",
    [
        ["a/b/c/d.png"],
        ["a/x.png", "b/c/y.png"],
        ["t/a/x.png", "u/a/y.png"],
        ["t/a/b/c.png"],
        ["train/a/x.png", "b/a/x.png"],
        ["a/x.png", "x.png"],
    ],
)
def test_other_layouts_are_refused(given: Any, other: list[str]) -> None:
    error = refused(given, zip_of(dict.fromkeys(other, picture())))
    assert error.code == "dataset.folder_layout"
    assert "class/picture.jpg" in error.remedy


def test_what_macos_adds_is_passed_over(given: Any) -> None:
    litter = {"__MACOSX/cats/._a.png": b"\0\5\26\7", "cats/.DS_Store": b"Bud1", ".DS_Store": b"Bud1"}
    assert given(zip_of(litter | TWO)).rows == 3


@pytest.mark.parametrize("how", PACKINGS)
def test_what_is_no_picture_is_named(given: Any, how: str) -> None:
    error = refused(given, packed(TWO | {"dogs/readme.txt": b"hello"}, how))
    assert (error.code, error.status) == ("dataset.unsupported_image", 415)
    assert "dogs/readme.txt" in error.detail


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(20), "neither"),
        (b"<svg onload=alert(1)>", "neither"),
        (b"<html>", "neither"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged PNG"),
        (b"\x89P", "damaged PNG"),
        (b"\xff\xd8\xff\xd9", "without a frame"),
        (b"\xff\xd8hello", "damaged JPEG"),
        (b"\xff\xd8" + b"\xff" * 5000, "damaged JPEG"),
        (b"\xff\xd8\xff\xc3\0\x11" + bytes(20), "rare"),
        (b"\xff\xd8\xff\xc0\0\x11\x0c" + bytes(20), "12 bits"),
        (b"\xff\xd8" + b"\xff\xe0\0\2" * 2000, "without a frame"),
        (b"\xff\xd8\xff\xe0\0\1", "without a frame"),
    ],
)
def test_headers_that_are_none(content: bytes, reason: str) -> None:
    with pytest.raises(NotAnImage, match=reason):
        head_of(content)


def test_sixteen_bits_are_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(buffer, "PNG")
    with pytest.raises(NotAnImage, match="16 bits"):
        head_of(buffer.getvalue())


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA", "LA", "CMYK", "1"])
def test_headers_are_those_that_pillow_finds(form: str, mode: str) -> None:
    if (mode in {"P", "RGBA", "LA"} and form == "JPEG") or (mode == "CMYK" and form == "PNG"):
        pytest.skip("there is no such file")
    assert head_of(picture(11, 7, form=form, mode=mode)).shown == (11, 7)


@pytest.mark.parametrize("how", PACKINGS)
def test_pixels_are_counted_before_anything_is_decoded(given: Any, how: str) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")  # 50 KB
    error = refused(given, packed({"c/bomb.png": buffer.getvalue()}, how))
    assert error.code == "dataset.image_too_large"
    assert "20000 x 20000" in error.detail


def test_two_pictures_of_one_name_are_refused(given: Any) -> None:
    content = zip_of({"c/a.png": picture(), "c/b.png": picture(seed=1)})
    assert refused(given, content.replace(b"c/b.png", b"c/a.png")).code == "dataset.malformed"
    twice = tar_of({"c/a.png": picture(), "./c/a.png": picture()})
    assert refused(given, twice).code == "dataset.malformed"


@pytest.mark.parametrize("how", ["tar", "stored"])
def test_memory_does_not_grow_with_the_bytes(given: Any, tmp_path: Path, how: str) -> None:
    """More than the headers is not read, and an index of 4,000 pictures takes little."""
    padding = bytes(50_000)
    files = {f"class{n % 9}/{n:05}.png": picture(seed=n) + padding for n in range(400)}
    path = tmp_path / "many"
    path.write_bytes(packed(files, how))
    del files
    tracemalloc.start()
    assert admit_dataset(path, DatasetSpec(), max_inflated_bytes=GIB).rows == 400
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_an_archive_of_more_than_20_000_pictures(given: Any) -> None:
    one = picture(1, 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(21_000):
            archive.writestr(f"{number % 100:02}/{number}.png", one)
    info = given(buffer.getvalue())
    assert (info.rows, len(info.classes)) == (21_000, 100)


@pytest.mark.parametrize("how", PACKINGS)
@pytest.mark.parametrize("top", ["", "pets/"])
def test_a_class_without_pictures_keeps_its_number(given: Any, how: str, top: str) -> None:
    files = {f"{top}birds/": b"", f"{top}.git/": b"", **{f"{top}{name}": content for name, content in TWO.items()}}

    info = given(packed({top: b"", **files} if top else files, how))

    assert info.classes == ("birds", "cats", "dogs")
    assert info.label_range == (1, 2)
    assert info.rows == 3


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9])
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_of_any_integer_type_is_read(kind: int, order: str) -> None:
    formats = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
    value = struct.pack(f"{order}{formats[kind]}", 6).ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(f"{order}LHHHL", 8, 1, 0x0112, kind, 1) + value + bytes(4)
    jpeg, png = picture(4, 8, form="JPEG"), picture(4, 8)
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    chunk = struct.pack(">L", len(tiff)) + b"eXIf" + tiff + struct.pack(">L", zlib.crc32(b"eXIf" + tiff))

    assert head_of(jpeg[:2] + exif + jpeg[2:]).shown == (8, 4)
    assert head_of(png[:33] + chunk + png[33:]).shown == (8, 4)
    assert head_of(png).shown == (4, 8)
