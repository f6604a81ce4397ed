"""What a deployment format consists of."""

from typing import NamedTuple

from worker.engine.targets.base import Deliver, Reopen
from worker.engine.targets.support.base import Knows


class Format(NamedTuple):
    """How one format is written, opened again, and known before it is written."""

    deliver: Deliver
    reopen: Reopen
    compatibility: Knows
