"""Columns of text, encoded once per job: tokens are written out as plain arrays, a row at a time.

Encoding is that of Hugging Face's `tokenizers`, single-threaded, from the file's own text; nothing is fetched.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Encoding, Tokenizer

from app.spec.tokenize import Tokenize, TokenPart
from app.spec.work import DataFile
from worker.engine.data.errors import UnreadableData
from worker.engine.data.npz import StoredArray
from worker.engine.errors import EngineError


class TextUnusable(EngineError):
    """A text of the data set cannot be tokenized: there is none, it is no UTF-8, or it is too long."""

    code = "data.text_unusable"
    remedy = "Remove or mend the row named in the detail, write the Parquet file again and upload it again."


class TokenizerUnusable(EngineError):
    """The tokenizer.json has a sound outline, but no tokenizer can be made of it, or it fails on a text."""

    code = "data.tokenizer_unusable"
    remedy = "Try Tokenizer.from_file('tokenizer.json') of tokenizers on your machine, and upload what that reads."


BATCH_ROWS = 64
MAX_TEXT_CHARACTERS = 1_000_000
"""Of one text: a million take a second or two and 160 MB to encode, of which `max_length` keeps little."""


def open_text(
    source: pq.ParquetFile, file: DataFile, tokenizer_json: bytes, paths: dict[str, Path]
) -> dict[str, StoredArray]:
    """The arrays that the declared tokenizing makes, written to the paths in `plain` by their names.

    Each is `[rows, max_length]`. Raises `TextUnusable`, `TokenizerUnusable`, `UnreadableData`.
    """
    declared = file.spec.tokenize
    if declared is None or file.info.tokenizer is None or not paths:
        return {}
    dtype, shape = np.dtype(declared.dtype), (file.info.rows, declared.max_length)
    if not all(path.exists() for path in paths.values()):
        tokenizer = built(tokenizer_json, declared, file.info.tokenizer.pad_token)
        _write(source, tokenizer, declared, paths, file.info.rows)
    return {name: StoredArray(path, 0, dtype, shape) for name, path in paths.items()}


def built(tokenizer_json: bytes, declared: Tokenize, pad_token: str) -> Tokenizer:
    """The tokenizer, which cuts and pads to `max_length`; raises `TokenizerUnusable`."""
    with _blamed("tokenizer.json cannot be used"):
        tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    number = tokenizer.token_to_id(pad_token)
    if number is None:
        raise TokenizerUnusable(f"The tokenizer has no token {pad_token!r}.")
    with _blamed("tokenizer.json can neither cut nor pad"):
        if getattr(tokenizer.model, "dropout", None):
            tokenizer.model.dropout = None  # BPE-dropout is a regularizer: it encodes a text differently each time
        cut, fill = tokenizer.truncation or {}, tokenizer.padding or {}
        tokenizer.enable_truncation(declared.max_length, direction=cut.get("direction", "right"))
        tokenizer.enable_padding(
            direction=fill.get("direction", "right"),
            pad_id=number,
            pad_token=pad_token,
            pad_type_id=fill.get("pad_type_id", 0),
            length=declared.max_length,
        )
    return tokenizer


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Blame the file for whatever `tokenizers` raises: Exception itself, or a panic of Rust, which is none.

    It panics where a regular expression of the file backtracks too often.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerUnusable(f"{what}: {str(error)[:300]}.") from error


def _write(source: pq.ParquetFile, tokenizer: Tokenizer, declared: Tokenize, paths: dict[str, Path], rows: int) -> None:
    """All arrays in one pass; their names appear only when they are complete."""
    partial = {name: path.with_suffix(".partial") for name, path in paths.items()}
    made, written = declared.arrays(), 0
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {name: stack.enter_context(path.open("wb")) for name, path in partial.items()}
        for row, texts in enumerate(_texts(source, declared.text)):
            encoded = _encoded(tokenizer, texts, row)
            for name, file in files.items():
                tokens = np.array(_part(encoded, made[name]), declared.dtype)
                if len(tokens) != declared.max_length:
                    raise TokenizerUnusable(f"The tokenizer made {len(tokens)} tokens, not {declared.max_length}.")
                file.write(tokens.data)
            written = row + 1
    if written != rows:
        raise UnreadableData(f"The text has {written} rows, the footer says {rows}.")
    for name, path in partial.items():
        path.rename(paths[name])


def _encoded(tokenizer: Tokenizer, texts: tuple[str, ...], row: int) -> Encoding:
    with _blamed(f"The tokenizer fails on row {row}"):
        return tokenizer.encode(texts[0], texts[1] if len(texts) > 1 else None)


def _part(encoded: Encoding, part: TokenPart) -> list[int]:
    return {"ids": encoded.ids, "mask": encoded.attention_mask, "types": encoded.type_ids}[part]


def _texts(source: pq.ParquetFile, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The text or the pair of each row, 64 rows unpacked at a time."""
    row = 0
    for batch in source.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False):
        values = [batch.column(name) for name in columns]
        for place in range(batch.num_rows):
            yield tuple(_text(column[place], name, row) for column, name in zip(values, columns, strict=True))
            row += 1


def _text(value: pa.Scalar, column: str, row: int) -> str:
    try:
        text = value.as_py()
    except UnicodeDecodeError as error:
        raise TextUnusable(f"Row {row} of column {column} is no UTF-8, or holds half a surrogate pair.") from error
    if not isinstance(text, str):
        raise TextUnusable(f"Row {row} of column {column} has no text.")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise TextUnusable(
            f"Row {row} of column {column} has {len(text)} characters, {MAX_TEXT_CHARACTERS} are allowed.",
            remedy="Cut the texts before writing the file; what is beyond max_length is not used.",
        )
    return text
