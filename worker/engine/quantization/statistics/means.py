"""The mean of what meets a layer's weight, gathered while rows stream by."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from onnx import NodeProto

from worker.engine.onnx_graph.index import GraphIndex, attributes
from worker.engine.quantization.statistics.point import Observation, Reduction


@dataclass(frozen=True)
class Patches:
    """How a convolution's kernel moves over its input."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """Before the first place of each axis, then behind the last."""

    @classmethod
    def of(cls, index: GraphIndex, node: NodeProto) -> "Patches":
        """Those of a convolution without automatic padding."""
        given = attributes(node)
        kernel = tuple(index.constants[node.input[1]].dims[2:])
        ones, zeros = [1] * len(kernel), [0] * (2 * len(kernel))
        return cls(
            kernel,
            tuple(given.get("strides", ones)),
            tuple(given.get("dilations", ones)),
            tuple(given.get("pads", zeros)),
        )

    def taps(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """What each place of the kernel meets as it moves over `array` `[channels, *space]`, in the kernel's order."""
        padded = np.pad(array, [(0, 0), *np.reshape(self.pads, (2, -1)).T])
        reach = [
            size - dilation * (length - 1)
            for size, dilation, length in zip(padded.shape[1:], self.dilations, self.kernel, strict=True)
        ]
        for place in product(*map(range, self.kernel)):
            starts = [dilation * offset for dilation, offset in zip(self.dilations, place, strict=True)]
            window = [
                slice(start, start + size, stride)
                for start, size, stride in zip(starts, reach, self.strides, strict=True)
            ]
            yield padded[(slice(None), *window)]


class InputMean:
    """The mean input of a weight, float64 `[groups, inputs of a group, kernel]`.

    For a convolution that is the mean patch, padding included: the mean over rows of the whole input leaves the graph,
    and what each place of the kernel meets of it is averaged here. For a matrix product the last axis counts inputs.
    """

    reads_array = False

    def __init__(self, index: GraphIndex, node: NodeProto) -> None:
        """`node` is a convolution or matrix product of the graph; the rank of its input is known."""
        self._groups = int(attributes(node).get("group", 1)) if node.op_type == "Conv" else 1
        self._patches = Patches.of(index, node) if node.op_type == "Conv" else None
        rank = index.rank(node.input[0]) or 0
        axes = (0,) if self._patches is not None else tuple(range(rank - 1))
        self.reductions: tuple[Reduction, ...] = (Reduction("ReduceMean", axes),)
        self.clear()

    def clear(self) -> None:
        self._sum: np.ndarray = np.zeros(1)
        self._rows = 0

    def update(self, seen: Observation) -> None:
        (mean,) = seen.reduced
        self._sum = self._sum + seen.rows * self._mean_patch(mean.astype(np.float64))
        self._rows += seen.rows

    def mean(self) -> np.ndarray:
        """The mean over all rows of what meets the weight."""
        return self._sum / self._rows

    def _mean_patch(self, mean: np.ndarray) -> np.ndarray:
        """The mean of what meets the weight, from the mean over rows of its input."""
        if self._patches is None:
            return mean.reshape(1, -1, 1)
        means = np.stack([tap.mean(axis=tuple(range(1, tap.ndim))) for tap in self._patches.taps(mean)], axis=1)
        return means.reshape(self._groups, -1, means.shape[1])
