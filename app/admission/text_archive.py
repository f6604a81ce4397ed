"""A zip of a Parquet file and the tokenizer.json that encodes its text; the worker finds both by the same code.

The Parquet file is read where it lies in the archive, so it must be stored: its pages are compressed already.
"""

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

from app.admission import bounded_json
from app.admission.errors import AdmissionError, Broken, TooComplex
from app.admission.member_names import is_litter
from app.admission.zipped import Archive, Member
from app.spec.tokenize import Tokenize, TokenizerInfo


class TextArchiveUnfit(AdmissionError):
    """A zip of a Parquet file holds something else beside it and tokenizer.json, or has compressed it again."""

    code = "dataset.text_archive"
    remedy = "Pack the two files alone, without folders or compression: zip -0 -j data.zip rows.parquet tokenizer.json."


class TokenizerMissing(AdmissionError):
    """Text is to be tokenized, and the upload brings no tokenizer."""

    code = "dataset.tokenizer_missing"
    remedy = "Upload a zip with the model's tokenizer.json beside it: zip -0 -j data.zip rows.parquet tokenizer.json."


class TokenizerUnfit(AdmissionError):
    """The tokenizer.json is too large, no JSON, of an unknown kind, or has nothing to pad with."""

    code = "dataset.tokenizer_unfit"
    remedy = "Send what tokenizers writes: Tokenizer.save('tokenizer.json'), or save_pretrained of a fast tokenizer."


TOKENIZER = "tokenizer.json"
SUFFIX = ".parquet"
MAX_TOKENIZER_BYTES = bounded_json.MAX_BYTES
_KINDS = ("WordPiece", "BPE", "Unigram", "WordLevel")
_USUAL_PADDING = ("[PAD]", "<pad>")


class Section(io.RawIOBase):
    """`size` bytes of `file` from `start` on, as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move as files do; returns the position."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        """Position in the section, bytes."""
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as the section goes; returns the bytes read."""
        self._file.seek(self._start + self._at)
        piece = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def is_text_archive(first: str) -> bool:
    """Whether a zip whose first member has this name is one of these."""
    return first == TOKENIZER or first.endswith(SUFFIX)


@dataclass(frozen=True)
class TextArchive:
    """The two files in the archive."""

    archive: Archive
    file: BinaryIO
    table: Member
    tokenizer: Member | None

    @classmethod
    def open(cls, file: BinaryIO, size: int, *, max_inflated_bytes: int) -> "TextArchive":
        """Find them in a zip; raises `TextArchiveUnfit`, `TokenizerUnfit` and what reading an archive raises."""
        archive = Archive(file, 0, size, max_inflated_bytes=max_inflated_bytes)
        members = {name: member for name, member in archive.members.items() if not is_litter(name)}
        tokenizer = members.pop(TOKENIZER, None)
        if len(members) != 1 or not next(iter(members)).endswith(SUFFIX):
            held = ", ".join(repr(name[:80]) for name in list(members)[:3]) or "nothing else"
            raise TextArchiveUnfit(f"Beside {TOKENIZER} there must be one {SUFFIX} file; the archive holds {held}.")
        (table,) = members.values()
        if not table.stored:
            raise TextArchiveUnfit(f"{table.name[:80]!r} is compressed in the archive.")
        if tokenizer is not None and tokenizer.size > MAX_TOKENIZER_BYTES:
            raise TokenizerUnfit(f"{TOKENIZER} has {tokenizer.size} bytes, {MAX_TOKENIZER_BYTES} are allowed.")
        return cls(archive, file, table, tokenizer)

    def parquet(self) -> io.BufferedReader:
        """The Parquet file, read where it lies."""
        return io.BufferedReader(Section(self.file, self.archive.position(self.table), self.table.size), 1 << 16)

    def tokenizer_json(self) -> bytes:
        """The whole tokenizer.json, at most `MAX_TOKENIZER_BYTES`; raises `TokenizerMissing`."""
        return self.archive.read(self._tokenizer(), MAX_TOKENIZER_BYTES)

    def describe(self, declared: Tokenize) -> TokenizerInfo:
        """What kind the tokenizer is and what it pads with; raises `TokenizerMissing`, `TokenizerUnfit`.

        Only its outline is read here; whatever builds it runs in the worker's jail.
        """
        try:
            return _described(bounded_json.parse(self.archive, self._tokenizer()), declared)
        except TooComplex as error:
            raise TokenizerUnfit(f"{TOKENIZER} nests too deep, or describes too many things.") from error
        except Broken as error:
            raise TokenizerUnfit(f"{TOKENIZER} is damaged or no JSON.") from error

    def _tokenizer(self) -> Member:
        if self.tokenizer is None:
            raise TokenizerMissing(f"The archive holds no {TOKENIZER}.", pointer="/tokenize")
        return self.tokenizer


def _described(outline: object, declared: Tokenize) -> TokenizerInfo:
    model = outline.get("model") if isinstance(outline, dict) else None
    if not isinstance(outline, dict) or not isinstance(model, dict):
        raise TokenizerUnfit(f"{TOKENIZER} describes no tokenizer: it has no 'model'.")
    kind = model.get("type")
    if kind not in _KINDS:
        raise TokenizerUnfit(f"{TOKENIZER} has a model of type {str(kind)[:40]!r}, not {', '.join(_KINDS)}.")
    known = {*_tokens(model.get("vocab")), *_added(outline.get("added_tokens"))}
    padding = outline.get("padding")
    own = padding.get("pad_token") if isinstance(padding, dict) else None
    candidates = (declared.pad_token,) if declared.pad_token else (own, *_USUAL_PADDING)
    pad = next((token for token in candidates if isinstance(token, str) and token in known), None)
    if pad is None:
        wanted = repr(declared.pad_token) if declared.pad_token else "a token to pad with"
        raise TokenizerUnfit(
            f"The tokenizer does not have {wanted}.",
            pointer="/tokenize/pad_token",
            remedy="Name one of its tokens in `tokenize.pad_token`, for example the one that ends a text.",
        )
    return TokenizerInfo(kind=kind, pad_token=pad)


def _tokens(vocabulary: object) -> list[str]:
    """The tokens of a vocabulary: an object of numbers, or (Unigram) a list of tokens with their scores."""
    if isinstance(vocabulary, dict):
        return list(vocabulary)
    entries = vocabulary if isinstance(vocabulary, list) else []
    return [entry[0] for entry in entries if isinstance(entry, list) and entry and isinstance(entry[0], str)]


def _added(tokens: object) -> list[str]:
    entries = tokens if isinstance(tokens, list) else []
    contents = [entry.get("content") for entry in entries if isinstance(entry, dict)]
    return [content for content in contents if isinstance(content, str)]
