"""Archives of pictures in folders: `class/picture.jpg`, below a folder for each split and below one top folder or not.

The pictures stay where they are: an index of 30 bytes for each says where. Admission reads their headers; the worker
reads the same index, so that both see the same rows in the same order, which is that of the archive.
"""

import contextlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from app.admission.errors import AdmissionError, Broken, NoRows, TooManyMembers
from app.admission.image_head import MAX_PIXELS, ImageHead, NotAnImage, read_head
from app.admission.member_names import is_litter
from app.admission.sniff import Kind
from app.admission.tarred import walk_tar
from app.admission.zipped import DEFLATED, STORED, Directory, Member
from app.spec.data import IMAGE, LABELS, SPLIT_ROLES, ArraySpec, DatasetInfo, DatasetSpec
from app.spec.signature import Dimension


class UnsupportedImage(AdmissionError):
    """A file in an image folder is no picture, or of a kind that is not accepted."""

    code = "dataset.unsupported_image"
    status = 415
    remedy = "Convert the pictures to JPEG or PNG of 8 bits per channel, and pack nothing else."


class ImageTooLarge(AdmissionError):
    """A picture has more pixels or bytes than is accepted."""

    code = "dataset.image_too_large"
    remedy = "Scale the pictures down before packing them; a model sees a few hundred pixels."


class FolderLayout(AdmissionError):
    """The folders of an image archive do not say what class each picture has."""

    code = "dataset.folder_layout"
    remedy = "Pack class/picture.jpg, all in one top folder if you like; or train/class/picture.jpg, test/class/..."


MAX_IMAGES = 1_000_000
MAX_IMAGE_BYTES = 64 << 20
MAX_CLASSES = 32_767
MAX_FOLDERS = 4 * MAX_CLASSES
MAX_CLASS_NAMES = 256 << 10
"""Characters in the names of all classes together: they are shown with the data set."""


@dataclass(frozen=True)
class Index:
    """Where each picture's bytes are and what class it has: arrays of one length, in the order of the archive."""

    start: np.ndarray
    """Offset in the file, int64."""
    packed: np.ndarray
    """Bytes there, int64."""
    size: np.ndarray
    """Bytes when inflated, int64; equal to `packed` where the picture is stored as it is."""
    crc: np.ndarray
    """CRC-32 of the content, uint32; 0 in a tar, which has none."""
    deflated: np.ndarray
    label: np.ndarray
    """Class, int16: its position in `classes`."""
    split: np.ndarray
    """Position in `splits`, int8; 0 everywhere if there are none."""
    classes: tuple[str, ...]
    """Sorted names of the class folders, those without a picture among them: a class keeps its number."""
    splits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start)

    def rows_of(self, split: str) -> np.ndarray:
        """Positions of the rows of a split."""
        return np.flatnonzero(self.split == self.splits.index(split))


class ImageFolder:
    """The pictures of an archive, of which none is read before it is asked for."""

    def __init__(
        self, file: BinaryIO, size: int, kind: Kind, *, max_inflated_bytes: int, index: Index | None = None
    ) -> None:
        """Open the zip or tar (`kind`) in the first `size` bytes of `file`; raises `Broken`, `TooManyMembers`.

        `index` is the one made when this archive was opened before.
        """
        self._file, self._size, self._index = file, size, index
        limits = {"max_inflated_bytes": max_inflated_bytes, "max_members": 2 * MAX_IMAGES}
        self._zip = None if kind == "tar" else Directory(file, 0, size, **limits, dotted=True, colons=True)

    @property
    def index(self) -> Index:
        """All pictures; the archive is walked once for it.

        Raises `Broken`, `UnsafeMember`, `TooManyMembers`, `Inflating`, `FolderLayout`, `NoRows`, `ImageTooLarge`.
        """
        if self._index is None:
            self._index = _indexed(self._members())
        return self._index

    def first(self) -> str:
        """The name of the first member, before anything is known of the others; empty if there is none."""
        return next((member.name.removeprefix("./") for member in self._pictures()), "")

    def head(self, row: int) -> ImageHead:
        """The header of a picture; raises `NotAnImage`, `Broken`, `Inflating`."""
        if not self.index.deflated[row]:
            return self._stored_head(int(self.index.start[row]), int(self.index.packed[row]))
        pieces = _Pieces(self._chunks(row))
        return read_head(pieces.read, pieces.skip)

    def read(self, row: int) -> bytes:
        """The whole file of a picture, at most `MAX_IMAGE_BYTES`; raises `Broken`, `Inflating`."""
        return b"".join(self._chunks(row))

    def name(self, row: int) -> str:
        """The member that a row is; for messages, since the archive is walked to find it."""
        return next(member.name for number, member in enumerate(self._pictures()) if number == row)

    def _pictures(self) -> Iterator[Member]:
        return (member for member in self._members() if not member.name.endswith("/"))

    def _members(self) -> Iterator[Member]:
        """Pictures, and folders, whose names end in "/"."""
        if self._zip is None:
            walked = walk_tar(self._file, self._size, max_members=2 * MAX_IMAGES, folders=True)
        else:
            walked = self._zip.walk(folders=True)
        return (member for member in walked if not is_litter(member.name.removeprefix("./")))

    def _chunks(self, row: int) -> Iterator[bytes]:
        index = self.index
        method = DEFLATED if index.deflated[row] else STORED
        start, packed, size = int(index.start[row]), int(index.packed[row]), int(index.size[row])
        if self._zip is not None:
            return self._zip.chunks(Member(f"picture {row}", method, int(index.crc[row]), start, packed, size))
        self._file.seek(start)
        content = self._file.read(size)
        if len(content) != size:
            raise Broken("the archive is truncated")
        return iter((content,))

    def _stored_head(self, start: int, size: int) -> ImageHead:
        self._file.seek(start)
        left = size

        def read(count: int) -> bytes:
            nonlocal left
            piece = self._file.read(max(0, min(count, left)))
            left -= len(piece)
            return piece

        def skip(count: int) -> None:
            nonlocal left
            self._file.seek(count, 1)
            left -= count

        return read_head(read, skip)


class _Pieces:
    """Reads and skips in what comes piece by piece."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held = pieces, b""

    def read(self, count: int) -> bytes:
        while len(self._held) < count and (piece := next(self._pieces, b"")):
            self._held += piece
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def skip(self, count: int) -> None:
        while count and (taken := self.read(min(count, 1 << 16))):
            count -= len(taken)


class _Layout:
    """Finds out what the folders mean from the first picture, and holds all others to it."""

    def __init__(self) -> None:
        self._depth = 0
        self._top: str | None = None
        self._splits = False
        self._characters = 0
        self.classes: dict[str, int] = {}
        self.splits: dict[str, int] = {}

    def place(self, name: str) -> tuple[int, int]:
        """The split and the class of a picture, numbered as they come; raises `FolderLayout`."""
        folders = name.removeprefix("./").split("/")[:-1]
        if not self._depth:
            self._begin(folders, name)
        if len(folders) != self._depth:
            raise FolderLayout(f"{name[:80]!r} lies in another number of folders than the first picture.")
        if self._top is not None and folders.pop(0) != self._top:
            raise FolderLayout(f"{name[:80]!r} is not in the folder {self._top[:80]!r} with the others.")
        split = 0
        if self._splits:
            known = SPLIT_ROLES.get(folders[0].lower())
            if known is None:
                raise FolderLayout(f"{folders[0][:80]!r} is no split; other folders beside it are.")
            split = self.splits.setdefault(known, len(self.splits))
        if folders[-1] not in self.classes:
            self._characters += len(folders[-1])
        return split, self.classes.setdefault(folders[-1], len(self.classes))

    def require_few_classes(self) -> None:
        """Raise `FolderLayout` where classes are more, or their names longer, than is shown with a data set."""
        if len(self.classes) > MAX_CLASSES or self._characters > MAX_CLASS_NAMES:
            raise FolderLayout(f"There are more than {MAX_CLASSES} classes, or their names are too long.")

    def place_empty(self, name: str) -> None:
        """Number the class of a folder that may hold no picture; one that fits no class is left out."""
        folders = name.removeprefix("./").split("/")[:-1]
        if len(folders) == self._depth and not folders[-1].startswith("."):
            with contextlib.suppress(FolderLayout):
                self.place(name)

    def _begin(self, folders: list[str], name: str) -> None:
        if not 1 <= len(folders) <= 3:
            raise FolderLayout(f"{name[:80]!r} is in {len(folders)} folders.")
        self._depth = len(folders)
        self._splits = len(folders) > 1 and folders[-2].lower() in SPLIT_ROLES
        if len(folders) == 3 and not self._splits:
            raise FolderLayout(f"{folders[1][:80]!r} is no split ({', '.join(SPLIT_ROLES)}).")
        self._top = folders[0] if len(folders) == 2 + self._splits else None


def _apart(members: Iterator[Member], folders: list[str]) -> Iterator[Member]:
    """The pictures; names of folders are added to `folders`."""
    for member in members:
        if not member.name.endswith("/"):
            yield member
            continue
        folders.append(member.name)
        if len(folders) > MAX_FOLDERS:
            raise FolderLayout(f"There are more than {MAX_FOLDERS} folders.")


def _indexed(members: Iterator[Member]) -> Index:
    layout = _Layout()
    folders: list[str] = []
    start, packed, size = array("q"), array("q"), array("q")
    crc, deflated, label, split = array("L"), array("b"), array("h"), array("b")
    for member in _apart(members, folders):
        if member.size > MAX_IMAGE_BYTES:
            raise ImageTooLarge(f"{member.name[:80]!r} has {member.size} bytes, {MAX_IMAGE_BYTES} are allowed.")
        part, kind = layout.place(member.name)
        layout.require_few_classes()
        if len(start) == MAX_IMAGES:
            raise TooManyMembers(f"The archive has more than {MAX_IMAGES} pictures.")
        for column, value in zip(
            (start, packed, size, crc, deflated, label, split),
            (member.start, member.packed, member.size, member.crc, not member.stored, kind, part),
            strict=True,
        ):
            column.append(value)
    if not start:
        raise NoRows("The archive holds no pictures.")
    for name in folders:
        layout.place_empty(name)
    layout.require_few_classes()
    classes = sorted(layout.classes)
    order = np.empty(len(classes), np.int16)
    order[[layout.classes[name] for name in classes]] = np.arange(len(classes))
    return Index(
        np.array(start),
        np.array(packed),
        np.array(size),
        np.array(crc, np.uint32),
        np.array(deflated, bool),
        order[np.array(label)],
        np.array(split),
        tuple(classes),
        tuple(layout.splits),
    )


def read_image_folder(folder: ImageFolder, spec: DatasetSpec) -> DatasetInfo:
    """Read the header of every picture and say what the archive holds.

    Raises what making the index raises, and `UnsupportedImage`.
    """
    low, high = [MAX_PIXELS] * 2, [0, 0]
    for row in range(len(folder.index)):
        sides = _sides(folder, row)
        low, high = [*map(min, low, sides)], [*map(max, high, sides)]
    height, width = (
        least if least == most else Dimension(name=name, min=least, max=most)
        for name, least, most in zip(("height", "width"), low, high, strict=True)
    )
    index = folder.index
    rows = len(index)
    return DatasetInfo(
        format="images",
        rows=rows,
        arrays={
            spec.image or IMAGE: ArraySpec(dtype="uint8", shape=(rows, 3, height, width)),
            LABELS: ArraySpec(dtype="int64", shape=(rows,)),
        },
        label_range=(int(index.label.min()), int(index.label.max())),
        classes=index.classes,
        splits={name: int((index.split == number).sum()) for number, name in enumerate(index.splits)},
    )


def _sides(folder: ImageFolder, row: int) -> tuple[int, int]:
    """Height and width of a picture as it is shown."""
    try:
        head = folder.head(row)
    except NotAnImage as error:
        raise UnsupportedImage(f"{folder.name(row)[:80]!r} is {error}.") from error
    if head.width * head.height > MAX_PIXELS:
        raise ImageTooLarge(
            f"{folder.name(row)[:80]!r} has {head.width} x {head.height} pixels, {MAX_PIXELS} are allowed."
        )
    return head.shown
