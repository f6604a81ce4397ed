"""What a metric says of itself: its name, how its figures are written, what of it may be lost, what it needs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from app.spec.data import ArraySpec
from app.spec.signature import TensorSpec


@dataclass(frozen=True)
class Obstacle:
    """Why a metric cannot be measured, as the end of a sentence, and what to do about it."""

    reason: str
    remedy: str


class Metric(ABC):
    """A metric on labelled rows. A loss is positive, whichever way is better: see `higher_is_better`."""

    name: str
    """In jobs and reports."""
    label: str
    """In sentences."""
    higher_is_better: bool = True
    numbers_classes: bool = False
    """Whether its labels are class numbers, each of which must be a column of the output."""
    largest_loss: float | None = None
    """The most that can be lost of it; None where there is no such bound."""
    tolerated: float
    """What may be lost for a gain elsewhere. A limit on the metric replaces it."""
    collapsed: float
    """The loss beyond which, for certain, no gain is worth it. A limit on the metric replaces it."""
    relative: bool = False
    """Whether these two are shares of the value before."""

    @abstractmethod
    def level(self, value: float) -> str:
        """A value, with its unit."""

    @abstractmethod
    def difference(self, value: float) -> str:
        """A difference of two values, without its unit."""

    def amount(self, value: float) -> str:
        """A difference of two values, with its unit."""
        return self.difference(value)

    @abstractmethod
    def obstacle(self, output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
        """Find what keeps it from being measured with this output; None where nothing that is known does."""

    def tolerates(self, before: float, drop: float) -> bool:
        """Whether a gain elsewhere excuses this loss from the value `before`."""
        return drop <= (self.tolerated * before if self.relative else self.tolerated)

    def inexcusable(self, before: float) -> float:
        """The loss from the value `before` beyond which nothing excuses it."""
        return self.collapsed * before if self.relative else self.collapsed

    def collapses(self, before: float, drop: float) -> bool:
        """Whether nothing excuses this loss from the value `before`."""
        return drop > self.inexcusable(before)

    def loss(self, before: float, after: float) -> float:
        """What is lost from `before` to `after`; negative: gained."""
        return before - after if self.higher_is_better else after - before

    def change(self, drop: float) -> str:
        """What a loss of this sign is called."""
        if self.higher_is_better:
            return "a drop" if drop > 0 else "a gain"
        return "an increase" if drop > 0 else "a decrease"


class Share(Metric):
    """A metric between 0 and 1, written as a percentage; its differences in points, hundredths of the whole."""

    largest_loss = 1.0
    tolerated = 0.01
    collapsed = 0.05

    def level(self, value: float) -> str:
        return f"{100 * value:.1f} %"

    def difference(self, value: float) -> str:
        points = 100 * value
        return f"{points:.1f}" if abs(points) >= 0.1 or points == 0 else f"{points:.2g}"

    def amount(self, value: float) -> str:
        return f"{self.difference(value)} points"


class Error(Metric):
    """A metric that grows from 0, written as it is: by a twentieth at most for a gain; doubled, it has collapsed."""

    higher_is_better = False
    tolerated = 0.05
    collapsed = 1.0
    relative = True

    def level(self, value: float) -> str:
        return f"{value:.4g}"

    def difference(self, value: float) -> str:
        return f"{value:.3g}"
