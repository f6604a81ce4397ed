"""What a network asks of a device, layer by layer; networks unlike those of published latencies are refused."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from app.spec.signature import Signature
from worker.engine.devices.errors import NotFitted
from worker.engine.onnx_graph.macs import COUNTED, GATES, Shape, inferred_shapes, macs_of, rows_counted

FILE = Path(__file__).with_name("workloads.json")
"""Of the published networks; written by `python -m bench.workloads`."""
IMAGE_AXES = 4
UNLIKE = {
    **dict.fromkeys(GATES, "recurrent layers"),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "GroupQueryAttention", "LayerNormalization"), "transformers"),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"), "ranges found while the model runs"),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "MatMulNBits", "Einsum"), "this operator"),
    "ConvTranspose": "transposed convolutions",
}
"""Operators that no published network has, and what they make of a model."""


@dataclass(frozen=True)
class LayerCosts:
    """Convolutions and matrix products, in order; one number for each layer in every array."""

    macs: np.ndarray
    weights: np.ndarray
    """Elements of the weight."""
    values: np.ndarray
    """Elements that are read and written."""
    fast: np.ndarray
    """Bool: windows of 3 without stride, for which fast convolution (arXiv:1509.09308) multiplies less."""

    @classmethod
    def of(cls, rows: Iterable[tuple[float, float, float, float]]) -> "LayerCosts":
        """From macs, weights, values and fast of each layer."""
        table = np.array(list(rows), np.float64).reshape(-1, 4)
        return cls(table[:, 0], table[:, 1], table[:, 2], table[:, 3] > 0)

    def __len__(self) -> int:
        return len(self.macs)


@dataclass(frozen=True)
class Workload:
    """Of a whole network for one batch."""

    floating: LayerCosts
    integer: LayerCosts
    """Layers whose operands both come from integers."""
    depthwise: bool

    @property
    def macs(self) -> float:
        """Multiply-accumulates of all layers."""
        return float(self.floating.macs.sum() + self.integer.macs.sum())

    @property
    def mostly_integer(self) -> bool:
        """Whether integers do at least half of the work."""
        return bool(2 * self.integer.macs.sum() >= self.macs)


@lru_cache(maxsize=1)
def published_layers() -> dict[str, LayerCosts]:
    """Of the networks whose latencies are published, by their names there."""
    table = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: LayerCosts.of((macs, weights, given + made, fast) for macs, weights, given, made, fast in rows)
        for name, rows in table.items()
    }


def workload_of(path: Path, signature: Signature, batch: int) -> Workload:
    """Read an ONNX file, float or with QDQ nodes. Raises `NotFitted` for a network unlike the published ones."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for node in graph.node:
        if node.op_type in UNLIKE:
            raise NotFitted(f"Nothing like it is published: {UNLIKE[node.op_type]} ({node.op_type} '{node.name}').")
    shapes = inferred_shapes(model, signature)
    made_by = {output: node for node in graph.node for output in node.output}
    constants = _constants(graph.node, {tensor.name for tensor in graph.initializer})
    rows: dict[bool, list[tuple[float, float, float, float]]] = {False: [], True: []}
    depthwise, convolves = False, False
    scale = batch / rows_counted(signature)
    for node in graph.node:
        if node.op_type not in COUNTED:
            continue
        macs = macs_of(node, shapes)
        given, weight, made = (_known(name, node, shapes) for name in (*node.input[:2], node.output[0]))
        if node.input[1] not in constants:
            raise NotFitted(f"Nothing like it is published: products of two activations ('{node.name}').")
        convolves = convolves or node.op_type == "Conv"
        depthwise = _checked_groups(node, given) or depthwise
        values = math.prod(given) + math.prod(made)
        integer = all(_is_integer(name, made_by) for name in node.input[:2])
        rows[integer].append((scale * (macs or 0), math.prod(weight), scale * values, _is_fast(node, weight)))
    if not convolves:
        raise NotFitted("Nothing like it is published: a network without convolutions.")
    return Workload(LayerCosts.of(rows[False]), LayerCosts.of(rows[True]), depthwise)


def _known(name: str, node: NodeProto, shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    """The shape of a node's value; raises `NotFitted` where only running the model would tell it."""
    sizes = tuple(size for size in shapes.get(name, (None,)) if size is not None)
    if len(sizes) != len(shapes.get(name, (None,))):
        raise NotFitted(f"The sizes at {node.op_type} '{node.name}' are only known when the model runs.")
    return sizes


def _constants(nodes: Iterable[NodeProto], known: set[str]) -> set[str]:
    """Names of values that are computed from weights alone; nodes are in the order in which they run."""
    constants = set(known)
    for node in nodes:
        if node.op_type == "Constant" or (node.input and all(name in constants for name in node.input if name)):
            constants.update(node.output)
    return constants


def _is_integer(name: str, made_by: dict[str, NodeProto]) -> bool:
    return name in made_by and made_by[name].op_type == "DequantizeLinear"


def _checked_groups(node: NodeProto, given: tuple[int, ...]) -> bool:
    """Whether it is a depthwise convolution; raises `NotFitted` for windows and groups that are not published."""
    if node.op_type != "Conv":
        return False
    if len(given) != IMAGE_AXES:
        raise NotFitted(f"Nothing like it is published: convolutions over {len(given) - 2} axes ('{node.name}').")
    groups = _attributes(node).get("group", 1)
    if groups not in (1, given[1]):
        raise NotFitted(f"Nothing like it is published: convolutions in {groups} groups ('{node.name}').")
    return bool(groups > 1)


def _is_fast(node: NodeProto, weight: tuple[int, ...]) -> bool:
    attributes = _attributes(node)
    return (
        node.op_type == "Conv"
        and weight[2:] == (3, 3)
        and all(set(attributes.get(name, [1])) == {1} for name in ("strides", "dilations"))
        and attributes.get("group", 1) == 1
    )


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
