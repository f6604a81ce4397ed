"""What a story is given, and what makes a module a story."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.harness.figures import Figure

Amount = TypeVar("Amount")


@dataclass(frozen=True)
class Scene:
    """A folder of its own for the story, and whether it is to be told in short."""

    folder: Path
    quick: bool = False
    say: Callable[[str], None] = print
    """Tell a person who waits what is going on."""

    def pick(self, full: Amount, short: Amount) -> Amount:
        """The amount of something that fits."""
        return short if self.quick else full


@dataclass(frozen=True)
class Story:
    """One file of `bench`: its name on the command line, its docstring, and the function that measures."""

    name: str
    text: str
    tell: Callable[[Scene], list[Figure]]

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return self.text.strip().partition("\n")[0].rstrip(".")

    @property
    def body(self) -> str:
        """The text below the title."""
        return self.text.strip().partition("\n")[2].strip()
