"""How long files and functions are."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles


@dataclass(frozen=True)
class Lengths:
    """Lengths in lines."""

    lines: tuple[int, ...]

    @property
    def median(self) -> float:
        """Half of them are no longer."""
        return median(self.lines)

    @property
    def p90(self) -> float:
        """Nine tenths of them are no longer."""
        return quantiles(self.lines, n=10, method="inclusive")[-1]

    def above(self, lines: int) -> int:
        """How many are longer than `lines`."""
        return sum(length > lines for length in self.lines)


def file_lengths(files: Iterable[Path]) -> Lengths:
    """Of every file that says something."""
    return Lengths(tuple(length for file in files if (length := len(file.read_text().splitlines()))))


def function_lengths(files: Iterable[Path]) -> Lengths:
    """Of every function and method, from `def` to its last line: decorators are not counted, inner functions are."""
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_bytes())))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return Lengths(tuple((node.end_lineno or node.lineno) - node.lineno + 1 for node in functions))
