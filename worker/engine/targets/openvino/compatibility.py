"""OpenVINO: what its reader of ONNX files does not read, and what its CPU plugin does not run (`query_model`)."""

from collections.abc import Iterator

import onnx

from app.spec.compatibility import Compatibility
from app.spec.targets import OpenVinoTarget
from worker.engine.onnx_graph.types import inferred
from worker.engine.targets.onnx.compatibility import named, nodes
from worker.engine.targets.support.base import Look, Tally, table
from worker.engine.targets.support.quantizing import SOURCE as PLACEMENT
from worker.engine.targets.support.quantizing import Quantizing
from worker.engine.toolchains.process import started


def openvino_compatibility(targets: tuple[OpenVinoTarget, ...], look: Look) -> Iterator[Compatibility]:
    """Every node of the graph. Raises the toolchain's errors."""
    model = onnx.load(look.model.graph)
    with started("openvino", look.directory, look.progress) as toolchain:
        version = toolchain.do("version")["version"]
        onnx.save(model, toolchain.folder / "model.onnx", save_as_external_data=True, location="model.tensors")
        answer = toolchain.do("compatibility", model="model.onnx")
    unread, unrun, source = set(answer["unread"]), set(answer["unrun"]), f"OpenVINO {version} query_model"
    model = onnx.load(look.model.graph, load_external_data=False)
    types, _ = inferred(model)
    quantizing, tally = Quantizing(model, types), Tally()
    for node in nodes(model):
        names = {node.name, *node.output} - {""}
        obstacle = quantizing.obstacle(node)
        if names & unread:
            tally.add(named(node), "unsupported", "OpenVINO's reader of ONNX files does not know it.", source)
        elif names & unrun:
            tally.add(named(node), "unsupported", "The CPU plugin does not run it.", source)
        elif obstacle is not None:
            tally.add(named(node), "not_quantizable", obstacle, PLACEMENT)
        else:
            tally.add(named(node), "supported", quantizing.promise(node), source)
    for target in targets:
        yield table(target, tally, answer["refusal"])
