"""Codes of 1 to 8 bits in as many bits: how they lie in a file.

A width is split into planes of 8, 4, 2 or 1 bits, which fill bytes evenly: 3 bits are a plane of 2 (the low bits) and
one of 1, 6 bits are 4 and 2. Within a plane the first code has the lowest bits of the first byte; the last byte is
filled up with zeros.
"""

import numpy as np

PLANES: dict[int, tuple[int, ...]] = {
    1: (1,),
    2: (2,),
    3: (2, 1),
    4: (4,),
    5: (4, 1),
    6: (4, 2),
    7: (4, 2, 1),
    8: (8,),
}
"""Widths of the planes by the codes' width, the lowest bits first."""


def pack(codes: np.ndarray, bits: int) -> list[np.ndarray]:
    """The planes, uint8 `[bytes]` each, of unsigned codes below `2**bits`; the order of elements is kept."""
    rest: np.ndarray = codes.reshape(-1).astype(np.uint8, copy=False)
    planes = []
    for width in PLANES[bits]:
        planes.append(_filled(rest & np.uint8((1 << width) - 1), width))
        rest = rest >> width if width < 8 else np.zeros_like(rest)
    if rest.any():
        raise ValueError(f"a code does not fit {bits} bits")
    return planes


def unpack(planes: list[np.ndarray], bits: int, count: int) -> np.ndarray:
    """The first `count` codes, uint8 `[count]`, of planes as `pack` makes them."""
    codes = np.zeros(count, np.uint8)
    shift = 0
    for width, plane in zip(PLANES[bits], planes, strict=True):
        places = np.arange(8 // width, dtype=np.uint8) * np.uint8(width)
        part = (plane[:, None] >> places) & np.uint8((1 << width) - 1)
        codes |= part.reshape(-1)[:count] << np.uint8(shift)
        shift += width
    return codes


def packed_bytes(count: int, bits: int) -> int:
    """Size of `count` packed codes."""
    return sum(-(-count * width // 8) for width in PLANES[bits])


def bits_for(values: int) -> int:
    """The width that tells this many values apart."""
    return max(1, (values - 1).bit_length())


def _filled(part: np.ndarray, width: int) -> np.ndarray:
    per_byte = 8 // width
    padded = np.zeros(-(-part.size // per_byte) * per_byte, np.uint8)
    padded[: part.size] = part
    plane = np.zeros(padded.size // per_byte, np.uint8)
    for place in range(per_byte):
        plane |= padded[place::per_byte] << np.uint8(place * width)
    return plane
