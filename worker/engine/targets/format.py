"""What a deployment format consists of."""

from typing import NamedTuple

from worker.engine.targets.base import Deliver, Reopen
from worker.engine.targets.support.base import Knows


class Format(NamedTuple):
    """One deployment format."""

    deliver: Deliver
    reopen: Reopen
    compatibility: Knows
