"""A file made a graph that can be run: any age of operators, constants folded, patterns put together again."""

from onnx import ModelProto, inliner

from worker.engine.onnx_graph.types import inferred
from worker.engine.onnx_graph.upgrading import upgraded
from worker.engine.onnx_import.folding import fold, fold_sizes
from worker.engine.onnx_import.graph import STANDARD, Graph, read_graph
from worker.engine.onnx_import.operators.table import OPERATORS
from worker.engine.onnx_import.patterns.table import PARTS, PATTERNS, recognise


def prepared(model: ModelProto) -> Graph:
    """The graph of a model, whose tensors are loaded. Raises `LoadFailed`."""
    model = _known(upgraded(model))
    _, shapes = inferred(model)
    ranks = {name: len(shape) for name, shape in shapes.items()}
    graph = read_graph(model)
    graph.drop_unread()
    fold_sizes(graph, shapes)
    recognise(graph, PARTS, ranks)
    fold(graph)
    fold_sizes(graph, shapes)
    fold(graph)
    recognise(graph, PATTERNS, ranks)
    fold(graph)
    graph.drop_unread()
    return graph


def _known(model: ModelProto) -> ModelProto:
    """The model with operators that have no form here replaced by their definition in others, where ONNX has one."""
    unknown = {
        ("" if node.domain in STANDARD else node.domain, node.op_type)
        for node in model.graph.node
        if node.domain in STANDARD and node.op_type not in OPERATORS and node.op_type != "Constant"
    }
    if not unknown:
        return model
    return inliner.inline_selected_functions(model, sorted(unknown), inline_schema_functions=True)
