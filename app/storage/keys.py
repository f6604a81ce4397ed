"""Which keys and part lists every store accepts, so that what works on one works on the other."""

import re
from collections.abc import Sequence

from app.storage.base import MAX_PARTS, Part
from app.storage.errors import PartsMismatch

MAX_KEY_CHARACTERS = 700
"""S3 allows 1,024 bytes for prefix and key together."""
MAX_SEGMENT_CHARACTERS = 200
"""File systems allow 255 bytes a name."""

_SEGMENT = re.compile(r"[a-z0-9_-][a-z0-9_.-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST_ETAG = 200


def require_key(key: str) -> str:
    """Return the key. Raises ValueError: keys are made by this service, so a bad one is a defect of ours."""
    segments = key.split("/")
    fine = len(key) <= MAX_KEY_CHARACTERS and ".." not in key
    if not (fine and all(_SEGMENT.fullmatch(part) and len(part) <= MAX_SEGMENT_CHARACTERS for part in segments)):
        raise ValueError(f"not a storage key: {key[:80]!r}")
    return key


def require_prefix(prefix: str) -> str:
    """Return the start of a key, which may be empty or end in `/`. Raises ValueError."""
    if prefix:
        require_key(prefix.removesuffix("/"))
    return prefix


def require_digest(sha256: str) -> str:
    """Return the digest. Raises ValueError unless it is 64 lower-case hexadecimal digits."""
    if not _DIGEST.fullmatch(sha256):
        raise ValueError(f"not a SHA-256 digest: {sha256[:80]!r}")
    return sha256


def require_number(number: int) -> int:
    """Return the part's number. Raises PartsMismatch outside 1..10,000."""
    if not 1 <= number <= MAX_PARTS:
        raise PartsMismatch(f"a part's number is between 1 and {MAX_PARTS}, not {number}")
    return number


def require_range(start: int, end: int | None) -> None:
    """Check a half-open byte range. Raises ValueError for negative bounds."""
    if start < 0 or (end is not None and end < 0):
        raise ValueError(f"not a byte range: {start} to {end}")


def require_sequence(parts: Sequence[Part]) -> None:
    """Check that the list is 1, 2, ... n with an ETag each. Raises PartsMismatch.

    S3 itself accepts gaps, which turn a forgotten part into a silently shorter file.
    """
    if not 1 <= len(parts) <= MAX_PARTS:
        raise PartsMismatch(f"an upload has between 1 and {MAX_PARTS} parts, not {len(parts)}")
    for expected, part in enumerate(parts, start=1):
        if part.number != expected:
            raise PartsMismatch(f"part {expected} is missing or out of order", pointer=f"/parts/{expected - 1}")
        if not part.etag or len(part.etag) > _LARGEST_ETAG or not part.etag.isprintable():
            raise PartsMismatch(f"part {expected} has no usable ETag", pointer=f"/parts/{expected - 1}")
