"""Pictures of an image folder, decoded one by one from where they lie in the archive."""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.admission.errors import AdmissionError, Broken, Inflating
from app.admission.image_folder import ImageFolder, Index
from app.admission.image_head import MAX_PIXELS, NotAnImage, head_of
from app.admission.sniff import Kind, sniff
from worker.engine.data.errors import BrokenImage, UnreadableData

FORMATS = ("JPEG", "PNG")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture is turned upright, by its Exif orientation."""
_DECODING = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises at damaged files."""


class UndecodableImage(Exception):
    """The bytes are not a picture; the text completes "it is"."""


def decode(content: bytes) -> np.ndarray:
    """The pixels of a PNG or JPEG file, upright, as uint8 `[3, height, width]` in red, green, blue.

    Gray pictures get three equal channels, transparency is dropped. Raises `UndecodableImage`.
    """
    try:
        head = head_of(content)
    except NotAnImage as error:
        raise UndecodableImage(str(error)) from error
    if head.width * head.height > MAX_PIXELS:
        raise UndecodableImage(f"of {head.width} x {head.height} pixels")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.size != (head.width, head.height):
                raise UndecodableImage("of another size than its header says")
            picture = opened.convert("RGB")
    except _DECODING as error:
        raise UndecodableImage(f"damaged or cut off ({error})") from error
    if head.orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[head.orientation])
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


@dataclass(frozen=True)
class Pictures:
    """The pictures of an archive as a column: uint8 `[rows, 3, height, width]`."""

    path: Path
    kind: Kind
    size: int
    """Of the archive, in bytes."""
    index: Index
    uniform: bool
    """Whether all have one size; if not, they are taken one at a time."""

    @classmethod
    def open(cls, path: Path, *, uniform: bool) -> "Pictures":
        """Find where the pictures are; raises `UnreadableData`."""
        size = path.stat().st_size
        with path.open("rb") as file:
            kind = sniff(file)
            try:
                index = ImageFolder(file, size, kind, max_inflated_bytes=_ADMITTED).index
            except (AdmissionError, Broken, Inflating) as error:
                raise UnreadableData(f"The archive of pictures cannot be read: {error}") from error
        return cls(path, kind, size, index, uniform)

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The pictures at these positions, in this order; raises `BrokenImage`."""
        with self.path.open("rb") as file:
            folder = ImageFolder(file, self.size, self.kind, max_inflated_bytes=_ADMITTED, index=self.index)
            pictures = [_decoded(folder, int(row)) for row in rows]
        shapes = {picture.shape for picture in pictures}
        if len(shapes) > 1:
            raise UnreadableData(f"The pictures differ in size: {', '.join(map(str, sorted(shapes)[:2]))}.")
        return np.stack(pictures)


_ADMITTED = 1 << 62
"""What an archive may inflate to was decided when it was let in."""


def _decoded(folder: ImageFolder, row: int) -> np.ndarray:
    try:
        return decode(folder.read(row))
    except UndecodableImage as error:
        raise BrokenImage(f"Picture {row} of the data set, {folder.name(row)[:200]!r}, is {error}.") from error
    except (Broken, Inflating) as error:
        raise BrokenImage(f"Picture {row} of the data set, {folder.name(row)[:200]!r}: {error}.") from error
