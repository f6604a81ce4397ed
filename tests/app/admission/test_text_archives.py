"""A zip of Parquet and tokenizer.json is admitted by its outline, and what is wrong with it has a code and a remedy."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.admission import AdmissionError, admit_dataset
from app.admission.text_archive import MAX_TOKENIZER_BYTES
from app.spec.data import ArraySpec, DatasetInfo, DatasetSpec
from app.spec.tokenize import TokenizerInfo
from tests.support.texts import archive, words

TABLE = {"text": ["a", "b", "a b"], "other": ["b"] * 3, "number": [1, 2, 3], "y": np.arange(3)}


@pytest.fixture
def given(tmp_path: Path) -> Any:
    """Admits a table and a tokenizer under a declaration."""

    def admit(table: Any = TABLE, tokenizer: Any = None, *, limit: int = 1 << 30, **tokenize: Any) -> DatasetInfo:
        path = archive(tmp_path / "data", table, words("a", "b") if tokenizer is None else tokenizer)
        spec = DatasetSpec.model_validate({"tokenize": {"text": ["text"], "max_length": 8} | tokenize})
        return admit_dataset(path, spec, max_inflated_bytes=limit)

    return admit


def test_columns_of_text_become_arrays_of_tokens(given: Any) -> None:
    tokens = ArraySpec(dtype="int32", shape=(3, 8))
    numbers = ArraySpec(dtype="int64", shape=(3,))
    assert given(dtype="int32", mask="m") == DatasetInfo(
        format="parquet",
        rows=3,
        arrays={"number": numbers, "y": numbers, "input_ids": tokens, "m": tokens, "token_type_ids": tokens},
        label_range=(0, 2),
        tokenizer=TokenizerInfo(kind="WordLevel", pad_token="[PAD]"),
    )


@pytest.mark.parametrize(
    ("outline", "declared", "pad"),
    [
        ({}, "b", "b"),
        ({"padding": {"pad_token": "a"}}, None, "a"),
        ({"model": {"type": "Unigram", "vocab": [["<pad>", 0.0], ["a", -1.0]]}}, None, "<pad>"),
        ({"model": {"type": "BPE", "vocab": {}}, "added_tokens": [{"id": 0, "content": "<end>"}]}, "<end>", "<end>"),
    ],
)
def test_padding_is_declared_or_the_tokenizers_own(given: Any, outline: Any, declared: str | None, pad: str) -> None:
    assert given(tokenizer=words("a", "b", **outline), pad_token=declared).tokenizer.pad_token == pad


def test_numbers_in_a_zip_need_no_tokenizer(tmp_path: Path) -> None:
    path = archive(tmp_path / "data", TABLE, None)
    assert admit_dataset(path, DatasetSpec(), max_inflated_bytes=1 << 30).arrays.keys() == {"number", "y"}


@pytest.mark.parametrize(
    ("tokenizer", "says"),
    [
        (b"not JSON", "damaged or no JSON"),
        (b"\xff\xfe{}", "damaged or no JSON"),
        (b"[]", "no 'model'"),
        (b'{"model": 3}', "no 'model'"),
        (b'{"model": {"type": "Pickle"}}', "type 'Pickle'"),
        (b'{"model": {"vocab": {}}}', "type 'None'"),
        (b'{"a":' * 100_000, "nests too deep"),
        (b"[" + b"{}," * 900_000 + b"{}]", "too many things"),
        (json.dumps({"model": {"type": "BPE", "vocab": [None, [], [3]]}}).encode(), "a token to pad with"),
    ],
)
def test_a_tokenizer_that_is_none_is_refused(given: Any, tokenizer: bytes, says: str) -> None:
    with pytest.raises(AdmissionError, match=says) as error:
        given(tokenizer=tokenizer)
    assert (error.value.code, error.value.status) == ("dataset.tokenizer_unfit", 422)
    assert error.value.remedy


def test_a_tokenizer_of_a_hundred_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = archive(tmp_path / "data", TABLE, None)
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("tokenizer.json", b" " * 100_000_000)
    spec = DatasetSpec.model_validate({"tokenize": {"text": ["text"]}})
    with pytest.raises(AdmissionError, match=f"{MAX_TOKENIZER_BYTES} are allowed") as error:
        admit_dataset(path, spec, max_inflated_bytes=1 << 30)
    assert error.value.code == "dataset.tokenizer_unfit"


@pytest.mark.parametrize(
    ("table", "declared", "code", "pointer"),
    [
        (TABLE, {"text": ["absent"]}, "dataset.no_text", "/tokenize/text/0"),
        (TABLE, {"text": ["text", "number"]}, "dataset.no_text", "/tokenize/text/1"),
        (TABLE, {"mask": "number"}, "dataset.no_text", "/tokenize/mask"),
        (TABLE, {"pad_token": "c"}, "dataset.tokenizer_unfit", "/tokenize/pad_token"),
        ({"text": ["a", None, "b"]}, {}, "dataset.row_mismatch", None),
        (TABLE, {"max_length": 8192, "limit": 100_000}, "dataset.too_large", "/tokenize/max_length"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(
    given: Any, table: Any, declared: dict[str, Any], code: str, pointer: str | None
) -> None:
    with pytest.raises(AdmissionError) as error:
        given(table, **declared)
    assert (error.value.code, error.value.pointer) == (code, pointer)
    assert error.value.remedy


@pytest.mark.parametrize("zipped", [False, True])
def test_text_without_a_tokenizer_is_refused(tmp_path: Path, *, zipped: bool) -> None:
    path = archive(tmp_path / "data", TABLE, None)
    if not zipped:
        with zipfile.ZipFile(path) as whole:
            content = whole.read("rows.parquet")
        path.write_bytes(content)
    with pytest.raises(AdmissionError) as error:
        admit_dataset(path, DatasetSpec.model_validate({"tokenize": {"text": ["text"]}}), max_inflated_bytes=1 << 30)
    assert (error.value.code, error.value.pointer) == ("dataset.tokenizer_missing", "/tokenize")
    assert "tokenizer.json" in str(error.value.remedy)


@pytest.mark.parametrize(
    ("name", "method", "says"),
    [
        ("second.parquet", zipfile.ZIP_STORED, "there must be one .parquet file"),
        ("vocab.txt", zipfile.ZIP_STORED, "there must be one .parquet file"),
        ("rows.parquet", zipfile.ZIP_DEFLATED, "is compressed in the archive"),
    ],
)
def test_what_else_is_in_the_archive_is_named(tmp_path: Path, name: str, method: int, says: str) -> None:
    with zipfile.ZipFile(tmp_path / "data", "w") as zipped:
        zipped.writestr("tokenizer.json", json.dumps(words("a")))
        if name != "rows.parquet":
            zipped.writestr("rows.parquet", b"PAR1")
        zipped.writestr(name, b"PAR1" * 9, method)
    with pytest.raises(AdmissionError, match=says) as error:
        admit_dataset(tmp_path / "data", DatasetSpec(), max_inflated_bytes=1 << 30)
    assert error.value.code == "dataset.text_archive"


@pytest.mark.parametrize("declared", [{"ids": "y"}, {"mask": "input_ids"}, {"text": ["a", "a"]}, {"text": []}])
def test_names_must_differ(declared: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tokenize"):
        DatasetSpec.model_validate({"tokenize": {"text": ["text"]} | declared})
