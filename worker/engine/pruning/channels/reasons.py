"""Why channels stay whole: which operator kept those of which layers, noted while the graph is walked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.spec.units import counted
from worker.engine.pruning.channels.channel_classes import Classes, Labels

NO_RULE = "no rule is known"
OUTPUT = "they are part of an output"
MOST_NAMED = 3


@dataclass(frozen=True)
class Producer:
    """A layer that makes channels."""

    layer: str
    labels: Any
    """Of its output channels."""


@dataclass(frozen=True)
class Reason:
    """An operator without which channels of these layers could be removed."""

    operator: str
    why: str
    layers: tuple[str, ...]


class Reasons:
    """Collects reasons. Channels that cannot be removed anyway need none, so the first operator is the one named."""

    def __init__(self, classes: Classes, producers: Sequence[Producer]) -> None:
        """`producers` grows as the graph is walked."""
        self._classes, self._producers = classes, producers
        self._layers: dict[tuple[str, str], dict[str, None]] = {}
        self.without_rule: Counter[str] = Counter()
        """How often each operator without a rule kept channels whole."""

    def freeze(self, operator: str, why: str, *dims: Labels) -> None:
        """Keep these positions, and note the layers that would have lost some of them."""
        layers = self._layers_of([labels for labels in dims if self._classes.removable(labels)])
        if layers:
            self._layers.setdefault((operator, why), {}).update(layers)
            self.without_rule.update([operator] if why == NO_RULE else [])
        self._classes.freeze(*dims)

    def listed(self) -> tuple[Reason, ...]:
        """In the order of the graph."""
        return tuple(Reason(operator, why, tuple(layers)) for (operator, why), layers in self._layers.items())

    def _layers_of(self, dims: Sequence[Labels]) -> dict[str, None]:
        if not dims:
            return {}
        frozen = np.unique(np.concatenate([self._classes.roots(np.ravel(labels)) for labels in dims]))
        frozen = frozen[frozen > 0]
        return {
            producer.layer: None
            for producer in self._producers
            if np.isin(self._classes.roots(producer.labels), frozen, kind="sort").any()
        }


def sentences(reasons: Sequence[Reason]) -> list[str]:
    """One for each reason, which names the operator and the first of the layers."""
    return [_sentence(reason) for reason in reasons]


def _sentence(reason: Reason) -> str:
    named = ", ".join(reason.layers[:MOST_NAMED])
    more = len(reason.layers) - MOST_NAMED
    layers = f"{named} and {counted(more, 'more layer')}" if more > 0 else named
    if reason.why == OUTPUT:
        return f"Those of {layers} are part of an output."
    return f"Channels of {layers} stayed whole because of {reason.operator}: {reason.why}."
