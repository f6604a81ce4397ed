"""Values inside of an ONNX graph, as ONNX Runtime computes them."""

import copy
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from worker.engine.onnx_graph.file import parts
from worker.engine.onnx_graph.sessions import session


def every_value(
    path: Path, wanted: Collection[str], inputs: Mapping[str, np.ndarray], threads: int
) -> dict[str, np.ndarray]:
    """Those of the `wanted` values that the file's graph has, by name. Raises `LoadFailed`."""
    model = onnx.load(path, load_external_data=False)
    have = {output.name for output in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name in wanted and name not in have]
    shown = copy.deepcopy(model)
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in made)
    beside = path.with_name(f"{path.stem}-shown.onnx") if len(parts(path)) > 1 else None
    if beside is not None:  # external tensors are found by the file's place
        onnx.save(shown, beside)
    runner = session(beside or shown.SerializeToString(), threads, optimize=False)
    names = [*made, *(name for name in have if name in wanted)]
    return dict(zip(names, runner.run(names, dict(inputs)), strict=True))
