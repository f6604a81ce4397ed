"""One node with the values it reads: what a converter is given."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.engine.onnx_import.errors import NotConstant, OperatorNotImported
from worker.engine.onnx_import.graph import Graph, Node
from worker.engine.onnx_import.values import DTYPES, Quantized, Value, is_symbolic, tensor_of

Size = Any
"""A whole number: an int, or a torch.SymInt where it varies."""
RunBody = Callable[[Graph, list[Value]], list[Value]]


class Call:
    """The arguments of one node, by position, and its attributes."""

    def __init__(
        self, node: Node, inputs: list[Value], constants: Mapping[str, np.ndarray], run_body: RunBody | None = None
    ) -> None:
        """`constants`: the numbers behind tensors that are weights of the program, by name."""
        self.node, self.inputs, self.known, self._run_body = node, inputs, constants, run_body

    def __len__(self) -> int:
        return len(self.inputs)

    def has(self, place: int) -> bool:
        """Whether an optional input is there."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def __getitem__(self, name: str) -> Any:
        """An attribute that must be there."""
        return self.node.attributes[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.node.attributes.get(name, default)

    def value(self, place: int) -> Value:
        """An input as it is; None where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def tensor(self, place: int) -> Tensor:
        """An input as a tensor: codes where it is quantized."""
        value = self.inputs[place]
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Quantized):
            return value.codes
        if isinstance(value, np.ndarray):
            return tensor_of(value)
        raise self.refusal(f"its input {place + 1} is no tensor")

    def optional(self, place: int) -> Tensor | None:
        """An input as a tensor; None where it is left out."""
        return self.tensor(place) if self.has(place) else None

    def tensors(self) -> list[Tensor]:
        """All inputs as tensors."""
        return [self.tensor(place) for place in range(len(self.inputs))]

    def operands(self) -> list[Any]:
        """All inputs, single numbers as Python's where that keeps rank and type of the result."""
        rank = max((value.ndim for value in self.inputs if isinstance(value, Tensor)), default=0)
        return [self._operand(place, rank) for place in range(len(self.inputs))]

    def _operand(self, place: int, rank: int) -> Any:
        value = self.inputs[place]
        if isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= rank and value.dtype.kind in "fiuO":
            (number,) = value.reshape(-1)
            return number if is_symbolic(value) else number.item()
        return self.tensor(place)

    def is_known(self, place: int) -> bool:
        """Whether an input is known while the program is made."""
        value = self.value(place)
        return isinstance(value, np.ndarray) or (value is not None and self.node.inputs[place] in self.known)

    def numbers(self, place: int) -> np.ndarray:
        """An input that must be known while the program is made; raises `NotConstant`."""
        value = self.inputs[place]
        if isinstance(value, np.ndarray):
            return value
        name = self.node.inputs[place]
        if name in self.known:
            return self.known[name]
        raise NotConstant(f"{self.node.place}: its input {place + 1} ('{name}') must be known before the model runs.")

    def sizes(self, place: int) -> list[Size]:
        """Such an input as whole numbers."""
        return [number if is_symbolic_number(number) else int(number) for number in self.numbers(place).reshape(-1)]

    def number(self, place: int, default: Any = None) -> Any:
        """Such an input as one number of Python's; `default` where it is left out."""
        if not self.has(place):
            return default
        array = self.numbers(place)
        (number,) = array.reshape(-1)
        return number if is_symbolic(array) else number.item()

    def listed(self, name: str, place: int) -> list[Size] | None:
        """Whole numbers that are an attribute in older operator sets and an input in newer ones; None for neither."""
        if self.has(place):
            return self.sizes(place)
        given = self.get(name)
        return None if given is None else list(given)

    def dtype(self, name: str, default: torch.dtype) -> torch.dtype:
        """The type that an attribute names."""
        number = self.get(name)
        if not number:
            return default
        if number not in DTYPES:
            raise self.refusal(f"it asks for a type ({number}) that PyTorch does not have")
        return DTYPES[number]

    def run(self, body: Graph, inputs: list[Value]) -> list[Value]:
        """The outputs of a body of this node."""
        if self._run_body is None:
            raise self.refusal("it has a body")
        return self._run_body(body, inputs)

    def refusal(self, reason: str) -> OperatorNotImported:
        """An error to raise: what of this node has no form."""
        return OperatorNotImported(f"{self.node.place} cannot be imported: {reason}.")


def is_symbolic_number(number: Any) -> bool:
    """Whether a number varies with the sizes of the inputs."""
    return isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool)


Converter = Callable[[Call], Any]
"""The output of a call, or a tuple of its outputs: tensors or numbers."""
