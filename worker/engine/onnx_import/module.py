"""A graph as a PyTorch module: its weights are parameters and buffers, a call walks its nodes."""

import contextlib
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.errors import PareError
from worker.engine.onnx_import.call import Call
from worker.engine.onnx_import.errors import ImportFailed
from worker.engine.onnx_import.graph import Graph, Node
from worker.engine.onnx_import.operators.table import FOLLOWERS, OPERATORS
from worker.engine.onnx_import.shape_arithmetic import MOST_NUMBERS, NotOfNumbers, computable, compute
from worker.engine.onnx_import.values import Quantized, Value, array_of, tensor_of
from worker.engine.onnx_import.weights import Kind, Weights

Values = MutableMapping[str, Value]
Watch = Callable[[Node, tuple[Value, ...]], tuple[Value, ...]]
"""Is shown every node's results; returns what the nodes after it are given."""


class GraphModule(nn.Module):
    """Tensors in and out in the order of the graph."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        """Take over the constants of `graph` that `weights` names; the others stay numbers."""
        super().__init__()
        self.graph = graph
        self._places: dict[int, dict[str, str]] = {}
        self._numbers: dict[int, dict[str, np.ndarray]] = {}
        self.read: set[str] = set()
        """The weights that a call has read, by attribute."""
        for body in graph.walk():
            places = self._places.setdefault(id(body), {})
            numbers = self._numbers.setdefault(id(body), {})
            for name, kind in weights.of(body).items():
                array = body.constants[name]
                places[name] = self._register(name, tensor_of(array), kind)
                if array.size <= MOST_NUMBERS:
                    numbers[name] = array

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs for one batch."""
        return self.run(inputs)

    def run(self, inputs: tuple[Tensor, ...], watch: Watch | None = None) -> tuple[Tensor, ...]:
        """Outputs as tensors; `watch` sees what every node computes."""
        results = self.evaluate(inputs, watch)
        return tuple(_tensor(value, name) for value, name in zip(results, self.graph.outputs, strict=True))

    def evaluate(self, inputs: Sequence[Value], watch: Watch | None = None) -> list[Value]:
        """The outputs as they are: numbers, sequences and integer codes, too."""
        return self._outputs(self.graph, dict(zip(self.graph.inputs, inputs, strict=True)), watch)

    def drop_unread(self) -> None:
        """Forget weights that no call has read as tensors: numbers that are known are written into the program."""
        for places in self._places.values():
            for path in [path for path in places.values() if path not in self.read]:
                owner, _, name = path.rpartition(".")
                delattr(self.get_submodule(owner), name)
            for name in [name for name, path in places.items() if path not in self.read]:
                del places[name]

    def _outputs(self, graph: Graph, values: Values, watch: Watch | None) -> list[Value]:
        self._add_constants(graph, values)
        numbers = ChainMap(*(self._numbers[id(body)] for body in self.graph.walk()))
        for node in graph.nodes:
            results = self._call(node, values, numbers, watch)
            for name, result in zip(node.outputs, results, strict=False):
                values[name] = result
        return [_read(values[name]) for name in graph.outputs]

    def _add_constants(self, graph: Graph, values: Values) -> None:
        places = self._places[id(graph)]
        for name, array in graph.constants.items():
            values[name] = _Lazy(self, places[name]) if name in places else array  # type: ignore[assignment]

    def _call(
        self, node: Node, values: Values, numbers: Mapping[str, np.ndarray], watch: Watch | None
    ) -> tuple[Value, ...]:
        given = [_read(values[name]) if name else None for name in node.inputs]

        def run_body(body: Graph, inputs: list[Value]) -> list[Value]:
            inner: Values = ChainMap({}, values)
            inner.update(zip(body.inputs, inputs, strict=False))
            return self._outputs(body, inner, watch)

        results = convert(Call(node, given, numbers, run_body))
        return results if watch is None else watch(node, results)

    def _register(self, name: str, tensor: Tensor, kind: Kind) -> str:
        """Keep a tensor under its name, each part behind a dot in a module of its own; the name it got."""
        owner: nn.Module = self
        parts = [part or "_" for part in name.split(".")]
        path = []
        for wanted in parts[:-1]:
            part = _free(owner, wanted, allow=nn.Module)
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
            path.append(part)
        leaf = _free(owner, parts[-1])
        if kind == "parameter":
            owner.register_parameter(leaf, nn.Parameter(tensor))
        else:
            owner.register_buffer(leaf, tensor)
        return ".".join((*path, leaf))


class _Lazy:
    """A weight that has not been read yet."""

    def __init__(self, module: GraphModule, path: str) -> None:
        self.module, self.path = module, path

    def read(self) -> Tensor:
        self.module.read.add(self.path)
        value: Any = self.module
        for part in self.path.split("."):
            value = getattr(value, part)
        tensor: Tensor = value
        return tensor


def _read(value: Any) -> Value:
    result: Value = value.read() if isinstance(value, _Lazy) else value
    return result


def _free(owner: nn.Module, name: str, allow: type | None = None) -> str:
    while hasattr(owner, name) and not (allow is not None and isinstance(getattr(owner, name), allow)):
        name += "_"
    return name


def _tensor(value: Value, name: str) -> Tensor:
    value = _read(value)
    if isinstance(value, Quantized):
        return value.codes
    if isinstance(value, np.ndarray):
        return tensor_of(value)
    if isinstance(value, Tensor):
        return value
    raise ImportFailed(f"Output '{name}' is a sequence or an optional value, not a tensor.")


def convert(call: Call) -> tuple[Value, ...]:
    """The outputs of one call. Raises `OperatorNotImported`, `NotConstant`, or `ImportFailed` with the node's name."""
    try:
        if computable(call):
            with contextlib.suppress(NotOfNumbers):
                return _tuple(compute(call))
        converter = OPERATORS.get(call.node.op, _unknown)
        first = call.value(0)
        if call.node.op in FOLLOWERS and isinstance(first, Quantized):
            return _moved(call, first)
        return _tuple(converter(call))
    except PareError:
        raise
    except Exception as error:  # torch raises whatever its operators meet
        reason = next(iter(str(error).splitlines()), "")[:300]
        raise ImportFailed(f"{call.node.place}: {type(error).__name__}: {reason}") from error


def _unknown(call: Call) -> Value:
    raise call.refusal("the importer has no form for this operator")


def _moved(call: Call, first: Quantized) -> tuple[Value, ...]:
    """An operator that only moves elements, on the numbers that codes stand for."""
    unlike = (isinstance(value, Tensor | Quantized) and value is not first for value in call.inputs)
    scaled = isinstance(first.scale, Tensor) and first.scale.ndim > 0
    if scaled or (call.node.op in ("Concat", "Pad") and any(unlike)):
        return _tuple(OPERATORS[call.node.op](call))
    inner = Call(call.node, [first.real, *call.inputs[1:]], call.known)
    results = _tuple(OPERATORS[call.node.op](inner))
    return tuple(
        first.moved(result) if isinstance(result, Tensor) and result.is_floating_point() else result
        for result in results
    )


def _tuple(results: Any) -> tuple[Value, ...]:
    return results if isinstance(results, tuple) else (results,)


def folded(node: Node, inputs: list[Value]) -> tuple[np.ndarray, ...] | None:
    """The constants that a node makes of constants; None if they are no plain tensors."""
    with torch.no_grad():
        results = convert(Call(node, inputs, {}))
    arrays = []
    for result in results:
        if isinstance(result, Tensor):
            arrays.append(array_of(result))
        elif isinstance(result, np.ndarray):
            arrays.append(result)
        else:
            return None
    return tuple(arrays)
