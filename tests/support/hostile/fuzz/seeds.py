"""Good files for every reader, small, of every form that it takes."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save as safetensors_save

from tests.support.files import onnx_classifier
from tests.support.hostile.archives import entry, tarred, zipped
from tests.support.hostile.keras_files import DENSE, described, h5_file, hdf5, keras_file
from tests.support.hostile.onnx_files import external, referring
from tests.support.hostile.pt2_files import PROGRAM, Linear, good_pt2, saved
from tests.support.hostile.tables import good_parquet
from tests.support.pictures import picture, tar_of, zip_of
from tests.support.texts import words

STATE = {"conv.weight": np.ones((2, 3), np.float32), "count": np.array(1)}
THRIFT = b"\x15\x54\x18\x05hello\x19\x2c\x15\x02\x19\x35\x02\x04\x06\x00\x15\x04\x00\x11\x00"
"""A structure of an integer, a text, a list of two structures (one with a list of three numbers), and a flag."""


def npz(*, deflated: bool) -> bytes:
    buffer = io.BytesIO()
    save = np.savez_compressed if deflated else np.savez
    save(buffer, x=np.ones((40, 4), np.float32), y=np.arange(40))
    return buffer.getvalue()


def legacy_pth() -> bytes:
    buffer = io.BytesIO()
    torch.save(Linear().state_dict(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def member(archive: bytes, ending: str) -> bytes:
    """The content of the member whose name ends so."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.read(next(name for name in opened.namelist() if name.endswith(ending)))


def archives() -> list[bytes]:
    members = [("a/b.txt", b"x" * 300), ("c.bin", bytes(range(256)))]
    return [zipped(members), zipped(members, zipfile.ZIP_DEFLATED)]


def tars() -> list[bytes]:
    long = [(entry("f" * 60 + "/" + "n" * 90), b"1" * 700), (entry("short"), b"2")]
    return [tarred(long, format_=form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


def bundles() -> list[bytes]:
    members = [("m.onnx", referring(external("w.bin"))), ("w.bin", b"\0" * 16)]
    return [zipped(members), tarred([(entry(name), content) for name, content in members]), onnx_classifier()]


def texts() -> list[bytes]:
    table, tokenizer = io.BytesIO(), json.dumps(words("a", "b")).encode()
    pq.write_table(pa.table({"text": ["a b", "b", "a"], "y": [0, 1, 1]}), table)
    return [zipped([("rows.parquet", table.getvalue()), ("tokenizer.json", tokenizer)])]


def pictures() -> list[bytes]:
    return [picture(), picture(form="JPEG"), picture(form="JPEG", orientation=6)]


def folders() -> list[bytes]:
    files = {f"{'ab'[number % 2]}/{number}.jpg": content for number, content in enumerate(pictures() * 2)}
    return [zip_of(files), tar_of(files), zip_of(files, deflated=True)]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "zip": archives,
    "tar": tars,
    "protobuf": lambda: [onnx_classifier(), referring(external("w.bin"))],
    "thrift": lambda: [THRIFT],
    "parquet": lambda: [good_parquet()],
    "hdf5": lambda: [h5_file(described(DENSE)), hdf5({"model_config": b"{}", "keras_version": b"3.15.1"})],
    "pickle": lambda: [member(saved(Linear().state_dict()), "data.pkl"), member(good_pt2(), "constants_config.json")],
    "image_head": pictures,
    "safetensors": lambda: [safetensors_save(STATE, {"format": "pt"})],
    "bounded_json": lambda: [member(good_pt2(), PROGRAM), json.dumps(described(DENSE)).encode()],
    "expressions": lambda: [b"Mod(2*s77 + 1, 4)", b"L['x'].size()[0] <= 64", b"(s0//2)**2 - Min(s0, 3)"],
    "model": bundles,
    "keras": lambda: [keras_file(described(DENSE)), h5_file(described(DENSE))],
    "pt2": lambda: [good_pt2()],
    "weights": lambda: [saved(Linear().state_dict()), legacy_pth(), safetensors_save(STATE)],
    "npz": lambda: [npz(deflated=False), npz(deflated=True)],
    "image_folder": folders,
    "text_archive": texts,
}


def write_seeds(folder: Path, name: str) -> None:
    """One file for each seed of a reader."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(SEEDS[name]()):
        (folder / f"{number:02}").write_bytes(content)
