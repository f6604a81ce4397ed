"""If, Loop and Scan, whose bodies become part of the program, sequences, and optional values."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.engine.onnx_import.call import Call, Converter, is_symbolic_number
from worker.engine.onnx_import.errors import NotConstant
from worker.engine.onnx_import.graph import Graph
from worker.engine.onnx_import.values import Value, numbers

MOST_TRIPS = 10_000


def condition(call: Call) -> Any:
    """The branch that a known condition takes. If only the values decide, both are computed and one is selected."""
    yes: Graph = call["then_branch"]
    no: Graph = call["else_branch"]
    if call.is_known(0):
        return tuple(call.run(yes if bool(call.number(0)) else no, []))
    chosen = call.tensor(0).reshape(())
    both = list(zip(call.run(yes, []), call.run(no, []), strict=True))
    return tuple(_selected(call, chosen, first, second) for first, second in both)


def _selected(call: Call, chosen: Tensor, first: Value, second: Value) -> Tensor:
    if any(value is None or isinstance(value, list) for value in (first, second)):
        raise NotConstant(f"{call.node.place}: its condition depends on the values, and its results are no tensors.")
    tensors = [Call(call.node, [value], {}).tensor(0) for value in (first, second)]
    if tensors[0].dtype != tensors[1].dtype or len(tensors[0].shape) != len(tensors[1].shape):
        raise NotConstant(f"{call.node.place}: its condition depends on the values, and its branches differ in shape.")
    return torch.where(chosen, tensors[0], tensors[1])


def loop(call: Call) -> Any:
    """Unrolled: the number of trips and whether to go on must be known."""
    body: Graph = call["body"]
    trips = call.number(0) if call.has(0) else MOST_TRIPS
    going: Any = call.value(1) if call.has(1) else np.array(True)  # as ONNX has it
    carried: list[Value] = list(call.inputs[2:])
    count = len(carried)
    stacked: list[list[Value]] = [[] for _ in range(len(body.outputs) - 1 - count)]
    if is_symbolic_number(trips):
        raise NotConstant(f"{call.node.place}: as many trips as a size of the inputs, which varies.")
    for trip in range(min(int(trips), MOST_TRIPS + 1)):
        if not _goes_on(call, going):
            break
        if trip == MOST_TRIPS:
            raise call.refusal(f"more than {MOST_TRIPS:,} trips")
        going, *results = call.run(body, [np.array(trip, np.int64), going, *carried])
        carried = results[:count]
        for place, value in enumerate(results[count:]):
            stacked[place].append(value)
    return (*carried, *(_stack(call, values) for values in stacked))


def _goes_on(call: Call, going: Value) -> bool:
    if isinstance(going, np.ndarray):
        return bool(going.reshape(-1)[0])
    raise NotConstant(f"{call.node.place}: whether it goes on depends on the values that the model is given.")


def _stack(call: Call, values: list[Value]) -> Value:
    if all(isinstance(value, np.ndarray) for value in values) and values:
        return np.stack(values)  # type: ignore[arg-type]  # all are arrays
    if not values:
        raise call.refusal("no trip at all, but results of every trip")
    return torch.stack([Call(call.node, [value], {}).tensor(0) for value in values])


def scan(call: Call) -> Any:
    """Unrolled over a known length. Operator set 8 has a batch in front."""
    body: Graph = call["body"]
    scanned = call["num_scan_inputs"]
    if call.node.version < 9:
        return _batched_scan(call, body, scanned)
    return _scan(call, body, scanned, list(call.inputs))


def _batched_scan(call: Call, body: Graph, scanned: int) -> Any:
    if call.has(0):
        raise call.refusal("lengths of its own for each row")
    tensors = [call.tensor(place) for place in range(1, len(call))]
    rows = [_scan(call, body, scanned, [tensor[row] for tensor in tensors]) for row in range(int(tensors[0].shape[0]))]
    return tuple(torch.stack(list(results)) for results in zip(*rows, strict=True))


def _scan(call: Call, body: Graph, scanned: int, values: list[Value]) -> tuple[Value, ...]:
    count = len(values) - scanned
    carried, sources = values[:count], [Call(call.node, [value], {}).tensor(0) for value in values[count:]]
    axes = call.get("scan_input_axes") or [0] * scanned
    backward = call.get("scan_input_directions") or call.get("directions") or [0] * scanned
    steps = sources[0].shape[axes[0]]
    if is_symbolic_number(steps):
        raise NotConstant(f"{call.node.place}: as many steps as a size of the inputs, which varies.")
    results: list[list[Value]] = [[] for _ in range(len(body.outputs) - count)]
    for step in range(int(steps)):
        parts = [
            source.select(axis, int(steps) - 1 - step if turned else step)
            for source, axis, turned in zip(sources, axes, backward, strict=True)
        ]
        made = call.run(body, [*carried, *parts])
        carried = made[:count]
        for place, value in enumerate(made[count:]):
            results[place].append(value)
    out_axes = call.get("scan_output_axes") or [0] * len(results)
    out_backward = call.get("scan_output_directions") or [0] * len(results)
    stacked = [
        torch.stack([Call(call.node, [value], {}).tensor(0) for value in (reversed(part) if turned else part)], axis)
        for part, axis, turned in zip(results, out_axes, out_backward, strict=True)
    ]
    return (*carried, *stacked)


def sequence(call: Call) -> list[Value]:
    """A sequence of the inputs."""
    return list(call.inputs)


def _elements(call: Call, place: int = 0) -> list[Any]:
    value = call.value(place)
    if not isinstance(value, list):
        raise call.refusal(f"its input {place + 1} is no sequence")
    return value


def element(call: Call) -> Value:
    """The element at a place of a sequence."""
    element: Value = _elements(call)[int(call.number(1))]
    return element


def inserted(call: Call) -> list[Value]:
    """Before a place, or at the end."""
    values = _elements(call)
    place = int(call.number(2)) if call.has(2) else len(values)
    place = place + len(values) if place < 0 else place
    return [*values[:place], call.value(1), *values[place:]]


def erased(call: Call) -> list[Value]:
    """Without one: the last, or that at a place."""
    values = _elements(call)
    place = (int(call.number(1)) if call.has(1) else -1) % len(values)
    return [*values[:place], *values[place + 1 :]]


def length(call: Call) -> np.ndarray:
    """Length of a sequence, int64."""
    return numbers([len(_elements(call))]).reshape(())


def split_to_sequence(call: Call) -> list[Tensor]:
    """Parts along an axis: of one size, of given sizes, or single slices."""
    value, axis = call.tensor(0), call.get("axis", 0)
    if not call.has(1):
        parts = list(torch.split(value, 1, axis))
        return parts if call.get("keepdims", 1) else [part.squeeze(axis) for part in parts]
    sizes = call.numbers(1)
    return list(torch.split(value, int(sizes) if sizes.ndim == 0 else call.sizes(1), axis))


def concat_from_sequence(call: Call) -> Tensor:
    """One after the other, or along a new axis."""
    tensors = [Call(call.node, [value], {}).tensor(0) for value in _elements(call)]
    return torch.stack(tensors, call["axis"]) if call.get("new_axis") else torch.cat(tensors, call["axis"])


def mapped(call: Call) -> Any:
    """The results of a body for every element; what is no sequence is given to each."""
    body: Graph = call["body"]
    count = len(_elements(call))
    rows = [
        call.run(body, [value[place] if isinstance(value, list) else value for value in call.inputs])
        for place in range(count)
    ]
    return tuple([row[place] for row in rows] for place in range(len(body.outputs)))


def optional_value(call: Call) -> Value:
    """The value of an optional; refused where it is empty."""
    if call.value(0) is None:
        raise call.refusal("the value of something that is not there")
    return call.value(0)


CONVERTERS: dict[str, Converter] = {
    "ConcatFromSequence": concat_from_sequence,
    "If": condition,
    "Loop": loop,
    "Optional": lambda call: call.value(0),
    "OptionalGetElement": optional_value,
    "OptionalHasElement": lambda call: np.array(call.value(0) is not None),
    "Scan": scan,
    "SequenceAt": element,
    "SequenceConstruct": sequence,
    "SequenceEmpty": lambda _: [],
    "SequenceErase": erased,
    "SequenceInsert": inserted,
    "SequenceLength": length,
    "SequenceMap": mapped,
    "SplitToSequence": split_to_sequence,
}
"""By operator."""
