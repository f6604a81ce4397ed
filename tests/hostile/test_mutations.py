"""Good files, damaged at random: every reader answers with a documented code, or finds nothing wrong."""

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as safetensors_save

from app.admission import AdmissionError, admit_dataset, admit_model
from app.spec.data import DatasetSpec
from tests.support.files import onnx_classifier
from tests.support.hostile.archives import entry, tarred, zipped
from tests.support.hostile.corpus import Corpus
from tests.support.hostile.onnx_files import external, referring
from tests.support.hostile.pt2_files import PROGRAM, Linear, good_pt2, repacked, saved
from tests.support.hostile.tables import good_parquet
from tests.support.hostile.weights_files import ARCHITECTURE
from tests.support.pictures import picture, tar_of, zip_of

GIB = 1 << 30
Damage = list[tuple[float, bytes]]


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones((40, 4), np.float32), y=np.arange(40))
    return buffer.getvalue()


def npz_compressed() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.random.default_rng(0).normal(size=(40, 4)), y=np.arange(40))
    return buffer.getvalue()


def onnx_zip() -> bytes:
    return zipped([("m.onnx", referring(external("w.bin"))), ("w.bin", b"\0" * 16)], zipfile.ZIP_DEFLATED)


def onnx_tar() -> bytes:
    members = [(entry("m.onnx"), referring(external("w.bin"))), (entry("w.bin"), b"\0" * 16)]
    return tarred(members, format_=tarfile.PAX_FORMAT)


def safetensors() -> bytes:
    return safetensors_save({"conv.weight": np.ones((2, 3), np.float32), "count": np.array(1)})


def pth() -> bytes:
    return saved(Linear().state_dict())


def pth_before_16() -> bytes:
    buffer = io.BytesIO()
    torch.save(Linear().state_dict(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def pictures_zip() -> bytes:
    turned = picture(form="JPEG", orientation=6)
    return zip_of({"train/a/0.png": picture(), "train/b/1.jpg": turned, "test/a/2.png": picture()}, deflated=True)


def pictures_tar() -> bytes:
    return tar_of({f"{'ab'[number % 2]}/{number}.jpg": picture(form="JPEG", orientation=3) for number in range(6)})


GOOD: list[Callable[[], bytes]] = [
    onnx_classifier,
    onnx_zip,
    onnx_tar,
    good_pt2,
    npz,
    npz_compressed,
    safetensors,
    pth,
    pth_before_16,
    pictures_zip,
    pictures_tar,
    good_parquet,
]


def is_documented(path: Path) -> bool:
    """Read the file as a model, as weights and as a data set; anything but an `AdmissionError` goes through."""
    for read in (
        lambda: admit_model(path, max_inflated_bytes=GIB),
        lambda: admit_model(path, max_inflated_bytes=GIB, architecture=ARCHITECTURE),
        lambda: admit_dataset(path, DatasetSpec(), max_inflated_bytes=GIB),
    ):
        try:
            read()
        except AdmissionError as error:
            if not (error.code and error.remedy and error.detail):
                return False
    return True


def damaged(content: bytes, damage: Damage, kept: float) -> bytes:
    changed = bytearray(content)
    for place, patch in damage:
        at = int(place * len(changed))
        changed[at : at + len(patch)] = patch
    return bytes(changed[: max(1, int(kept * len(changed)))])


places = st.floats(0, 1, exclude_max=True)
patches = st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, b"\0" * 8, b"PK\x01\x02", b"\x80\x02c"])
many = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("make", GOOD)
@many
@given(damage=st.lists(st.tuples(places, patches), max_size=6), kept=st.just(1.0) | places)
@example(damage=[], kept=1.0)
def test_bytes_changed_or_cut(tmp_path: Path, make: Callable[[], bytes], damage: Damage, kept: float) -> None:
    path = tmp_path / "upload"
    path.write_bytes(damaged(make(), damage, kept))
    assert is_documented(path)


@many
@given(damage=st.lists(st.tuples(places, patches), min_size=1, max_size=4))
def test_a_program_changed_inside_its_archive(tmp_path: Path, damage: Damage) -> None:
    """The archive's checksums hold, so the damage reaches the readers of the program."""
    with zipfile.ZipFile(io.BytesIO(good_pt2())) as archive:
        root = archive.namelist()[0].partition("/")[0]
        program = archive.read(f"{root}/{PROGRAM}")
    path = tmp_path / "upload"
    path.write_bytes(repacked({PROGRAM: damaged(program, damage, 1.0)}))
    assert is_documented(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "as_int", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@many
@given(path=st.lists(st.integers(0, 50), min_size=1, max_size=8), value=values)
def test_a_program_with_a_value_of_another_type(tmp_path: Path, path: list[int], value: object) -> None:
    def edit(parsed: object) -> None:
        for step in path[:-1]:
            children = list(parsed.values()) if isinstance(parsed, dict) else parsed
            child = children[step % len(children)] if isinstance(children, list) and children else None
            if not isinstance(child, dict | list) or not child:
                break
            parsed = child
        if isinstance(parsed, dict):
            parsed[list(parsed)[path[-1] % len(parsed)]] = value
        elif isinstance(parsed, list):
            parsed[path[-1] % len(parsed)] = value

    file = tmp_path / "upload"
    file.write_bytes(repacked({PROGRAM: edit}))
    assert is_documented(file)


READ_IN_A_SMALL_PROCESS = """
import resource, sys
from pathlib import Path
from app.admission import AdmissionError, admit_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    admit_model(Path(sys.argv[1]), max_inflated_bytes=1 << 40)
except AdmissionError as error:
    print(error.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="ru_maxrss counts bytes there")
@pytest.mark.parametrize("name", ["onnx_many_fields", "onnx_chain", "pt2_json_wide", "pt2_many_nodes", "zip_many"])
def test_the_dearest_files_stay_small(corpus: Corpus, name: str) -> None:
    """Resident memory while reading what is most expensive to read, in a process of its own."""
    (file,) = [file for file in corpus[1] if file.name == name]
    command = [sys.executable, "-c", READ_IN_A_SMALL_PROCESS, str(file.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, kibibytes = done.stdout.split()
    assert code in file.codes
    assert int(kibibytes) < 400_000
