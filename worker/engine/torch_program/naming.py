"""The names of the contract, given to a program's own inputs and outputs, so that a saved file still has them.

The exporter names inputs after the arguments of `forward`, and outputs after the last operator: "x" and "linear" for
what the contract calls "image" and "logits".
"""

import copy

from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import TensorArgument

from app.spec.signature import Signature


def with_names(exported: ExportedProgram, signature: Signature) -> ExportedProgram:
    """The same program, weights shared, whose inputs and outputs are called as in the signature.

    Names that cannot be given stay as they were: an output that is an input or another output at the same time.
    """
    module = copy.deepcopy(exported.graph_module)
    for node, original in zip(module.graph.nodes, exported.graph_module.graph.nodes, strict=True):
        node.name = original.name  # a copied graph renames nodes that are called like a builtin, such as "input"
    renamed = _rename(module.graph, _wanted(module.graph, exported, signature))
    module.recompile()
    specs, calls = copy.deepcopy(exported.graph_signature), copy.deepcopy(exported.module_call_graph)
    arguments = [spec.arg for spec in (*specs.input_specs, *specs.output_specs)]
    for call in calls:
        if call.signature is not None:
            arguments += [*call.signature.inputs, *call.signature.outputs]
    for argument in {id(argument): argument for argument in arguments}.values():
        if isinstance(argument, TensorArgument):
            argument.name = renamed.get(argument.name, argument.name)
    return ExportedProgram(
        root=module,
        graph=module.graph,
        graph_signature=specs,
        state_dict=exported.state_dict,
        range_constraints=exported.range_constraints,
        module_call_graph=calls,
        constants=exported.constants,
        verifiers=exported.verifiers,
    )


def _wanted(graph: fx.Graph, exported: ExportedProgram, signature: Signature) -> dict[fx.Node, str]:
    specs = exported.graph_signature
    places = [node for node in graph.nodes if node.op == "placeholder"]
    results = list(graph.output_node().args[0])  # type: ignore[arg-type]  # a tuple, one for each output
    names: dict[fx.Node, str] = {}
    for kind, nodes, listed, tensors in (
        ("USER_INPUT", places, specs.input_specs, signature.inputs),
        ("USER_OUTPUT", results, specs.output_specs, signature.outputs),
    ):
        ours = [
            node
            for node, spec in zip(nodes, listed, strict=True)
            if spec.kind.name == kind and isinstance(spec.arg, TensorArgument)
        ]
        for node, tensor in zip(ours, tensors, strict=True):
            names.setdefault(node, tensor.name)
    return names


def _rename(graph: fx.Graph, wanted: dict[fx.Node, str]) -> dict[str, str]:
    """Rename nodes, and those that have a wanted name already; all changes by the old name."""
    taken, renamed = set(wanted.values()), {}
    used = {node.name for node in graph.nodes} | taken
    for node in graph.nodes:
        name = wanted.get(node, node.name)
        if node not in wanted and name in taken:
            name = next(other for number in range(1, len(used) + 2) if (other := f"{name}_{number}") not in used)
            used.add(name)
        if name != node.name:
            renamed[node.name] = name
            if node.op == "placeholder":
                node.target = name
            node.name = name
    return renamed
