"""Looking at graphs for targets, as a worker does, without a service."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from app.spec.compatibility import Compatibility, CompatibilityOrder
from app.spec.signature import ModelInfo
from app.spec.targets import Target
from app.spec.work import ModelFile
from tests.support.engine.orders import signature_of
from worker.engine.compatibility import find_out
from worker.engine.progress import Unheard

IMAGES = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])


def graph(
    *nodes: NodeProto, kind: int = TensorProto.FLOAT, opset: int = 20, domains: Sequence[str] = (), **constants: object
) -> ModelProto:
    """A graph from images x to y."""
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name, shape in (("x", ["n", 3, 8, 8]), ("y", None)))
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(helper.make_graph(list(nodes), "g", [x], [y], tensors), opset_imports=opsets)
    model.ir_version = 10
    return model


def order(model: ModelProto, directory: Path, *targets: Target) -> CompatibilityOrder:
    onnx.save(model, directory / "model.onnx")
    info = ModelInfo(
        format="onnx", signature=signature_of(directory / "model.onnx"), parameters=1, nodes=1, operators={}
    )
    return CompatibilityOrder(model=ModelFile(path="model.onnx", sha256="0" * 64, bytes=1, info=info), targets=targets)


def looked(model: ModelProto, directory: Path, target: Target) -> Compatibility:
    (table,) = find_out(order(model, directory, target), directory, Unheard()).tables
    return table


def fates(table: Compatibility) -> dict[str, dict[str, int]]:
    """Counts by operator and status."""
    counts: dict[str, dict[str, int]] = {}
    for row in table.operators:
        statuses = counts.setdefault(row.operator, {})
        statuses[row.status] = statuses.get(row.status, 0) + row.count
    return counts
