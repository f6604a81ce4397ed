"""Whether a measured difference is a gain, a loss, or noise: a gain below the noise is not claimed."""

from typing import Literal

Outcome = Literal["gain", "loss", "noise"]
"""What a difference is; `noise`: it may be none at all, so that nothing is claimed of it."""


def outcome_of(low: float, high: float) -> Outcome:
    """Of an amount gained whose 95 % interval this is: zero within it is noise."""
    if low > 0:
        return "gain"
    return "loss" if high < 0 else "noise"
