"""Weights, `.safetensors` and `.pth`, sent with an architecture: what lies about its tensors, and what runs code."""

import collections
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from app.spec.architecture import Architecture
from tests.support.files import weights_arrays
from tests.support.hostile.archives import zipped
from tests.support.hostile.kinds import Hostile, weights
from tests.support.hostile.payloads import Call, Payloads
from tests.support.hostile.pt2_files import Linear, good_pt2, saved

DECLARED = json.dumps(
    {
        "architecture": "torchvision:squeezenet1_1",
        "kwargs": {"num_classes": 2},
        "input": {"shape": [3, 32, 32]},
    }
)
ARCHITECTURE = Architecture.model_validate_json(DECLARED)
MALFORMED = frozenset({"model.malformed"})
MISMATCH = frozenset({"model.weights_mismatch"})
PICKLED = frozenset({"model.unsafe_pickle"})
COMPLEX = frozenset({"model.too_complex"})
TYPE = frozenset({"model.unsupported_type"})
NAMES = ("<img src=x onerror=alert(1)>", "=cmd|'/C calc'!A0", "a\r\nERROR root: forged", "../../../etc", "\u202e")


def files(payloads: Payloads) -> Iterator[Hostile]:
    for name, content, codes in (*_safetensors(), *_pth(payloads), *_storages(), *_legacy(payloads)):
        yield weights(name, content, codes, DECLARED)


Case = tuple[str, bytes, frozenset[str] | set[str]]


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, as it is if it is bytes already."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int = 0, end: int = 4, **said: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [begin, end], **said}


def _safetensors() -> Iterator[Case]:
    file = safetensors({"w": entry()}, bytes(4))
    yield "st_other_tensors", file, MISMATCH
    yield "st_no_tensors", safetensors({}), MISMATCH
    yield "st_names", safetensors({name: entry(4 * i, 4 * i + 4) for i, name in enumerate(NAMES)}, bytes(20)), MISMATCH
    yield "st_header_huge", safetensors({"w": entry()}, bytes(4), 1 << 62), MALFORMED
    yield "st_header_beyond", safetensors({"w": entry()}, b"", 4096), MALFORMED
    yield "st_header_bomb", safetensors(b"{" + b" " * (9 << 20) + b"}"), COMPLEX
    yield "st_header_cut", file[:30], MALFORMED
    yield "st_header_not_json", safetensors(b'{"w": nan}'), MALFORMED
    yield "st_header_not_utf8", safetensors(b'{"\xff": 1}'), MALFORMED
    yield "st_header_nested", safetensors(b'{"a":' * 15_000 + b"1" + b"}" * 15_000), COMPLEX
    yield "st_header_lists", safetensors(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), COMPLEX | MALFORMED
    yield "st_many_tensors", safetensors({f"w{i}": entry(0, 0, shape=[0]) for i in range(25_000)}), COMPLEX
    twice = b'{"a":%s,"a":%s}' % tuple(json.dumps(entry(0, 4 * n, shape=[n])).encode() for n in (1, 2))
    yield "st_name_twice", safetensors(twice, bytes(8)), MALFORMED
    yield "st_overlap", safetensors({"a": entry(), "b": entry()}, bytes(4)), MALFORMED
    partly = {"a": entry(0, 8, shape=[2]), "b": entry(4, 12, shape=[2])}
    yield "st_partial_overlap", safetensors(partly, bytes(12)), MALFORMED
    yield "st_gap", safetensors({"a": entry(), "b": entry(8, 12)}, bytes(12)), MALFORMED
    yield "st_bytes_after", file + b"#!/bin/sh\n", MALFORMED
    yield "st_and_zip", file + good_pt2(), MALFORMED
    yield "st_data_missing", file[:-2], MALFORMED
    yield "st_no_data_at_all", safetensors({"w": entry(0, 1 << 40, shape=[1 << 38])}), MALFORMED
    metadata = {"__metadata__": {"format": ["pt"]}, "w": entry()}
    yield "st_metadata", safetensors(metadata, bytes(4)), MALFORMED
    for name, said in {
        "shape_overflow": {"shape": [1 << 33, 1 << 33]},
        "shape_negative": {"shape": [-1]},
        "shape_fraction": {"shape": [1.0]},
        "shape_huge": {"shape": [10**4000]},
        "shape_text": {"shape": "1"},
        "rank": {"shape": [1] * 40},
        "offset_negative": {"data_offsets": [-4, 0]},
        "offsets_reversed": {"data_offsets": [4, 0]},
        "offsets_three": {"data_offsets": [0, 4, 4]},
        "width": {"dtype": "F64"},
        "narrow": {"dtype": "F16"},
        "more": {"code": "x"},
    }.items():
        yield f"st_{name}", safetensors({"w": entry(**said)}, bytes(4)), MALFORMED
    yield "st_dtype", safetensors({"w": entry(dtype="F8_E4M3", data_offsets=[0, 1])}, bytes(1)), TYPE
    yield "st_dtype_number", safetensors({"w": entry(dtype=7)}, bytes(4)), MALFORMED


def _pth(payloads: Payloads) -> Iterator[Case]:
    state = {name: torch.from_numpy(array) for name, array in weights_arrays(ARCHITECTURE).items()}
    some = dict(list(state.items())[:2])
    yield "pth_good", saved(state), {"ok"}
    yield "pth_other_network", saved(Linear().state_dict()), MISMATCH
    yield "pth_names", saved({name: torch.ones(2) for name in NAMES}), MISMATCH
    yield "pth_not_text_names", saved({1: torch.ones(2)}), MISMATCH
    yield "pth_checkpoint", saved({"epoch": 3, "state_dict": some}), MISMATCH
    yield "pth_one_tensor", saved(torch.ones(2)), MISMATCH
    yield "pth_list", saved([torch.ones(2)]), MISMATCH
    yield "pth_declared_call", saved({**some, "w": payloads.call("pth_declared_call")}), PICKLED
    yield "pth_declared_module", saved(Linear()), PICKLED
    yield "pth_constructor", saved({"w": Call(torch.FloatTensor, 3 << 29)}), PICKLED
    meta = Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (9, 9), (9, 1), False)
    yield "pth_meta_tensor", saved({"w": meta}), PICKLED
    quantized = Call(torch._utils._rebuild_qtensor, 1, 0, (2,), (1,), (torch.per_tensor_affine, 1.0, 0), False, {})
    yield "pth_quantized", saved({"w": quantized}), PICKLED
    yield "pth_sparse", saved({"w": torch.eye(3).to_sparse()}), PICKLED
    yield "pth_complex", saved({"w": torch.ones(2, dtype=torch.complex64)}), TYPE
    hooked = collections.OrderedDict(some)
    hooked.hook = 1  # type: ignore[attr-defined]  # an attribute that unpickling would set
    yield "pth_state", saved(hooked), PICKLED
    yield "pth_truncated", saved(some)[:-40], MALFORMED
    with zipfile.ZipFile(io.BytesIO(saved(some))) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    yield "pth_stray_member", zipped([*members, ("archive/code.py", b"evil()")]), PICKLED
    big = [(name, b"big" if name.endswith("byteorder") else data) for name, data in members]
    yield "pth_big_endian", zipped(big), MALFORMED
    yield "pth_deflated", zipped(members, zipfile.ZIP_DEFLATED), {"model.decompression_bomb"} | PICKLED


class _Reference:
    def __init__(self, elements: int, device: str = "cpu", key: str = "0") -> None:
        self.reference = ("storage", torch.FloatStorage, key, device, elements)


class _Pickler(pickle._Pickler):  # the one in Python, whose persistent_id can be given
    def persistent_id(self, value: Any) -> Any:
        return value.reference if isinstance(value, _Reference) else None


def _archive(value: Any, data: bytes = bytes(16)) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, 2).dump(value)
    return _with_pickle(buffer.getvalue(), data)


def _with_pickle(pickled: bytes, data: bytes = bytes(16)) -> bytes:
    order = ("archive/byteorder", b"little"), ("archive/version", b"3\n")
    return zipped([("archive/data.pkl", pickled), *order, ("archive/data/0", data)])


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Call:
    hooks: Any = collections.OrderedDict()
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, hooks)


def _storages() -> Iterator[Case]:
    for name, storage, offset, size, stride in (
        ("stride_0", _Reference(4), 0, (1 << 20, 1 << 20), (0, 0)),
        ("elements_lie", _Reference(1 << 20), 0, (1 << 20,), (1,)),
        ("offset_negative", _Reference(4), -2, (2,), (1,)),
        ("offset_beyond", _Reference(4), 4, (1,), (1,)),
        ("stride_negative", _Reference(4), 3, (4,), (-1,)),
        ("size_huge", _Reference(4), 0, (1 << 70,), (0,)),
        ("no_storage", _Reference(4, key="9"), 0, (4,), (1,)),
        ("path_key", _Reference(4, key="../data.pkl"), 0, (4,), (1,)),
    ):
        yield f"pth_{name}", _archive({"w": _tensor(storage, offset, size, stride)}), MALFORMED
    yield "pth_from_a_gpu", _archive({"w": _tensor(_Reference(4, "cuda:3"), 0, (4,), (1,))}), MISMATCH
    yield "pth_cycle", _with_pickle(b"\x80\x02}q\x00X\x01\x00\x00\x00wh\x00s."), MISMATCH
    laughs = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    yield "pth_laughs", _with_pickle(b"\x80\x02K\x01q\x00" + laughs + b"}X\x01\x00\x00\x00wh%cs." % 60), MALFORMED
    yield "pth_deep", _with_pickle(b"\x80\x02]" + b"\x85" * 300_000 + b"."), MALFORMED
    yield "pth_two_pickles", _with_pickle(b"\x80\x02}.\x80\x02}."), MALFORMED


def _legacy(payloads: Payloads) -> Iterator[Case]:
    def before_16(value: Any) -> bytes:
        buffer = io.BytesIO()
        torch.save(value, buffer, _use_new_zipfile_serialization=False)
        return buffer.getvalue()

    good = before_16({"w": torch.ones(64)})
    yield "pth_old", good, MISMATCH
    yield "pth_old_module", before_16(Linear()), PICKLED
    yield "pth_old_call", before_16({"w": payloads.call("pth_old_call")}), PICKLED
    yield "pth_old_truncated", good[:-40], MALFORMED
    yield "pth_old_bytes_after", good + b"\0", MALFORMED
    count, more, number = struct.pack("<q", 64), struct.pack("<q", 1 << 40), struct.pack("<f", 1)
    yield "pth_old_elements_lie", good.replace(count + number, more + number), MALFORMED
    magic = good[: good.index(b".") + 1]
    yield "pth_old_only_magic", magic, MALFORMED
    call = pickle.dumps(payloads.call("pth_old_second"), 2)
    yield "pth_old_second_pickle", magic + call, PICKLED
    version = pickle.dumps(1001, 2)
    yield "pth_old_third_pickle", magic + version + call, PICKLED
    yield "pth_old_no_system", magic + version + pickle.dumps([], 2), MALFORMED
