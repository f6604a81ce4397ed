"""Each place of each description, with a value of every other type there: refused with a code, or found good.

The readers answer for it themselves: what falls to the last `except` of admission is a defect, and fails here.
"""

import contextlib
import copy
import io
import itertools
import json
import logging
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.admission import AdmissionError, admit_dataset, admit_model
from app.spec.data import DatasetSpec
from app.spec.tokenize import Tokenize
from tests.support.files import onnx_classifier
from tests.support.hostile.archives import zipped
from tests.support.hostile.keras_files import SUPERBLOCK, h5_file, keras_file, layer
from tests.support.hostile.pt2_files import PROGRAM, WEIGHTS, Linear, good_pt2, repacked, saved
from tests.support.hostile.tables import good_parquet
from tests.support.hostile.weights_files import ARCHITECTURE

GIB: Final = 1 << 30
WRONG: Final[tuple[Any, ...]] = (None, True, -1, 2**70, 0.5, "", [], [[]], [1, [2]], {}, {"name": []})
"""A value of each type of JSON, empty and not, and what no set takes."""


def changed(document: Any) -> Iterator[Any]:
    """The document with each of its values replaced by each wrong one, or left out; one change at a time."""
    document = copy.deepcopy(document)
    waiting = [document]
    while waiting:
        parent = waiting.pop()
        for place, value in list(parent.items() if isinstance(parent, dict) else enumerate(parent)):
            for wrong in WRONG:
                parent[place] = wrong
                yield document
            parent[place] = value
            if isinstance(value, dict | list):
                waiting.append(value)
        for place in list(parent) if isinstance(parent, dict) else ():
            value = parent.pop(place)
            yield document
            parent[place] = value


Read = Callable[[bytes], object]


@pytest.fixture
def read_model(tmp_path: Path) -> Read:
    """Admits these bytes as a model."""
    return lambda content: admit_model(_written(tmp_path, content), max_inflated_bytes=GIB)


@pytest.fixture
def read_weights(tmp_path: Path) -> Read:
    """Admits these bytes as weights of a declared architecture."""
    return lambda content: admit_model(_written(tmp_path, content), max_inflated_bytes=GIB, architecture=ARCHITECTURE)


@pytest.fixture
def read_rows(tmp_path: Path) -> Read:
    """Admits these bytes as a data set whose text, if any, is tokenized."""

    def read(content: bytes) -> object:
        tokenize = Tokenize(text=("text",), max_length=8) if b"tokenizer.json" in content else None
        path = _written(tmp_path, content)
        return admit_dataset(path, DatasetSpec(tokenize=tokenize), max_inflated_bytes=GIB)

    return read


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "upload"
    path.write_bytes(content)
    return path


def require_answered(read: Read, contents: Iterator[bytes], caplog: pytest.LogCaptureFixture) -> None:
    """Read them all: an `AdmissionError` or none, and no defect logged."""
    refused = 0
    with caplog.at_level(logging.ERROR, "app.admission"):
        for content in contents:
            try:
                read(content)
            except AdmissionError:
                refused += 1
    assert refused > 30
    defects = {record.exc_text or record.getMessage() for record in caplog.records}
    assert not defects, "\n".join(sorted(defects))


def test_a_program(read_model: Read, caplog: pytest.LogCaptureFixture) -> None:
    require_answered(read_model, _members_of_pt2(PROGRAM), caplog)


def test_the_weights_of_a_program(read_model: Read, caplog: pytest.LogCaptureFixture) -> None:
    require_answered(read_model, _members_of_pt2(WEIGHTS), caplog)


def _members_of_pt2(name: str) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(good_pt2())) as archive:
        document = json.loads(archive.read(f"{archive.namelist()[0].partition('/')[0]}/{name}"))
    for variant in changed(document):
        yield repacked({name: json.dumps(variant).encode()})


def _input(*shape: int | None) -> dict[str, Any]:
    return layer("InputLayer", "rows", batch_shape=list(shape), dtype="float32", sparse=False)


POLICY: Final = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
KERAS: Final[dict[str, list[dict[str, Any]]]] = {
    "convolutions": [
        _input(None, 12, 10, 4),
        layer("Conv2D", "a", filters=6, kernel_size=[3, 2], strides=[1, 1], groups=2, padding="same", dtype=POLICY),
        layer("DepthwiseConv2D", "b", kernel_size=3, depth_multiplier=1, dilation_rate=[1, 1], activation="relu"),
        layer("SeparableConv2D", "c", filters=4, kernel_size=[1, 1], data_format="channels_last", use_bias=True),
        layer("Conv2DTranspose", "d", filters=4, kernel_size=[2, 2], strides=[2, 2], output_padding=None),
        layer("BatchNormalization", "e", axis=[-1], center=True, scale=False),
        layer("LayerNormalization", "f", axis=-1),
        layer("ZeroPadding2D", "g", padding=[[0, 1], [2, 1]]),
        layer("Cropping2D", "h", cropping=[1, 2]),
        layer("UpSampling2D", "i", size=[2, 2]),
        layer("MaxPooling2D", "j", pool_size=[2, 2], strides=None),
        layer("GlobalAveragePooling2D", "k", keepdims=True),
    ],
    "sequences": [
        _input(None, 6, 5),
        layer("Permute", "a", dims=[2, 1]),
        layer("Reshape", "b", target_shape=[6, -1]),
        layer("ZeroPadding1D", "c", padding=[1, 1]),
        layer("LSTM", "d", units=4, return_sequences=True, use_bias=True, recurrent_activation="sigmoid"),
        layer("GRU", "e", units=3, reset_after=True),
        layer("RepeatVector", "f", n=2),
        layer("Flatten", "g"),
        layer("Embedding", "h", input_dim=4, output_dim=2),
        layer("Dense", "i", units=2, kernel_initializer={"module": "keras.initializers", "class_name": "Zeros"}),
    ],
}


def _functional() -> dict[str, Any]:
    def output_of(name: str, *shape: int | None) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"shape": list(shape), "keras_history": [name, 0, 0]}}

    rows = {**_input(None, 4), "name": "rows", "inbound_nodes": []}
    merge = {
        **layer("Concatenate", "merge", axis=-1),
        "name": "merge",
        "inbound_nodes": [{"args": [[output_of("rows", None, 4), output_of("rows", None, 4)]], "kwargs": {}}],
    }
    both = {"layers": [rows, merge], "input_layers": [["rows", 0, 0]], "output_layers": [["merge", 0, 0]]}
    return layer("Functional", "model", "keras", **both)


KERAS_MODELS: Final = {name: layer("Sequential", "m", "keras", layers=chain) for name, chain in KERAS.items()} | {
    "functional": _functional(),
}


@pytest.mark.parametrize("model", KERAS_MODELS.values(), ids=KERAS_MODELS)
def test_a_keras_model(read_model: Read, caplog: pytest.LogCaptureFixture, model: dict[str, Any]) -> None:
    assert read_model(keras_file(model))
    require_answered(read_model, map(keras_file, changed(model)), caplog)


def test_the_attribute_of_an_h5_file(read_model: Read, caplog: pytest.LogCaptureFixture) -> None:
    good = h5_file(KERAS_MODELS["functional"])
    assert read_model(good)
    require_answered(read_model, _each_byte(good, range(SUPERBLOCK + 120)), caplog)


def test_a_header_of_safetensors(read_weights: Read, caplog: pytest.LogCaptureFixture) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "features.0.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    }

    def file(changed_header: Any) -> bytes:
        text = json.dumps(changed_header).encode()
        return struct.pack("<Q", len(text)) + text + bytes(24)

    require_answered(read_weights, map(file, changed(header)), caplog)


def test_a_tokenizer(read_rows: Read, caplog: pytest.LogCaptureFixture) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a b"], "y": [0]}), buffer)
    outline = {
        "added_tokens": [{"id": 2, "content": "[CLS]"}],
        "padding": {"pad_token": "[PAD]"},
        "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1}, "unk_token": "[UNK]"},
    }

    def file(changed_outline: Any) -> bytes:
        return zipped([("rows.parquet", buffer.getvalue()), ("tokenizer.json", json.dumps(changed_outline).encode())])

    assert read_rows(file(outline))
    require_answered(read_rows, map(file, changed(outline)), caplog)


def _each_byte(good: bytes, places: range) -> Iterator[bytes]:
    """Bytes that hold a type (Thrift's low four bits, Protobuf's low three) say another, lengths other lengths."""
    for place in places:
        kept = good[place] & 0xF0
        for value in (*(kept | kind for kind in (0, 1, 2, 3, 5, 6, 8, 9, 11, 12)), 0x00, 0x7F, 0xFF):
            yield good[:place] + bytes([value]) + good[place + 1 :]


def test_a_footer_of_parquet(read_rows: Read, caplog: pytest.LogCaptureFixture) -> None:
    good = good_parquet()
    footer = range(len(good) - 8 - int.from_bytes(good[-8:-4], "little"), len(good) - 8)
    require_answered(read_rows, _each_byte(good, footer), caplog)


def test_labels_whose_bounds_are_of_another_type(read_rows: Read, caplog: pytest.LogCaptureFixture) -> None:
    """A bool where Thrift's structure of statistics has bytes."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": [1_234_567, 7_654_321]}), buffer)
    said = b"\x28\x08" + struct.pack("<q", 7_654_321) + b"\x18\x08" + struct.pack("<q", 1_234_567)
    whole = buffer.getvalue()
    size = int.from_bytes(whole[-8:-4], "little")
    footer = whole[-8 - size : -8].replace(said, said[:10] + b"\x11")
    with pytest.raises(AdmissionError) as refused:
        read_rows(whole[: -8 - size] + footer + struct.pack("<I", len(footer)) + b"PAR1")
    assert refused.value.code == "dataset.malformed"
    assert not caplog.records


def test_a_defect_of_a_reader_is_an_answer_and_a_line_in_the_log(
    read_model: Read, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trip(*_: object) -> None:
        raise TypeError("unhashable type: 'list'")

    monkeypatch.setattr("app.admission.model.read_onnx", trip)
    with pytest.raises(AdmissionError) as refused:
        read_model(onnx_classifier())
    assert refused.value.code == "model.malformed"
    assert "unhashable" not in refused.value.detail
    assert "unhashable" in caplog.text


def test_an_onnx_file(read_model: Read, caplog: pytest.LogCaptureFixture) -> None:
    good = onnx_classifier()
    require_answered(read_model, _each_byte(good, range(len(good))), caplog)


PUSHED: Final = (
    b"N",
    b"\x88",
    b"]",
    b"}",
    b")",
    b"K\x05",
    b"\x8a\x09" + b"\xff" * 8 + b"\x7f",
    b"X\x01\0\0\0x",
    b"G" + bytes(8),
)
"""Opcodes that push None, True, an empty list, dict and tuple, a small number, a large one, a text, a float."""


def test_a_pickle_of_weights(read_weights: Read, caplog: pytest.LogCaptureFixture) -> None:
    """Each opcode of a state_dict replaced by one that pushes a value, or left out."""
    with zipfile.ZipFile(io.BytesIO(saved(Linear().state_dict()))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(member for member in members if member.endswith("data.pkl"))
    places = [place for _, _, place in pickletools.genops(members[name])]

    def files() -> Iterator[bytes]:
        for start, end in itertools.pairwise([*places, len(members[name])]):
            for pushed in (*PUSHED, b""):
                edited = members[name][:start] + pushed + members[name][end:]
                yield zipped((members | {name: edited}).items())

    require_answered(read_weights, files(), caplog)


@pytest.mark.parametrize(
    "value", [*map(repr, WRONG), "float('nan')", "1e999", "b''", "()", "(1,)", "(None,)", "('x',)", "(True,)"]
)
@pytest.mark.parametrize("key", ["descr", "fortran_order", "shape"])
def test_a_header_of_npy(read_rows: Read, caplog: pytest.LogCaptureFixture, key: str, value: str) -> None:
    fields = {"descr": "'<f4'", "fortran_order": "False", "shape": "(2, 3)"} | {key: value}
    text = "{" + ", ".join(f"'{name}': {literal}" for name, literal in fields.items()) + "}"
    header = text.encode().ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(24)
    with caplog.at_level(logging.ERROR, "app.admission"), contextlib.suppress(AdmissionError):
        read_rows(zipped([("x.npy", array)]))
    assert not caplog.records
