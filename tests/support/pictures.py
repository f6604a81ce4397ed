"""Archives of pictures, as people pack them."""

import io
import tarfile
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image


def picture(
    height: int = 6, width: int = 6, *, seed: int = 0, form: str = "PNG", mode: str = "RGB", orientation: int = 1
) -> bytes:
    """A picture of noise."""
    channels = {"RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}.get(mode)
    shape = (height, width) if channels is None else (height, width, channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    image = Image.fromarray(pixels, mode="L" if channels is None else mode)
    return saved(image if channels is not None or mode == "L" else image.convert(mode), form, orientation)


def saved(image: Image.Image, form: str = "PNG", orientation: int = 1) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(buffer, form, **({"exif": exif} if form == "JPEG" else {}))
    return buffer.getvalue()


def zip_of(files: Mapping[str, bytes], *, deflated: bool = False) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar of these files; names that end in "/" are folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def packed(files: Mapping[str, bytes], how: str) -> bytes:
    """The files in an archive of kind "tar", "stored" or "deflated"."""
    return tar_of(files) if how == "tar" else zip_of(files, deflated=how == "deflated")


PACKINGS = ("tar", "stored", "deflated")
