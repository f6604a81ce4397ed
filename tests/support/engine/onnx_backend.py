"""ONNX's own backend tests, given to the importer: every operator, with the outputs that it must have."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, SequenceProto, TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

from worker.engine.onnx_import.errors import NotConstant
from worker.engine.onnx_import.module import GraphModule
from worker.engine.onnx_import.preparing import prepared
from worker.engine.onnx_import.values import Quantized, Value, array_of, tensor_of
from worker.engine.onnx_import.weights import Weights

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
"""All that come without a model of a real network, which onnx would download."""
ABSOLUTE = 1e-6
RELATIVE = {"float16": 4e-3, "bfloat16": 2e-2}
SMALLEST_TYPES = {"int4", "uint4", "int2", "uint2", "float4_e2m1fn"}
QUOTED = re.compile(r"\('([^']*)'\)")
DataSet = tuple[list[Any], list[Any]]


@dataclass(frozen=True)
class Case:
    """One test: a model, and inputs with their outputs."""

    name: str
    model: ModelProto
    data: list[DataSet]
    relative: float

    @property
    def operator(self) -> str:
        """The operator that the case is about: that of its only node, else the one its name begins with."""
        operators = [node.op_type for node in self.model.graph.node]
        domains = [node.domain for node in self.model.graph.node]
        if len(set(operators)) == 1:
            return f"{domains[0]}.{operators[0]}" if domains[0] else operators[0]
        known = sorted(operators_of_onnx(), key=len, reverse=True)
        lower = self.name.removeprefix("test_").replace("_", "").lower()
        about = next((name for name in known if lower.startswith(name.lower())), None)
        return about or ", ".join(sorted(set(operators))[:3])


@cache
def operators_of_onnx() -> frozenset[str]:
    """The standard ones, by name."""
    return frozenset(schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain)


def cases(kinds: tuple[str, ...] = KINDS) -> Iterator[Case]:
    """Yield every case of these kinds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, where the cases compute what they expect
        every = [case for kind in kinds for case in load_model_tests(kind=kind)]
    for case in every:
        if case.model is not None:
            data = [(list(inputs), list(outputs)) for inputs, outputs in case.data_sets]
            yield Case(case.name, case.model, data, case.rtol)
        else:
            folder = Path(case.model_dir)
            yield Case(case.name, onnx.load(folder / "model.onnx"), list(_stored(folder)), case.rtol)


def _stored(folder: Path) -> Iterator[DataSet]:
    for rows in sorted(folder.glob("test_data_set_*")):
        yield tuple(  # type: ignore[misc]  # of two
            [_read(path) for path in sorted(rows.glob(f"{kind}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))]
            for kind in ("input", "output")
        )


def _read(path: Path) -> Any:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    if tensor.dims or tensor.raw_data or tensor.data_type:
        return numpy_helper.to_array(tensor)
    sequence = SequenceProto()
    sequence.ParseFromString(path.read_bytes())
    return numpy_helper.to_list(sequence)


def require_passes(case: Case) -> None:
    """Import the case and compare; raises what importing raises, or `AssertionError`.

    Inputs that shape the program, such as axes, are made constants of the file: a program's structure is fixed.
    """
    for inputs, outputs in case.data:
        _require(case, inputs, outputs)


def _require(case: Case, inputs: list[Any], outputs: list[Any]) -> None:
    names = [value.name for value in case.model.graph.input]
    values = dict(zip(names, map(_plain, inputs), strict=False))
    fixed: set[str] = set()
    while True:
        try:
            got = _outputs(_with_constants(case.model, values, fixed), values)
            break
        except NotConstant as error:
            wanted = _to_fix(error, values) - fixed
            if not wanted:
                raise
            fixed |= wanted
    for result, expected in zip(got, outputs, strict=False):
        _require_equal(result, _plain(expected), case.relative)


def _outputs(model: ModelProto, values: dict[str, Any]) -> list[Value]:
    graph = prepared(model)
    module = GraphModule(graph, Weights(graph))
    with torch.no_grad():
        return module.evaluate([_tensor(values[name]) for name in graph.inputs])


def _to_fix(error: NotConstant, values: dict[str, Any]) -> set[str]:
    """The input that the error names; else all that are small or whole numbers."""
    named = {name for name in QUOTED.findall(error.detail) if name in values}
    small = {
        name
        for name, value in values.items()
        if isinstance(value, np.ndarray) and (value.dtype.kind in "iub" or value.size < 9)
    }
    return named or small


def _with_constants(model: ModelProto, values: dict[str, Any], fixed: set[str]) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(model)
    for value in list(changed.graph.input):
        if value.name in fixed:
            changed.graph.initializer.append(numpy_helper.from_array(values[value.name], value.name))
            changed.graph.input.remove(value)
    return changed


def _plain(value: Any) -> Any:
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if value is None or isinstance(value, list | tuple):
        return value
    return np.asarray(value)


def _tensor(value: Any) -> Value:
    if value is None or (isinstance(value, np.ndarray) and value.dtype.kind in "OUS"):
        return value
    return [_tensor(element) for element in value] if isinstance(value, list | tuple) else tensor_of(np.asarray(value))


def _require_equal(got: Any, want: Any, relative: float) -> None:
    if want is None or isinstance(want, list | tuple):
        assert (got is None) == (want is None)
        for element, other in zip(got or [], want or [], strict=True):
            _require_equal(element, np.asarray(other), relative)
        return
    got = got.codes if isinstance(got, Quantized) else got
    array = array_of(got) if isinstance(got, torch.Tensor) else np.asarray(got)
    kind = want.dtype.name
    assert array.shape == want.shape, (array.shape, want.shape)
    assert kind in SMALLEST_TYPES or want.dtype.kind in "OUS" or array.dtype == want.dtype, (array.dtype, want.dtype)
    if want.dtype.kind in "fV":
        with np.errstate(invalid="ignore"):  # numpy's small float types warn of a NaN that they convert
            wide = (array.astype(np.float64), want.astype(np.float64))
        np.testing.assert_allclose(*wide, rtol=max(relative, 1e-3, RELATIVE.get(kind, 0)), atol=ABSOLUTE)
    elif want.dtype.kind == "c":
        np.testing.assert_allclose(array, want, rtol=max(relative, 1e-3), atol=ABSOLUTE)
    else:
        np.testing.assert_array_equal(array.astype(object), want.astype(object))
