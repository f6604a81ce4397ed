"""Text in Parquet becomes the integers that its own tokenizer makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from app.admission import admit_dataset
from app.spec.data import DatasetSpec
from app.spec.work import DataFile
from tests.support.texts import SENTENCES, archive, bert_tokenizer, minilm_tokenizer, words
from worker.engine.data.rows import Rows
from worker.engine.data.text import MAX_TEXT_CHARACTERS, TextUnusable, TokenizerUnusable
from worker.engine.errors import EngineError

LENGTH = 16
PARTS = ("input_ids", "attention_mask", "token_type_ids")


BACKTRACKING = words(
    pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
)
"""Its expression tries every way to part a run of letters."""


def opened(path: Path, inputs: list[str] | None = None, **spec: Any) -> Rows:
    declared = DatasetSpec.model_validate(spec)
    info = admit_dataset(path, declared, max_inflated_bytes=1 << 30)
    return Rows.open(path.parent, DataFile(path=path.name, info=info, spec=declared, split=None), inputs)


def tokens(rows: Rows) -> dict[str, np.ndarray]:
    ((inputs, _),) = rows.batches(10_000)
    return inputs


def small(tmp_path: Path, texts: Any, tokenizer: Any = None, **tokenize: Any) -> dict[str, np.ndarray]:
    path = archive(tmp_path / "data", {"text": texts}, tokenizer or words("a", "b"))
    return tokens(opened(path, tokenize={"text": ["text"], "max_length": 4} | tokenize))


@pytest.fixture(params=[bert_tokenizer, minilm_tokenizer], ids=["made", "minilm"])
def tokenizer(request: pytest.FixtureRequest) -> bytes:
    made: bytes = request.param()
    return made


def expected(tokenizer: bytes, *pairs: tuple[str, ...]) -> list[np.ndarray]:
    own = Tokenizer.from_str(tokenizer.decode())
    own.enable_truncation(LENGTH)
    own.enable_padding(length=LENGTH)
    encoded = [own.encode(*texts) for texts in pairs]
    return [np.array([getattr(one, part) for one in encoded]) for part in ("ids", "attention_mask", "type_ids")]


@pytest.mark.parametrize("options", [{}, {"row_group_size": 3, "compression": "zstd", "use_dictionary": False}])
def test_sentences_become_what_their_own_tokenizer_makes_of_them(
    options: dict[str, Any], tokenizer: bytes, tmp_path: Path
) -> None:
    sentences = SENTENCES * 20
    path = archive(tmp_path / "data", {"s": sentences, "y": np.arange(140) % 3}, tokenizer, **options)
    rows = opened(path, list(PARTS), tokenize={"text": ["s"], "max_length": LENGTH})
    ((inputs, labels),) = rows.batches(1000)
    for name, wanted in zip(PARTS, expected(tokenizer, *((sentence,) for sentence in sentences)), strict=True):
        np.testing.assert_array_equal(inputs[name], wanted)
        assert inputs[name].dtype == np.int64
    np.testing.assert_array_equal(labels, np.arange(140) % 3)
    assert inputs["input_ids"][0, 0] == Tokenizer.from_str(tokenizer.decode()).token_to_id("[CLS]")


def test_pairs_are_encoded_together(tokenizer: bytes, tmp_path: Path) -> None:
    table = {"b": pa.array(SENTENCES[::-1]).dictionary_encode(), "a": pa.array(SENTENCES, pa.large_string())}
    path = archive(tmp_path / "data", pa.table(table), tokenizer)
    inputs = tokens(opened(path, tokenize={"text": ["a", "b"], "max_length": LENGTH}))
    for name, wanted in zip(PARTS, expected(tokenizer, *zip(SENTENCES, SENTENCES[::-1], strict=True)), strict=True):
        np.testing.assert_array_equal(inputs[name], wanted)
    assert inputs["token_type_ids"].any()


def test_splits_share_what_was_encoded_once_and_do_not_overlap(tmp_path: Path) -> None:
    path = archive(tmp_path / "data", {"text": [f"a {'b ' * (row % 3)}" for row in range(90)]}, words("a", "b"))
    declared = DatasetSpec.model_validate(
        {"splits": {"train": 0.5, "test": 0.5}, "tokenize": {"text": ["text"], "max_length": 4}}
    )
    info = admit_dataset(path, declared, max_inflated_bytes=1 << 30)
    splits = [
        Rows.open(tmp_path, DataFile(path="data", info=info, spec=declared, split=split), ["input_ids"])
        for split in ("train", "test")
    ]
    seen = np.concatenate([tokens(rows)["input_ids"] for rows in splits])
    assert sorted(map(tuple, seen)) == sorted([(2, 0, 0, 0), (2, 3, 0, 0), (2, 3, 3, 0)] * 30)
    assert len(list((tmp_path / "scratch").glob("*.rows"))) == 1  # the mask and the types were not asked for


def test_dtype_names_and_padding_are_those_declared(tmp_path: Path) -> None:
    inputs = small(tmp_path, ["a b a b a b", "b"], dtype="int32", ids="tokens", mask="keep", pad_token="b")
    np.testing.assert_array_equal(inputs["tokens"], [[2, 3, 2, 3], [3, 3, 3, 3]])
    np.testing.assert_array_equal(inputs["keep"], [[1, 1, 1, 1], [1, 0, 0, 0]])
    assert inputs["tokens"].dtype == np.int32


def test_sides_are_those_of_the_file(tmp_path: Path) -> None:
    left = words(
        "a",
        "b",
        truncation={"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": "BatchLongest",
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
    )
    inputs = small(tmp_path, ["a b a b b", "b"], left)
    np.testing.assert_array_equal(inputs["input_ids"], [[3, 2, 3, 3], [0, 0, 0, 3]])


def test_dropout_is_off_so_that_a_text_is_always_encoded_alike(tmp_path: Path) -> None:
    model = {"type": "BPE", "vocab": {"[PAD]": 0, "a": 1, "b": 2, "ab": 3}, "merges": [["a", "b"]], "dropout": 0.9}
    inputs = small(tmp_path, ["ab"] * 200, words(model=model))
    assert (inputs["input_ids"] == [3, 0, 0, 0]).all()


def test_a_mask_of_floats_is_preprocessed_like_other_arrays(tmp_path: Path) -> None:
    path = archive(tmp_path / "data", {"text": ["a", "a b"]}, words("a", "b"))
    rows = opened(
        path,
        tokenize={"text": ["text"], "max_length": 4},
        preprocess={"attention_mask": [{"type": "to_float", "scale": 1}]},
    )
    mask = tokens(rows)["attention_mask"]
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, [[1, 0, 0, 0], [1, 1, 0, 0]])


def binary_as_text(*rows: bytes) -> pa.Array:
    return pa.Array.from_buffers(
        pa.string(),
        len(rows),
        [None, pa.array(np.cumsum([0, *map(len, rows)]), pa.int32()).buffers()[1], pa.py_buffer(b"".join(rows))],
    )


@pytest.mark.parametrize(
    ("texts", "tokenizer", "error", "says"),
    [
        (binary_as_text(b"a", b"\xed\xa0\x80"), None, TextUnusable, "Row 1 of column text is no UTF-8"),
        (["a"] * 70 + ["b" * (MAX_TEXT_CHARACTERS + 1)], None, TextUnusable, "Row 70 of column text has 1000001"),
        (["a"], words(pre_tokenizer={"type": "Never"}), TokenizerUnusable, "cannot be used"),
        (["a" * 28 + "b"], BACKTRACKING, TokenizerUnusable, "row 0: .*retry-limit"),
        (
            ["a"],
            words(model={"type": "WordLevel", "vocab": {"[PAD]": 0}, "unk_token": "?"}),
            TokenizerUnusable,
            "row 0",
        ),
    ],
)
def test_what_cannot_be_encoded_has_a_remedy(
    texts: Any, tokenizer: Any, error: type[EngineError], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says) as raised:
        small(tmp_path, texts, tokenizer)
    assert raised.value.remedy


def test_rows_without_text_are_refused_where_the_footer_does_not_tell(tmp_path: Path) -> None:
    path = archive(tmp_path / "data", {"text": ["a", None]}, words("a"), write_statistics=False)
    with pytest.raises(TextUnusable, match="Row 1 of column text has no text"):
        opened(path, tokenize={"text": ["text"], "max_length": 4})
