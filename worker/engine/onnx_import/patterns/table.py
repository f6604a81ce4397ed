"""The patterns in the order in which they are looked for."""

from worker.engine.onnx_import.graph import Graph


def recognise(graph: Graph) -> None:
    """Put together again what exporters took apart, in the graph and in every body."""
