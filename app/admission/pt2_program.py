"""The exported program in a `.pt2`: its signature, its operators, and whether it agrees with its weights.

Format: torch/_export/serde/schema.py, major version 8 (torch 2.8 and later).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from app.admission.bounded_json import as_dict, as_int, as_list, as_text
from app.admission.errors import Broken, OutdatedModel, TooComplex, TooLarge, UnsupportedType
from app.admission.expressions import read_size
from app.admission.pt2_advice import Export, advice
from app.admission.pt2_harmless import require_harmless
from app.admission.pt2_names import output_names
from app.admission.pt2_state import changed_state
from app.spec.signature import Dimension, DType, ModelInfo, Signature, TensorSpec, linear_size

SCHEMA_MAJOR = 8
MAX_NODES = 50_000
MAX_VALUES = 1000
MAX_ELEMENTS = 1 << 28
MAX_BOUND = 1 << 31
"""Ranges that reach further are unbounded: torch writes 2^63 - 1 or similar."""
STRIDED = 7
_DTYPES: dict[int, DType] = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float32",  # half precision is worked on in float32
    7: "float32",
    8: "float64",
    12: "bool",
    13: "float32",
    28: "uint16",
    34: "uint32",
    35: "uint64",
}
_HALVES = {6: "float16", 13: "bfloat16"}
ITEM_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 2,
    7: 4,
    8: 8,
    9: 4,
    10: 8,
    11: 16,
    12: 1,
    13: 2,
    28: 2,
    29: 1,
    30: 1,
    31: 1,
    32: 1,
    33: 1,
    34: 4,
    35: 8,
}
"""Bytes of an element by the schema's ScalarType."""


@dataclass(frozen=True)
class ProgramWeight:
    """A stored tensor: ScalarType, shape and the member that holds its bytes."""

    dtype: int
    sizes: tuple[int, ...]
    member: str
    is_parameter: bool
    is_trainable: bool


def read_program(program: Any, weights: dict[str, ProgramWeight], constants: dict[str, ProgramWeight]) -> ModelInfo:
    """Check the program against its weights and constants, and describe it.

    Raises `Broken` and subclasses of `AdmissionError`.
    """
    return _Program(as_dict(program), weights, constants).read()


class _Program:
    def __init__(
        self, program: dict[str, Any], weights: dict[str, ProgramWeight], constants: dict[str, ProgramWeight]
    ) -> None:
        self._program = program
        self._weights = weights
        self._constants = constants
        version = as_dict(program.get("schema_version")).get("major")
        if version != SCHEMA_MAJOR:
            raise OutdatedModel(f"The .pt2 has schema version {str(version)[:20]}; {SCHEMA_MAJOR} is accepted.")
        self._module = as_dict(program.get("graph_module"))
        self._graph = as_dict(self._module.get("graph"))
        self._signature = as_dict(self._module.get("signature"))
        self._values = as_dict(self._graph.get("tensor_values"))

    def read(self) -> ModelInfo:
        nodes = list(_nodes(self._graph))
        require_harmless(self._program)
        self._require_bounded()
        inputs, outputs = tuple(self._inputs()), tuple(self._outputs())
        names = output_names(self._module, [spec.name for spec in outputs], {spec.name for spec in inputs})
        renamed = (spec.model_copy(update={"name": name}) for spec, name in zip(outputs, names, strict=True))
        signature = Signature(inputs=inputs, outputs=tuple(renamed))
        operators = Counter(as_text(node.get("target")).removeprefix("torch.ops.") for node in nodes)
        shared = {weight.member: weight for weight in self._weights.values() if weight.is_parameter}
        trainable = [weight.is_trainable for weight in shared.values()]
        state = changed_state(self._graph, self._signature)
        export = Export(self._program, nodes, signature, trainable, state, self._halves())
        return ModelInfo(
            format="pt2",
            signature=signature,
            parameters=sum(prod(weight.sizes) for weight in shared.values()),
            nodes=len(nodes),
            operators=dict(operators),
            warnings=tuple(advice(export)),
        )

    def _halves(self) -> tuple[str, ...]:
        """The types of half precision that weights or values have."""
        values = (value for graph in _graphs(self._graph) for value in as_dict(graph.get("tensor_values")).values())
        types = {as_int(value["dtype"]) for value in map(as_dict, values) if "dtype" in value}
        types |= {weight.dtype for weight in (*self._weights.values(), *self._constants.values())}
        return tuple(name for number, name in _HALVES.items() if number in types)

    def _inputs(self) -> Iterator[TensorSpec]:
        specs, arguments = as_list(self._signature.get("input_specs")), as_list(self._graph.get("inputs"))
        if len(specs) != len(arguments):
            raise Broken("its signature and its graph have different numbers of inputs")
        for spec, argument in zip(specs, arguments, strict=True):
            (kind, said), *others = as_dict(spec).items() or [("", None)]
            said = as_dict(said)
            name = _tensor(said.get("arg", argument))
            if others or name != _tensor(argument):
                raise Broken("its signature and its graph name different inputs")
            match kind:
                case "user_input":
                    wanted = self._spec(name, "input")
                    if 0 in wanted.shape:
                        raise UnsupportedType(f"Input {name[:80]!r} has an axis of size 0, so no data fits it.")
                    yield wanted
                case "parameter":
                    self._require_weight(name, as_text(said.get("parameter_name")), self._weights)
                case "buffer":
                    stored = self._weights if said.get("persistent") else self._constants
                    self._require_weight(name, as_text(said.get("buffer_name")), stored)
                case "tensor_constant":
                    self._require_weight(name, as_text(said.get("tensor_constant_name")), self._constants)
                case _:
                    raise UnsupportedType(f"The model has an input of kind {kind[:40]!r}.")

    def _outputs(self) -> Iterator[TensorSpec]:
        specs, arguments = as_list(self._signature.get("output_specs")), as_list(self._graph.get("outputs"))
        if len(specs) != len(arguments):
            raise Broken("its signature and its graph have different numbers of outputs")
        count = 0
        for spec in specs:
            for kind, said in as_dict(spec).items():
                if kind == "user_output":
                    count += 1
                    yield self._spec(_tensor(as_dict(said).get("arg")), "output")
                elif kind != "buffer_mutation":
                    raise UnsupportedType(f"The model has an output of kind {kind[:40]!r}.")
        if not count:
            raise Broken("it has no outputs")

    def _meta(self, name: str) -> dict[str, Any]:
        if name not in self._values:
            raise Broken(f"tensor {name[:80]!r} is not described")
        return as_dict(self._values[name])

    def _require_weight(self, name: str, stored_name: str, stored: dict[str, ProgramWeight]) -> None:
        weight, meta = stored.get(stored_name), self._meta(name)
        if weight is None:
            raise Broken(f"weight {stored_name[:80]!r} is missing")
        sizes = tuple(as_int(as_dict(size).get("as_int")) for size in as_list(meta.get("sizes")))
        if sizes != weight.sizes or as_int(meta.get("dtype")) != weight.dtype:
            raise Broken(f"weight {stored_name[:80]!r} has another shape or type than the graph expects")

    def _spec(self, name: str, role: str) -> TensorSpec:
        if not name:
            raise UnsupportedType(f"The model has an {role} that is not a tensor.")
        meta = self._meta(name)
        dtype = _DTYPES.get(as_int(meta.get("dtype")))
        if dtype is None:
            raise UnsupportedType(f"{role.capitalize()} {name[:80]!r} is not a tensor of real numbers.")
        shape = tuple(self._dimension(as_dict(size)) for size in as_list(meta.get("sizes")))
        return TensorSpec(name=name, dtype=dtype, shape=shape)

    def _dimension(self, size: dict[str, Any]) -> int | Dimension:
        if "as_int" in size:
            return as_int(size["as_int"])
        name = read_size(as_text(as_dict(size.get("as_expr")).get("expr_str")))[:200]
        linear, ranges = linear_size(name), as_dict(self._program.get("range_constraints"))
        allowed = as_dict(ranges.get(linear.symbol, {}))
        least, most = _least(allowed.get("min_val")), _bound(allowed.get("max_val"))
        return Dimension(
            name=name,
            min=None if least is None else max(1, linear.factor * least + linear.offset),
            max=None if most is None else linear.factor * most + linear.offset,
        )

    def _require_bounded(self) -> None:
        """Every tensor the program says it makes is dense and, as far as its shape is fixed, fits the memory."""
        for graph in _graphs(self._graph):
            for name, value in as_dict(graph.get("tensor_values")).items():
                meta = as_dict(value)
                if meta.get("layout") != STRIDED:
                    raise UnsupportedType(f"{name[:80]!r} is not a dense tensor.")
                sizes = [as_dict(size).get("as_int", 1) for size in as_list(meta.get("sizes"))]
                if any(type(size) is not int or size < 0 for size in sizes) or len(sizes) > 64:
                    raise Broken(f"tensor {name[:80]!r} has an impossible shape")
                if prod(sizes) > MAX_ELEMENTS:
                    raise TooLarge(f"The model makes {name[:80]!r}, of shape {sizes[:8]}.")


def _graphs(graph: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The graph and those inside its nodes' arguments."""
    pending = [graph]
    while pending:
        current = pending.pop()
        yield current
        for node in as_list(current.get("nodes")):
            for argument in as_list(as_dict(node).get("inputs")):
                inner = as_dict(as_dict(argument).get("arg")).get("as_graph")
                if inner is not None:
                    pending.append(as_dict(as_dict(inner).get("graph")))


def _nodes(graph: dict[str, Any]) -> Iterator[dict[str, Any]]:
    count = 0
    for part in _graphs(graph):
        for node in as_list(part.get("nodes")):
            count += 1
            if count > MAX_NODES:
                raise TooComplex(f"The model has more than {MAX_NODES} nodes.")
            yield as_dict(node)


def _tensor(argument: Any) -> str:
    """The name of a tensor argument; empty for other arguments."""
    if not isinstance(argument, dict):
        raise Broken("an argument is damaged")
    tensor = argument.get("as_tensor", argument if argument.keys() == {"name"} else None)
    return "" if tensor is None else as_text(as_dict(tensor).get("name"))


def _least(value: Any) -> int | None:
    """The smallest size. Torch writes 2 for every dynamic size that excludes nothing: 0 and 1 run as well."""
    if value is None:
        return None
    return max(1, as_int(value)) if as_int(value) > 2 else 1


def _bound(value: Any) -> int | None:
    return None if value is None or as_int(value) >= MAX_BOUND else as_int(value)
