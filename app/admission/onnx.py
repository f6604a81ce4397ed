"""ONNX files: a ModelProto read field by field, without onnx and without its tensors.

Format: onnx.proto (IR version 3 and later).
"""

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import BinaryIO

from app.admission.errors import Broken, OutdatedModel, TooComplex, TooLarge, UnsupportedOperator, UnsupportedType
from app.admission.onnx_graph import DEFAULT_ALIAS, MAX_ELEMENTS, MAX_NODES, GraphReader, Key, Scope
from app.admission.onnx_tensors import STRING, External
from app.admission.protobuf import LENGTH, VARINT, Layout, Span, Value, Walker, signed
from app.spec.signature import Dimension, DType, ModelInfo, Signature, TensorSpec

MIN_OPSET = 7
CURRENT_OPSET, UPGRADED_OPSET = 13, 17
"""Files of an older opset than the first are upgraded to the second before they are worked on."""
MIN_IR = 3
MAX_FUNCTIONS = 10_000
MAX_VALUES = 1000
"""Inputs, and outputs, at most."""
_INT, _BYTES = frozenset({VARINT}), frozenset({LENGTH})
_MODEL: Layout = {1: _INT, 7: _BYTES, 8: _BYTES, 20: _BYTES, 25: _BYTES}
_OPSET: Layout = {1: _BYTES, 2: _INT}
_VALUE: Layout = {2: _BYTES}
_TYPE: Layout = dict.fromkeys((1, 4, 5, 7, 8, 9), _BYTES)
_TENSOR_TYPE: Layout = {1: _INT, 2: _BYTES}
_SHAPE: Layout = {1: _BYTES}
_DIM: Layout = {1: _INT, 2: _BYTES}
NO_SCORES: Mapping[str, int] = MappingProxyType({})
NAMELESS = frozenset({"", "?", "None", "unknown"})
"""How converters call a dimension without a name: two of them need not be equal."""
_OTHER_TYPES = {4: "sequence", 5: "map", 7: "opaque value", 8: "sparse tensor", 9: "optional value"}
_DTYPES: dict[int, DType] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}


@dataclass(frozen=True)
class OnnxFile:
    """What the file says, and the files it refers to."""

    info: ModelInfo
    externals: tuple[External, ...]


def read_onnx(file: BinaryIO, begin: int, end: int) -> OnnxFile:
    """Read the ModelProto in the bytes `[begin, end)` of a file on disk.

    Raises `Broken`, `OutdatedModel`, `UnsupportedOperator`, `UnsupportedType`, `TooComplex`, `TooLarge`.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Model(Walker(data)).read(Span(begin, end))


class _Model:
    def __init__(self, walker: Walker) -> None:
        self._walker = walker

    def read(self, span: Span) -> OnnxFile:
        parts = self._parts(span)
        opset = self._opset(parts)
        keys = [GraphReader(self._walker).function_key(function) for function in parts.functions]
        if len(set(keys)) != len(keys):
            raise Broken("two local functions have the same name")
        reader = GraphReader(self._walker, frozenset(keys))
        graph = reader.graph(parts.graph, Scope())
        sizes = self._require_inlined(reader, parts.functions)
        undeclared = reader.domains - parts.opsets.keys()
        if undeclared:
            raise Broken(f"domain {min(undeclared)[:80]!r} is used, but its version is not declared")
        initialized = {self._initializer_name(tensor) for tensor in graph.initializers}
        outputs = self._delivered(graph.outputs, reader)
        signature = Signature(
            inputs=self._specs([v for v in graph.inputs if reader.value_name(v) not in initialized], reader),
            outputs=self._specs(outputs.kept, reader, outputs.scores),
        )
        if not signature.outputs:
            raise Broken("it has no outputs")
        if empty := [spec.name for spec in signature.inputs if 0 in spec.shape]:
            raise UnsupportedType(
                f"Input {empty[0][:80]!r} has an axis of size 0, so no data fits it.",
                remedy="Give the axis its size, or a name if it is dynamic, and export again.",
            )
        info = ModelInfo(
            format="onnx",
            signature=signature,
            parameters=reader.parameters,
            nodes=sizes,
            operators=dict(reader.operators),
            opset=opset,
            warnings=(*_warnings(signature, trains=reader.trains), *_changes(opset, outputs)),
        )
        return OnnxFile(info, tuple(reader.externals))

    def _parts(self, span: Span) -> "_Parts":
        ir, graph = None, None
        parts = _Parts()
        for number, value in self._walker.fields(span, _MODEL):
            if number == 20:
                raise UnsupportedOperator("The model carries training information (TrainingInfoProto).")
            if number == 1:
                ir = _int(value)
            elif number == 7:
                if graph is not None:
                    raise Broken("it has two graphs")
                graph = _span(value)
            elif number == 8:
                self._add_opset(_span(value), parts.opsets)
            else:
                parts.functions.append(_span(value))
        if ir is None or graph is None:
            raise Broken("it has no graph or no IR version")
        if ir < MIN_IR:
            raise OutdatedModel(f"The model has IR version {ir}; {MIN_IR} and later are accepted.")
        parts.graph = graph
        return parts

    def _add_opset(self, span: Span, opsets: dict[str, int]) -> None:
        domain, version = "", 0
        for number, value in self._walker.fields(span, _OPSET):
            if number == 1:
                domain = self._walker.text(value)
            else:
                version = _int(value)
        domain = "" if domain == DEFAULT_ALIAS else domain
        if opsets.get(domain, version) != version or not 0 < version < 2**31:
            raise Broken(f"the version of domain {domain[:80]!r} is declared as two or impossible")
        opsets[domain] = version

    def _opset(self, parts: "_Parts") -> int:
        opset = parts.opsets.get("")
        if opset is None:
            raise Broken("it does not declare an opset")
        if opset < MIN_OPSET:
            raise OutdatedModel(
                f"The model has opset {opset}; {MIN_OPSET} and later are accepted.",
                remedy=f"Convert it with onnx.version_converter.convert_version(model, {UPGRADED_OPSET}), or export it "
                "again.",
            )
        return opset

    def _require_inlined(self, main: GraphReader, functions: list[Span]) -> int:
        """Nodes after every local function is inlined; raises `TooComplex`, or `Broken` for functions in a circle."""
        bodies: dict[Key, GraphReader] = {}
        nodes = main.nodes
        for span in functions:
            key, body = main.function(span)
            bodies[key] = body
            main.externals += body.externals
            main.trains |= body.trains
            nodes += body.nodes
            if nodes > MAX_NODES or len(bodies) > MAX_FUNCTIONS:
                raise TooComplex(f"The model has more than {MAX_NODES} nodes or {MAX_FUNCTIONS} functions.")
        sizes: dict[Key, int] = {}
        for key in _callees_first(bodies):
            sizes[key] = _inlined(bodies[key], sizes)
        total = _inlined(main, sizes)
        if total > MAX_NODES:
            raise TooComplex(f"The model has {total} nodes after its functions are inlined.")
        return total

    def _initializer_name(self, span: Span) -> str:
        return next((self._walker.text(value) for _, value in self._walker.fields(span, {8: _BYTES})), "")

    def _delivered(self, values: list[Span], reader: GraphReader) -> "_Outputs":
        """The outputs that are tensors of numbers, and scores behind a ZipMap; texts are left out beside others."""
        outputs = _Outputs()
        for value in values:
            name = reader.value_name(value)
            if name in reader.zipped:
                outputs.scores[name] = reader.zipped[name]
            elif self._is_text(value):
                outputs.texts.append(name)
                continue
            outputs.kept.append(value)
        if not outputs.kept:
            outputs.kept = values  # which says what is wrong with them
        return outputs

    def _is_text(self, value: Span) -> bool:
        """Whether a value is a tensor of strings."""
        for number, type_ in self._walker.fields(value, _VALUE):
            if number == 2:  # ValueInfoProto.type
                for kind, tensor in self._walker.fields(_span(type_), _TYPE):
                    if kind == 1:
                        return any(n == 1 and v == STRING for n, v in self._walker.fields(_span(tensor), _TENSOR_TYPE))
        return False

    def _specs(
        self, values: list[Span], reader: GraphReader, scores: Mapping[str, int] = NO_SCORES
    ) -> tuple[TensorSpec, ...]:
        """What values are; `scores` are those behind a ZipMap, with the number of their classes."""
        if len(values) > MAX_VALUES:
            raise TooComplex(f"The model has more than {MAX_VALUES} inputs or outputs.")
        specs = tuple(
            TensorSpec(name=name, dtype="float32", shape=(Dimension(name=f"{name}_dim0"), scores[name]))
            if name in scores
            else self._spec(value, name)
            for value in values
            for name in [reader.value_name(value)]
        )
        if len({spec.name for spec in specs}) != len(specs):
            raise Broken("an input or output is listed twice")
        return specs

    def _spec(self, span: Span, name: str) -> TensorSpec:
        tensor = self._one(self._one(span, _VALUE, 2, name), _TYPE, 1, name)
        parts = dict(self._walker.fields(tensor, _TENSOR_TYPE))
        dtype = _DTYPES.get(_int(parts.get(1, 0)))
        if dtype is None:
            raise UnsupportedType(f"{name[:80]!r} is not a tensor of numbers (element type {parts.get(1, 0)}).")
        if 2 not in parts:
            raise UnsupportedType(
                f"{name[:80]!r} has no declared shape.",
                remedy="Run onnx.shape_inference.infer_shapes and upload the result.",
            )
        dims = [_span(dim) for _, dim in self._walker.fields(_span(parts[2]), _SHAPE)]
        shape = tuple(self._dimension(dim, f"{name}_dim{axis}") for axis, dim in enumerate(dims))
        if prod(size for size in shape if isinstance(size, int)) > MAX_ELEMENTS:
            raise TooLarge(f"{name[:80]!r} has more than {MAX_ELEMENTS} elements.")
        return TensorSpec(name=name, dtype=dtype, shape=shape)

    def _one(self, span: Span, layout: Layout, wanted: int, name: str) -> Span:
        """The only field of a message; its other fields would be other types of the value."""
        types = list(self._walker.fields(span, layout))
        if not types:
            raise UnsupportedType(f"{name[:80]!r} has no declared type.")
        number, value = types[0]
        if number != wanted:
            raise UnsupportedType(f"{name[:80]!r} is a {_OTHER_TYPES[number]}, not a tensor.")
        if len(types) > 1:
            raise Broken(f"{name[:80]!r} has two types")
        return _span(value)

    def _dimension(self, span: Span, unnamed: str) -> int | Dimension:
        sizes = list(self._walker.fields(span, _DIM))
        if len(sizes) > 1:
            raise Broken("a dimension has two sizes")
        if not sizes:
            return Dimension(name=unnamed)
        number, value = sizes[0]
        if number == 1:
            size = signed(_int(value))
            # A negative size is how older converters write "unknown". ONNX Runtime takes 0 at its word.
            return size if size >= 0 else Dimension(name=unnamed)
        named = self._walker.text(value)[:200]
        return Dimension(name=unnamed if named in NAMELESS else named)


@dataclass
class _Outputs:
    """What of a graph's outputs is delivered."""

    kept: list[Span] = field(default_factory=list)
    scores: dict[str, int] = field(default_factory=dict)
    """Those of a ZipMap, which are delivered as the tensor behind it: the number of classes by name."""
    texts: list[str] = field(default_factory=list)
    """Tensors of strings, which are not delivered."""


class _Parts:
    def __init__(self) -> None:
        self.graph = Span(0, 0)
        self.opsets: dict[str, int] = {}
        self.functions: list[Span] = []


def _callees_first(bodies: dict[Key, GraphReader]) -> list[Key]:
    """The functions in an order in which each comes after those it calls (Kahn)."""
    waiting = Counter({key: len(body.calls) for key, body in bodies.items()})
    callers: dict[Key, list[Key]] = {key: [] for key in bodies}
    for key, body in bodies.items():
        for callee in body.calls:
            callers[callee].append(key)
    order = [key for key in bodies if not waiting[key]]
    for key in order:
        for caller in callers[key]:
            waiting[caller] -= 1
            if not waiting[caller]:
                order.append(caller)
    if len(order) != len(bodies):
        raise Broken("local functions call each other in a circle")
    return order


def _inlined(body: GraphReader, sizes: dict[Key, int]) -> int:
    called = sum(body.calls.values())
    return body.nodes - called + sum(times * sizes[key] for key, times in body.calls.items())


def _warnings(signature: Signature, *, trains: bool) -> tuple[str, ...]:
    warnings = []
    if trains:
        warnings.append("BatchNormalization is in training mode: export the model after model.eval().")
    fixed = [spec.name for spec in signature.inputs if spec.shape and isinstance(spec.shape[0], int)]
    if fixed:
        warnings.append(
            f"The first dimension of {fixed[0][:80]!r} is fixed, so only this batch size can be run. Export with a "
            "dynamic batch: torch.onnx.export(model, args, 'model.onnx', dynamo=True, dynamic_shapes=({0: 'batch'},))."
        )
    return tuple(warnings)


def _changes(opset: int, outputs: _Outputs) -> Iterator[str]:
    """What is worked on instead of what the file holds."""
    if opset < CURRENT_OPSET:
        yield (
            f"The file has opset {opset}: it is upgraded to {UPGRADED_OPSET} by onnx.version_converter, compared with "
            "the upload in ONNX Runtime, and worked on and delivered as that."
        )
    for name in outputs.scores:
        yield f"Output {name[:80]!r} is a sequence of maps (ZipMap): it is delivered as the tensor of scores behind it."
    if outputs.texts:
        yield f"Output {outputs.texts[0][:80]!r} is text and is not delivered; the scores are."


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise Broken("a number is a message")
    return value


def _span(value: Value) -> Span:
    if isinstance(value, int):
        raise Broken("a message is a number")
    return value
