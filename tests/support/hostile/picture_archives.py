"""Archives of pictures that are none, that would not fit into memory, or that leave their folder."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.support.hostile.archives import entry, tarred, zipped
from tests.support.hostile.kinds import Hostile, dataset
from tests.support.pictures import picture, saved, tar_of, zip_of

SLIP = frozenset({"archive.unsafe_member"})
MALFORMED = frozenset({"dataset.malformed"})
NO_IMAGE = frozenset({"dataset.unsupported_image"})
TOO_LARGE = frozenset({"dataset.image_too_large"})
LAYOUT = frozenset({"dataset.folder_layout"})
BOMB = frozenset({"dataset.decompression_bomb"})


def files() -> Iterator[Hostile]:
    good = {"a/0.png": picture(), "b/1.jpg": picture(form="JPEG")}
    yield dataset("images_zip_untouched", zip_of(good), {"ok"})
    yield dataset("images_tar_untouched", tar_of(good), {"ok"})
    yield from _pictures()
    yield from _archives(good)


def _pictures() -> Iterator[Hostile]:
    gif, webp = (saved(Image.new("RGB", (4, 4)), form) for form in ("GIF", "WEBP"))
    for title, content in {
        "gif": gif,
        "webp": webp,
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "html": b"<html><script>alert(1)</script></html>",
        "pickle": b"\x80\x04.",
        "empty": b"",
        "elf": b"\x7fELF",
        "png_magic": b"\x89PNG\r\n\x1a\n",
        "jpeg_magic": b"\xff\xd8\xff",
        "two_bytes": b"\xff\xd8",
        "jpeg_without_frame": b"\xff\xd8" + b"\xff\xe0\xff\xff" + bytes(70_000) + b"\xff\xd9",
        "jpeg_endless_fill": b"\xff\xd8" + b"\xff" * 1_000_000,
        "jpeg_many_segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 500_000,
        "jpeg_lossless": b"\xff\xd8\xff\xc3\0\x0b\x08\0\1\0\1\1\1\x11\0",
        "jpeg_no_height": b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\1\1\1\x11\0",
        "png_no_width": _png(0, 5),
        "png_wrong_checksum": _png(5, 5)[:-1] + b"\0",
        "png_16_bits": _png(5, 5, depth=16),
    }.items():
        for how, pack in (("tar", tar_of), ("zip", zip_of)):
            yield dataset(f"images_{how}_{title}", pack({"c/cat.jpg": content}), NO_IMAGE)
    for title, content in {
        "billion_pixels": _png(1 << 15, 1 << 15),
        "most_pixels": _png((1 << 31) - 1, (1 << 31) - 1),
        "line": _png((1 << 31) - 1, 1),
        "jpeg_most": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0",
    }.items():
        yield dataset(f"images_{title}", zip_of({"c/a.png": content}), TOO_LARGE)
    real_bomb = saved(Image.new("1", (30_000, 30_000)))
    yield dataset("images_real_bomb", tar_of({"c/a.png": real_bomb}), TOO_LARGE)
    broken = picture(64, 64)
    yield dataset("images_cut_off", tar_of({"c/a.png": broken[: len(broken) // 2]}), {"ok", "data.broken_image"})


def _archives(good: dict[str, bytes]) -> Iterator[Hostile]:
    png = picture()
    for title, name in {
        "parent": "../c/a.png",
        "inside": "c/../../a.png",
        "absolute": "/c/a.png",
        "backslash": "c\\..\\a/x.png",
        "newline": "c\r\nSet-Cookie: a/x.png",
    }.items():
        yield dataset(f"images_zip_{title}", zip_of({name: png}), SLIP)
        yield dataset(f"images_tar_{title}", tar_of({name: png}), SLIP)
    link = entry("c/b.png", kind=tarfile.SYMTYPE, link="/etc/passwd")
    yield dataset("images_tar_link", tarred([(entry("c/a.png"), png), (link, b"")]), SLIP)
    hard = entry("c/b.png", kind=tarfile.LNKTYPE, link="c/a.png")
    yield dataset("images_tar_hard_link", tarred([(entry("c/a.png"), png), (hard, b"")]), SLIP)
    info = zipfile.ZipInfo("c/b.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    yield dataset("images_zip_link", zipped([("c/a.png", png), (info, b"/etc/passwd")]), SLIP)
    twice = zip_of({"c/a.png": png, "c/b.png": png})
    yield dataset("images_zip_twice", twice.replace(b"c/b.png", b"c/a.png"), MALFORMED)
    yield dataset("images_tar_twice", tar_of({"c/a.png": png, "./c/a.png": png}), MALFORMED)
    yield dataset("images_tar_cut_off", tar_of(good)[:700], MALFORMED)
    yield dataset("images_zip_bytes_between", _with_hole(png), MALFORMED)
    yield dataset("images_without_class", zip_of({"a/x.png": png, "b.png": png}), LAYOUT)
    yield dataset("images_and_arrays", zip_of({"c/a.png": png, "x.npy": b"\x93NUMPY"}), LAYOUT)
    classes = tar_of({f"{number:0>250}/{number}.png": png for number in range(2_000)})
    yield dataset("images_long_class_names", classes, LAYOUT)
    inflating = zip_of({f"c/{n}.png": png + bytes(60 << 20) for n in range(6)}, deflated=True)
    yield dataset("images_deflated_bomb", inflating, BOMB)
    yield dataset("images_large_member", zip_of({"c/a.png": png + bytes(65 << 20)}, deflated=True), TOO_LARGE)
    name = zip_of({"<img src=x onerror=alert(1)>/a.png": png, "=cmd|'calc'!A0/b.png": png})
    yield dataset("images_class_is_markup", name, {"ok"})


def _with_hole(png: bytes) -> bytes:
    """A zip whose directory leaves out the second of three members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("c/a.png", "c/b.png", "c/c.png"):
            archive.writestr(name, png)
        del archive.NameToInfo["c/b.png"]
        archive.filelist.pop(1)
    return buffer.getvalue()


def _png(width: int, height: int, *, depth: int = 8) -> bytes:
    """A PNG file's header and nothing else."""
    header = b"IHDR" + struct.pack(">2L5B", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">L", 13) + header + struct.pack(">L", zlib.crc32(header))
