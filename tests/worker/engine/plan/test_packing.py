"""Codes take as many bits as they need, and come back as they were."""

import numpy as np
import pytest

from worker.engine.plan.packing import bits_for, pack, packed_bytes, unpack


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 1000])
def test_codes_come_back(bits: int, count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 1 << bits, count).astype(np.uint8)
    planes = pack(codes, bits)

    np.testing.assert_array_equal(unpack(planes, bits, count), codes)
    assert sum(plane.nbytes for plane in planes) == packed_bytes(count, bits)
    assert packed_bytes(count, bits) <= count * bits / 8 + 3


def test_the_layout_is_as_documented() -> None:
    """Other programs read these bytes: the first code lies in the lowest bits of the first byte."""
    assert [plane.tolist() for plane in pack(np.array([1, 2, 15]), 4)] == [[0x21, 0x0F]]
    assert [plane.tolist() for plane in pack(np.array([0b101, 0b010, 0b111]), 3)] == [[0b111001], [0b101]]


def test_a_code_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 3 bits"):
        pack(np.array([8]), 3)


def test_the_width_tells_all_values_apart() -> None:
    assert [bits_for(values) for values in (1, 2, 3, 4, 16, 17, 256)] == [1, 1, 2, 2, 4, 5, 8]
