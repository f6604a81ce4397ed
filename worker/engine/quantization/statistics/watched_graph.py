"""The float graph with what is observed as its outputs, and nothing that none of them depends on."""

from collections.abc import Collection, Iterable

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from worker.engine.onnx_graph.file import default_opset
from worker.engine.onnx_graph.topological import keep_ancestors
from worker.engine.quantization.statistics.point import Reduction, StatisticPoint

AXES_ARE_INPUT = 18
"""The opset from which ReduceMin, ReduceMax and ReduceMean take their axes as an input."""


def watch(model: ModelProto, points: Collection[StatisticPoint]) -> None:
    """Have the graph put out the reductions, sizes and arrays that the points name, and nothing else."""
    values = {point.value for point in points}
    reductions = {
        value: list(
            dict.fromkeys(entry for point in points if point.value == value for entry in point.statistic.reductions)
        )
        for value in values
    }
    arrays = {point.value for point in points if point.statistic.reads_array}
    # The runtime plans from the last leaf back: added in this order, a value is reduced, and freed, before the next is
    # computed. In the other one all of them are held to the end (resnet50: 1.6 GB for 16 rows).
    for value in reversed(in_graph_order(model, values)):
        for reduction in reductions[value]:
            _add_reduction(model, value, reduction)
        _add_size(model, value)
    _put_out(model, arrays)
    outputs = {reduced_name(value, reduction) for value in values for reduction in reductions[value]}
    _put_out_only(model, outputs | arrays | {size_name(value) for value in values})


def in_graph_order(model: ModelProto, values: Collection[str]) -> list[str]:
    """The values in the order in which the graph computes them, its inputs first."""
    made = [entry.name for entry in model.graph.input] + [name for node in model.graph.node for name in node.output]
    return [name for name in made if name in values]


def reduced_name(value: str, reduction: Reduction) -> str:
    """The name that a reduction's result has in the watched graph."""
    axes = "" if reduction.axes is None else "_" + "_".join(map(str, reduction.axes))
    return f"{value}/pare_{reduction.operator}{axes}"


def size_name(value: str) -> str:
    """The name of a value's number of elements in the watched graph."""
    return f"{value}/pare_size"


def _add_reduction(model: ModelProto, value: str, reduction: Reduction) -> None:
    name = reduced_name(value, reduction)
    node = helper.make_node(reduction.operator, [value], [name], name, keepdims=0)
    if reduction.axes is not None and default_opset(model) >= AXES_ARE_INPUT:
        places = f"{name}/axes"
        model.graph.initializer.append(numpy_helper.from_array(np.array(reduction.axes, np.int64), places))
        node.input.append(places)
    elif reduction.axes is not None:
        node.attribute.append(helper.make_attribute("axes", reduction.axes))
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


def _add_size(model: ModelProto, value: str) -> None:
    name = size_name(value)
    model.graph.node.append(helper.make_node("Size", [value], [name], name))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, []))


def _put_out(model: ModelProto, arrays: Iterable[str]) -> None:
    """Have these float32 values leave the graph; its inputs are known anyway."""
    present = {entry.name for entry in (*model.graph.output, *model.graph.input)}
    for value in sorted(set(arrays) - present):
        model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))


def _put_out_only(model: ModelProto, outputs: Collection[str]) -> None:
    """Leave the graph these outputs, and the nodes that they depend on.

    A leaf that is not reduced costs memory, read or not: the runtime computes convolutions in a layout of its own, puts
    a node that turns it back behind the last of them, and begins with what this needs. Then every activation on the way
    is held until it is reduced (16 convolutions of 16 MB each: 277 MB instead of 60).
    """
    kept = [output for output in model.graph.output if output.name in outputs]
    model.graph.ClearField("output")
    model.graph.output.extend(kept)
    keep_ancestors(model.graph)
