"""ONNX Runtime's own registry of kernels and schemas: whether its CPU provider can run a node."""

from collections import defaultdict
from functools import cache
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as state

from app.spec.compatibility import Support
from worker.engine.onnx_graph.sessions import ort

SOURCE = f"onnxruntime {ort.__version__} CPU kernel registry"
CPU = "CPUExecutionProvider"
STANDARD = ("", "ai.onnx")
HALVES = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
NAMES: dict[int, str] = {
    TensorProto.FLOAT: "float",
    TensorProto.DOUBLE: "double",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.STRING: "string",
    TensorProto.BOOL: "bool",
}
"""Types that the registry spells in its own way; the others as ONNX does."""


def runs(model: ModelProto, node: NodeProto, types: dict[str, int]) -> tuple[Support, str]:
    """Whether the node has a kernel for its types, and what there is to say. `types` are those of values, by name."""
    domain = "" if node.domain in STANDARD else node.domain
    if any((function.domain, function.name) == (node.domain, node.op_type) for function in model.functions):
        return "supported", "A function of the model's own, which is written out."
    if domain == "" and node.op_type == "Constant":
        return "supported", ""  # becomes an initializer while the model is loaded, and has no kernel
    schema = _schema(model, domain, node.op_type)
    if schema is None:
        return "unsupported", "The runtime does not know the operator."
    return _served(schema, _bound(schema, node, types))


def _served(schema: Any, bound: dict[str, set[int]]) -> tuple[Support, str]:
    if _has_kernel(schema, bound):
        return "supported", ""
    if HALVES & {kind for kinds in bound.values() for kind in kinds}:
        wide = {
            name: {TensorProto.FLOAT if kind in HALVES else kind for kind in kinds} for name, kinds in bound.items()
        }
        if _has_kernel(schema, wide):
            return "falls_back", "There is no kernel for 16-bit floats: it is computed in float32, between casts."
    if _is_function(schema) and _allowed(schema, bound):
        return "falls_back", "It has no kernel of its own: it is written out as its definition in other operators."
    kinds = sorted({spelled(kind) for kinds in bound.values() for kind in kinds})
    return "unsupported", f"There is no kernel for {', '.join(kinds) or 'it'}."


def spelled(kind: int) -> str:
    """As the registry writes a tensor's type."""
    return f"tensor({NAMES.get(kind, str(TensorProto.DataType.Name(kind)).lower())})"


@cache
def _kernels() -> dict[tuple[str, str], list[Any]]:
    kernels: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == CPU:
            kernels[_domain(kernel.domain), kernel.op_name].append(kernel)
    return dict(kernels)


@cache
def _schemas() -> dict[tuple[str, str], list[Any]]:
    schemas: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for schema in state.get_all_operator_schema():
        schemas[_domain(schema.domain), schema.name].append(schema)
    return dict(schemas)


def _domain(name: str) -> str:
    return "" if name in STANDARD else name


def _schema(model: ModelProto, domain: str, operator: str) -> Any:
    """The operator as the model's opset has it; None if there is none."""
    opset = next((entry.version for entry in model.opset_import if _domain(entry.domain) == domain), None)
    known = [
        schema for schema in _schemas().get((domain, operator), ()) if opset is None or schema.since_version <= opset
    ]
    return max(known, key=lambda schema: int(schema.since_version), default=None)


def _bound(schema: Any, node: NodeProto, types: dict[str, int]) -> dict[str, set[int]]:
    """The types that the node gives to each type parameter of its operator."""
    bound: dict[str, set[int]] = defaultdict(set)
    for formal, given in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for place, name in enumerate(given):
            if name in types and formal:
                bound[formal[min(place, len(formal) - 1)].typeStr].add(types[name])
    return dict(bound)


def _has_kernel(schema: Any, bound: dict[str, set[int]]) -> bool:
    for kernel in _kernels().get((_domain(schema.domain), schema.name), ()):
        first, last = kernel.version_range
        if first <= schema.since_version <= last and all(
            {spelled(kind) for kind in kinds} <= set(kernel.type_constraints[name])
            for name, kinds in bound.items()
            if name in kernel.type_constraints
        ):
            return True
    return False


def _allowed(schema: Any, bound: dict[str, set[int]]) -> bool:
    """Whether the operator is defined for the types at all."""
    known = {types.type_param_str: set(types.allowed_type_strs) for types in schema.type_constraints}
    return all({spelled(kind) for kind in kinds} <= known[name] for name, kinds in bound.items() if name in known)


def _is_function(schema: Any) -> bool:
    """Whether ONNX defines the operator by others."""
    try:
        defined = onnx.defs.get_schema(schema.name, schema.since_version, schema.domain)
    except onnx.defs.SchemaError:
        return False
    return bool(defined.has_function or defined.has_context_dependent_function)  # type: ignore[attr-defined]  # untyped
