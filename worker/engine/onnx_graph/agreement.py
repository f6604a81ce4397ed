"""Whether the ONNX form of a program computes what the program does, and if not, which operator is the first to differ.

Rounding is no disagreement. Outputs that differ by more than a tolerance are held against the program in float64: the
ONNX form may be as far from it as the program in its own precision is, times `FACTOR`. A network that amplifies
rounding beyond measure is judged operator by operator, each given what ONNX Runtime computed before it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils._pytree import tree_map

from worker.engine.data.rows import Rows
from worker.engine.data.synthetic import example_batch, example_shapes
from worker.engine.onnx_graph.differences import distance
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.intermediate import every_value
from worker.engine.onnx_graph.sessions import session
from worker.engine.torch_program.operators import operator_name
from worker.engine.torch_program.precision import in_float64
from worker.engine.torch_program.program import EXAMPLE_ROWS, Program

TOLERANCE: Mapping[str, float] = {"float64": 1e-3, "float32": 1e-3, "float16": 2e-2}
"""By type of the output: a difference below this share of its largest magnitude is rounding."""
FACTOR = 10.0
"""How much further from the float64 program than the program itself its ONNX form may be: sums in another order."""
MEASURABLE = 0.05
"""Beyond this share of its magnitude the program's own rounding errors say nothing about another's."""
NODE_TOLERANCE = 1e-3
"""Of one operator that is given the same inputs."""
ATTENDING = frozenset({"scaled_dot_product_attention", "softmax", "_softmax", "_safe_softmax"})
"""Give something else, or nothing, for a row in which all is masked; no model means it."""

Arrays = Mapping[str, np.ndarray]


def require_same(
    program: Program, path: Path, translated: ExportedProgram, rows: Rows | None, *, threads: int, seed: int
) -> None:
    """Run both on one batch: of `rows` where there are some, else made up. Raises `ExportFailed`."""
    names = [tensor.name for tensor in program.signature.outputs]
    try:
        batch, expected = _run_program(program, rows, seed)
        actual = dict(zip(names, session(path, threads).run(names, dict(batch)), strict=True))
    except Exception as error:  # runtime errors of two libraries, neither with a common class
        raise ExportFailed(f"The ONNX graph of the program does not run: {type(error).__name__}.") from error
    differing = {}
    for name in names:
        want, got = expected[name], actual[name]
        if want.shape != got.shape:
            raise ExportFailed(f"Output {name} has shape {list(got.shape)} in ONNX, not {list(want.shape)}.")
        apart = distance(got, want)
        if want.dtype.name in TOLERANCE and apart > TOLERANCE[want.dtype.name]:
            differing[name] = apart
    if not differing or _is_rounding(program, batch, expected, actual, differing):
        return
    operator = first_difference(program, path, translated, batch, threads)
    if operator is not None:
        name, apart = next(iter(differing.items()))
        said = "" if np.isinf(apart) else f" by {apart:.2%} of its magnitude"
        raise ExportFailed(
            f"Output {name} differs{said} in ONNX; the first operator that computes another is {operator}."
        )


def _run_program(program: Program, rows: Rows | None, seed: int) -> tuple[Arrays, Arrays]:
    """A batch and what the program answers; made up if it cannot take the rows, which a later stage will say."""
    if rows is not None and len(rows):
        batch = _first_rows(program, rows)
        try:
            return batch, program(batch)
        except (RuntimeError, ValueError, IndexError):
            pass  # ids beyond a table, say: it is about the rows, not about the export
    made_up = example_batch(program.signature, EXAMPLE_ROWS, seed, program.index_ranges)
    return made_up, program(made_up)


def _first_rows(program: Program, rows: Rows) -> Arrays:
    """As many as the program takes, repeated where there are fewer."""
    first = program.signature.inputs[0]
    size = (*example_shapes(program.signature, EXAMPLE_ROWS)[first.name], 1)[0]
    feeds, _ = next(rows.batches(size))
    return {name: array[np.arange(size) % len(array)] for name, array in feeds.items()}


def _is_rounding(program: Program, batch: Arrays, expected: Arrays, actual: Arrays, names: Mapping[str, float]) -> bool:
    """Whether every output differs no more than the program's own rounding explains."""
    try:
        module = in_float64(program)
        with torch.inference_mode():
            exact = program.outputs_of(module, {name: _wide(array) for name, array in batch.items()})
    except Exception:  # noqa: BLE001  # an operator without double precision: operators are compared one by one
        return False
    for name in names:
        truth = exact[name].numpy(force=True)
        own, others = distance(expected[name], truth), distance(actual[name], truth)
        if own > MEASURABLE or others > FACTOR * own:
            return False
    return True


def _wide(array: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.array(array))
    return tensor.double() if tensor.is_floating_point() else tensor


def first_difference(
    program: Program, path: Path, translated: ExportedProgram, batch: Arrays, threads: int
) -> str | None:
    """The first operator that computes something else of the same inputs; None if all agree.

    `translated` has the file's values as its nodes, by name; each gets what ONNX Runtime computed before it.
    """
    results: Any = translated.graph.output_node().args[0]
    own = [node for node in results[-len(program.signature.outputs) :] if isinstance(node, fx.Node)]
    given = {node.name: tensor.name for node, tensor in zip(own, program.signature.outputs, strict=False)}
    calls = [node.name for node in translated.graph.nodes if node.op == "call_function"]
    called = {name: given.get(name, name) for name in calls}
    values = every_value(path, set(called.values()), batch, threads)
    walk = _Walk(translated, {name: values[value] for name, value in called.items() if value in values})
    with torch.inference_mode():
        walk.run(*_arguments(program, translated, batch))
    return walk.differs


class _Walk(fx.Interpreter):
    """Runs the translated program operator by operator on ONNX Runtime's values."""

    def __init__(self, translated: ExportedProgram, values: Arrays) -> None:
        super().__init__(translated.graph_module)
        self._values = values
        self.differs: str | None = None

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node; hand on ONNX Runtime's value for it where it has one."""
        result = super().run_node(n)
        value = self._values.get(n.name)
        if value is None or not isinstance(result, Tensor):
            return result
        own = result.numpy(force=True)
        if own.shape != value.shape or self._apart(n, own, value) > NODE_TOLERANCE:
            self.differs = self.differs or f"{operator_name(n)} ({n.name})"
        return torch.from_numpy(np.array(value)).to(result.dtype) if own.shape == value.shape else result

    @staticmethod
    def _apart(node: fx.Node, own: np.ndarray, value: np.ndarray) -> float:
        if own.dtype.kind != "f":
            return 0.0 if own.dtype.kind not in "biu" else float((own != value).mean())
        if operator_name(node) in ATTENDING:
            masked = ~np.isfinite(value).all(axis=-1) | (own == 0).all(axis=-1) | ~np.isfinite(own).all(axis=-1)
            own, value = own[~masked], value[~masked]
        return distance(value, own)


def _arguments(program: Program, translated: ExportedProgram, batch: Arrays) -> list[Any]:
    """What the placeholders of a translated program are given: weights first, then the batch."""
    inputs = iter(program.arguments({name: torch.from_numpy(np.array(array)) for name, array in batch.items()}))
    stored = {**translated.constants, **translated.state_dict}
    arguments = [
        next(inputs) if spec.kind.name == "USER_INPUT" else stored[str(spec.target)]
        for spec in translated.graph_signature.input_specs
    ]
    return list(tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, arguments))
