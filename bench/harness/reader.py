"""Rows in the form that ONNX Runtime's quantizer reads them."""

from collections.abc import Iterator, Mapping

import numpy as np
from onnxruntime.quantization import CalibrationDataReader


class RowReader(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
    """Each row as a batch of one."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._rows = self._each(dict(arrays))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next row, or None behind the last."""
        return next(self._rows, None)

    @staticmethod
    def _each(arrays: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for row in range(len(next(iter(arrays.values())))):
            yield {name: array[row : row + 1] for name, array in arrays.items()}
