"""An observer is a class: what it keeps of a tensor while rows stream by, and which range that suggests.

In the house the class and its row of the table `OBSERVERS` are in `worker/engine/quantization/observers.py`, and
`OBSERVERS` of `app/spec/quantize.py` names it to those who submit jobs. This one keeps the extremes and takes half.
"""

from app.spec.quantize import QuantizeStatic
from worker.engine.plan.plan import Range
from worker.engine.quantization.statistics.extremes import Extremes


class HalfOfTheExtremes:
    """Half of all that was seen; the rest is clipped."""

    def __init__(self, step: QuantizeStatic) -> None:
        """An observer may have parameters of its own, as `percentile` has: fields of the step."""
        self.step = step

    def statistic(self) -> Extremes:
        return Extremes()

    def range(self, seen: Extremes) -> Range:
        whole = seen.range()
        return Range(whole.low / 2, whole.high / 2)
