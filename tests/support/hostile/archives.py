"""Zip and tar files on which two readers disagree, or which leave their folder when they are unpacked."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Iterator

from tests.support.files import onnx_classifier
from tests.support.hostile.kinds import Hostile, model

SLIP = frozenset({"archive.unsafe_member"})
MALFORMED = frozenset({"model.malformed"})


def zipped(items: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in items:
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: Iterable[tuple[tarfile.TarInfo, bytes]], *, format_: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str) -> tarfile.TarInfo:
    """A tar member's header."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, pax
    return info


def files() -> Iterator[Hostile]:
    yield from _names()
    yield from _contradictions()
    yield from _tars()


def _names() -> Iterator[Hostile]:
    for title, name in {
        "parent": "../../../../tmp/slip",
        "middle": "a/../../b.onnx",
        "absolute": "/etc/cron.d/slip",
        "dot": "././m.onnx",
        "dots": "./../m.onnx",
        "dot_root": ".//etc/slip",
        "dot_inside": "a/./m.onnx",
        "backslash": "a\\..\\..\\b.onnx",
        "drive": "C:/slip.onnx",
        "newline": "a\r\nb.onnx",
        "empty_part": "a//b.onnx",
        "drive_backslash": "C:\\x.onnx",
        "drive_relative": "c:m.onnx",
        "long": "a" * 5000 + ".onnx",
    }.items():
        yield model(f"zip_name_{title}", zipped([(name, b"x")]), SLIP)
    link = zipfile.ZipInfo("w.bin")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    yield model("zip_symlink", zipped([(link, b"/etc/hostname")]), SLIP)
    device = zipfile.ZipInfo("w.bin")
    device.create_system, device.external_attr = 3, 0o020666 << 16
    yield model("zip_device", zipped([(device, b"")]), SLIP)
    yield model("zip_many", zipped((f"f{i}", b"") for i in range(30_000)), frozenset({"archive.too_many_members"}))


def _contradictions() -> Iterator[Hostile]:
    graph = onnx_classifier()
    single = zipped([("m.onnx", graph)])
    two = zipped([("m.onnx", graph), ("w.bin", b"B" * 64)])
    yield model("zip_untouched", single, {"ok"})
    central = single.index(b"PK\x01\x02")
    yield model("zip_local_name_differs", single.replace(b"m.onnx", b"n.onnx", 1), MALFORMED)
    yield model("zip_local_method_differs", _patched(single, 8, struct.pack("<H", 8)), MALFORMED)
    yield model("zip_local_size_differs", _patched(single, 18, struct.pack("<LL", 8, 8)), MALFORMED)
    yield model("zip_encrypted", _patched(_patched(single, 6, b"\1"), central + 8, b"\1"), MALFORMED)
    yield model("zip_member_reaches_out", _patched(single, central + 42, struct.pack("<L", 1 << 30)), MALFORMED)
    yield model("zip_sizes_contradict", _patched(single, central + 24, struct.pack("<L", 1 << 30)), MALFORMED)
    second = two.rindex(b"PK\x01\x02")
    yield model("zip_overlap", _patched(two, second + 42, struct.pack("<L", 0)), MALFORMED)
    yield model("zip_bytes_before", b"PK\x03\x04 hidden" + single, MALFORMED)
    yield model("zip_bytes_after", single + b"#!/bin/sh\n", MALFORMED)
    yield model("zip_in_comment", single[:-2] + struct.pack("<H", len(two)) + two, MALFORMED)
    yield model("zip_truncated", single[:-30], MALFORMED)
    yield model("zip_count_lies", _patched(single, len(single) - 14, struct.pack("<HH", 9, 9)), MALFORMED)
    yield model("zip_empty", b"PK\x05\x06" + b"\0" * 18, frozenset({"model.unsupported_format"}))
    yield model("zip_lzma", zipped([("m.onnx", graph)], zipfile.ZIP_LZMA), MALFORMED)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 1)
    end = single.index(b"PK\x05\x06")
    yield model("zip_second_directory", single[:end] + locator + single[end:], MALFORMED)
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("m.onnx", graph)
        archive.writestr("n.onnx", graph)
    yield model("zip_duplicate", twice.getvalue().replace(b"n.onnx", b"m.onnx"), MALFORMED)
    yield model("zip_dotted_twice", zipped([("m.onnx", graph), ("./m.onnx", graph)]), MALFORMED)
    hidden = zipped([("m.onnx", graph), ("x.onnx", b"B" * 64)])
    yield model("zip_hidden_between", _without_last_entry(hidden), MALFORMED)


def _tars() -> Iterator[Hostile]:
    for title, kind in {
        "symlink": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "device": tarfile.CHRTYPE,
        "sparse": tarfile.GNUTYPE_SPARSE,
    }.items():
        yield model(f"tar_{title}", tarred([(entry("w.bin", kind=kind, link="/etc/hostname"), b"")]), SLIP)
    yield model("tar_parent", tarred([(entry("../../slip"), b"x")]), SLIP)
    yield model("tar_dot_parent", tarred([(entry("./../slip"), b"x")]), SLIP)
    yield model("tar_dot_link", tarred([(entry("./", kind=tarfile.SYMTYPE, link="/etc"), b"")]), SLIP)
    yield model("tar_litter_link", tarred([(entry("__MACOSX/a", kind=tarfile.SYMTYPE, link="/etc"), b"")]), SLIP)
    yield model("tar_absolute", tarred([(entry("/etc/cron.d/slip"), b"x")]), SLIP)
    pax = tarfile.PAX_FORMAT
    yield model("tar_pax_path", tarred([(entry("m.onnx", path="../../slip"), b"x")], format_=pax), SLIP)
    yield model("tar_pax_sparse", tarred([(entry("m.onnx", **{"GNU.sparse.size": "9"}), b"x")], format_=pax), SLIP)
    yield model(
        "tar_pax_huge", tarred([(entry("m.onnx", comment="x" * 10**6), onnx_classifier())], format_=pax), MALFORMED
    )
    good = tarred([(entry("m.onnx"), onnx_classifier())])
    yield model("tar_untouched", good, {"ok"})
    yield model("tar_checksum", _patched(good, 0, b"n"), MALFORMED)
    yield model("tar_truncated", good[:700], MALFORMED)
    yield model("tar_size_lies", _tar_size(good, b"77777777777"), MALFORMED)
    many = tarred((entry(f"f{i}"), b"") for i in range(25_000))
    yield model("tar_many", many, frozenset({"archive.too_many_members"}))


def _patched(data: bytes, position: int, new: bytes) -> bytes:
    return data[:position] + new + data[position + len(new) :]


def _without_last_entry(data: bytes) -> bytes:
    """The archive with its last member's bytes still there, and its directory entry gone."""
    first, last, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    record = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, last - first, first, 0)
    return data[:last] + record if end else data


def _tar_size(data: bytes, digits: bytes) -> bytes:
    header = bytearray(data[:512])
    header[124:136] = digits + b"\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]
