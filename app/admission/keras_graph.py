"""The graph in a Keras model's description: layers by name, what each is called with, shapes from input to output.

Sequential and functional models, nested in each other, with layers that are shared; as Keras 3 writes them, and as
tf.keras did.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, cast, get_args

from app.admission.bounded_json import as_dict, as_int, as_list, as_text
from app.admission.errors import Broken, TooComplex, TooLarge, UnsupportedModel, UnsupportedOperator, UnsupportedType
from app.admission.keras_layers import LAYERS, Shape
from app.spec.signature import DType

CONTAINERS = frozenset({"Sequential", "Functional", "Model"})
MAX_LAYERS = 2_000
"""NASNetLarge has 1,041."""
MAX_CALLS = 20_000
"""Of all layers: models that call each other twice would double them with every level."""
MAX_RANK = 16
MAX_DEPTH = 20
MAX_ELEMENTS = 1 << 28
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,120}")
_BUILD = "Give it an Input: keras.Sequential([keras.Input((28, 28, 1)), …]), and save it again."

Place = tuple[str, int, int]
"""A value: the layer that made it, at which of its calls, which of its results."""


@dataclass
class Network:
    """A model: its inputs and outputs by name, in the order of the call."""

    inputs: dict[str, Shape] = field(default_factory=dict)
    types: dict[str, DType] = field(default_factory=dict)
    outputs: dict[str, Shape] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    """Classes, one for each layer."""
    parameters: int = 0
    calls: int = 0


def read_network(config: dict[str, Any]) -> Network:
    """Follow the shapes through a model's description.

    Raises `Broken`, `TooComplex`, `TooLarge`, `UnsupportedModel`, `UnsupportedOperator`, `UnsupportedType`.
    """
    if config.get("class_name") not in CONTAINERS:
        raise UnsupportedModel("The file holds no sequential or functional Keras model.", remedy=_BUILD)
    network = Network()
    shapes = _Reader(network, 0).model(config, None)
    if not network.inputs or not shapes:
        raise Broken("the model has no inputs or outputs")
    for name, shape in shapes:
        unique = name if name not in network.outputs else f"{name}_{len(network.outputs)}"
        network.outputs[unique] = shape
    for name in (*network.inputs, *network.outputs):
        if not _NAME.fullmatch(name):
            raise Broken("an input or output has a name that is not a plain word")
    return network


class _Reader:
    """Reads one model, at this depth below the outermost; inner ones are called with shapes, the outermost is not."""

    def __init__(self, network: Network, depth: int) -> None:
        self.network, self.depth = network, depth
        if depth > MAX_DEPTH:
            raise TooComplex("The model nests models too deep.")

    def model(self, entry: dict[str, Any], given: Sequence[Shape] | None) -> list[tuple[str, Shape]]:
        """The outputs with the names of their layers."""
        config = as_dict(entry.get("config"))
        layers = [as_dict(layer) for layer in as_list(config.get("layers"))]
        if entry["class_name"] == "Sequential":
            return self._sequential(config, layers, given)
        return self._functional(config, layers, given)

    def _sequential(
        self, config: dict[str, Any], layers: list[dict[str, Any]], given: Sequence[Shape] | None
    ) -> list[tuple[str, Shape]]:
        if not layers:
            raise Broken("a model has no layers")
        if layers[0].get("class_name") == "InputLayer":
            first, layers = layers[0], layers[1:]
        else:
            inner = as_dict(layers[0].get("config"))
            shape = inner.get("batch_shape") or inner.get("batch_input_shape") or config.get("build_input_shape")
            name = f"{as_text(inner.get('name'))}_input"
            first = {"config": {"name": name, "batch_shape": shape, "dtype": config.get("input_dtype", "float32")}}
        values = [self._input(as_dict(first.get("config")), given[0] if given else None)]
        name = as_text(as_dict(first["config"]).get("name"))
        for layer in layers:
            name = as_text(as_dict(layer.get("config")).get("name"))
            values = self._called(layer, values, counted=True)
        return [(name, value) for value in values]

    def _functional(
        self, config: dict[str, Any], layers: list[dict[str, Any]], given: Sequence[Shape] | None
    ) -> list[tuple[str, Shape]]:
        named = {as_text(layer.get("name") or as_dict(layer.get("config")).get("name")): layer for layer in layers}
        if len(named) != len(layers):
            raise Broken("two layers have one name")
        values: dict[Place, Shape] = {}
        wanted = list(_places(config.get("input_layers")))
        if given is not None and len(given) != len(wanted):
            raise Broken("a model inside of the model is called with other inputs than it has")
        for number, (name, _, _) in enumerate(wanted):
            if name not in named or named[name].get("class_name") != "InputLayer":
                raise Broken("an input of the model is not an InputLayer")
            values[name, 0, 0] = self._input(as_dict(named[name].get("config")), given[number] if given else None)
        self._follow({name: layer for name, layer in named.items() if (name, 0, 0) not in values}, values)
        outputs = list(_places(config.get("output_layers")))
        if any(place not in values for place in outputs):
            raise Broken("an output of the model is not computed")
        return [(place[0], values[place]) for place in outputs]

    def _follow(self, layers: dict[str, dict[str, Any]], values: dict[Place, Shape]) -> None:
        """Call the layers in an order in which their inputs are there, which is nearly that of the list."""
        calls = [
            (name, number, list(_places(node)))
            for name, layer in layers.items()
            for number, node in enumerate(as_list(layer.get("inbound_nodes")))
        ]
        if len(calls) > MAX_LAYERS:
            raise TooComplex(f"The model calls layers {len(calls)} times, {MAX_LAYERS} are allowed.")
        counted: set[str] = set()
        while calls:
            later = []
            for name, number, places in calls:
                if any(place not in values for place in places):
                    later.append((name, number, places))
                    continue
                shapes = self._called(layers[name], [values[place] for place in places], counted=name not in counted)
                counted.add(name)
                values.update({(name, number, result): shape for result, shape in enumerate(shapes)})
            if len(later) == len(calls):
                raise Broken("a layer waits for values that nothing makes")
            calls = later

    def _input(self, config: dict[str, Any], given: Shape | None) -> Shape:
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        if shape is None:
            raise UnsupportedModel("The model does not say what shape its input has.", remedy=_BUILD)
        sizes = as_list(shape.get("items") if isinstance(shape, dict) else shape)
        if given is not None:
            return given
        name = as_text(config.get("name"))
        if config.get("sparse") or config.get("ragged"):
            raise UnsupportedType(f"Input {name[:80]!r} is sparse or ragged.")
        if name in self.network.inputs:
            raise Broken("two inputs have one name")
        self.network.inputs[name] = _bounded(None if size is None else as_int(size) for size in sizes)
        self.network.types[name] = _dtype(config.get("dtype", "float32"))
        return self.network.inputs[name]

    def _called(self, layer: dict[str, Any], given: list[Shape], *, counted: bool) -> list[Shape]:
        """What the layer makes of inputs; `counted`: its weights have not been counted yet."""
        kind = as_text(layer.get("class_name"))
        before = self.network.parameters, len(self.network.layers)
        self.network.calls += 1
        if self.network.calls > MAX_CALLS:
            raise TooComplex(f"The model calls layers more than {MAX_CALLS} times.")
        if not given:
            raise Broken("a layer is called with nothing")
        if kind in CONTAINERS:
            shapes = [shape for _, shape in _Reader(self.network, self.depth + 1).model(layer, given)]
        elif kind in LAYERS:
            shape, weights = LAYERS[kind](as_dict(layer.get("config")), given)
            shapes = [_bounded(shape)]
            self.network.parameters += weights
            self.network.layers.append(kind)
        else:
            raise UnsupportedOperator(f"The model has a layer {kind[:80]!r}, which is not read.")
        if len(self.network.layers) > MAX_LAYERS:
            raise TooComplex(f"The model has more than {MAX_LAYERS} layers.")
        if not counted:
            self.network.parameters = before[0]
            del self.network.layers[before[1] :]
        return shapes


def _places(node: Any) -> Iterator[Place]:
    """The values that a part of a description refers to, in the order of the call."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            node = as_dict(node.get("config")).get("keras_history")
            yield _place(as_list(node))
        else:
            for key in sorted(node):  # "args" before "kwargs", and a dictionary of inputs as Keras flattens it
                yield from _places(node[key])
    elif isinstance(node, list):
        if len(node) in {3, 4} and isinstance(node[0], str):
            yield _place(node)
        else:
            for inner in node:
                yield from _places(inner)


def _place(reference: list[Any]) -> Place:
    if len(reference) not in {3, 4}:
        raise Broken("a layer refers to nothing")
    return as_text(reference[0]), as_int(reference[1]), as_int(reference[2])


def _bounded(sizes: Any) -> Shape:
    shape = tuple(sizes)
    if not 1 <= len(shape) <= MAX_RANK or any(size is not None and size < 1 for size in shape):
        raise Broken("a value of the model has an impossible shape")
    if prod(size or 1 for size in shape) > MAX_ELEMENTS:
        raise TooLarge(f"The model makes a tensor of shape {list(shape)[:8]}.")
    return shape


def _dtype(value: Any) -> DType:
    named = as_dict(value.get("config")).get("name") if isinstance(value, dict) else value
    if named not in get_args(DType):
        raise UnsupportedType(f"An input is of type {str(named)[:40]!a}.")
    return cast("DType", named)
