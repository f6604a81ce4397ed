"""A flat program as an ExecuTorch file, and where its operators were placed."""

import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of quantized programs
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.exir.lowered_backend_module import get_lowered_submodules
from executorch.kernels import quantized  # noqa: F401  # registers what rounds outside of the delegate
from torch import fx

COMPUTE = {"convolution", "linear", "addmm", "mm", "bmm", "baddbmm"}
"""Operators that multiply and add."""
CODES = ("quantize_per", "dequantize_per", "choose_qparams")
BOOKKEEPING = {"getitem", "sym_size", "sym_constrain_range_for_size", "executorch_call_delegate"}
"""What moves no data, or stands for operators that are counted themselves."""


def convert_program(program: str, into: str) -> dict[str, Any]:
    """Write the program of a `.pt2` file as `into`; what `placement` tells of it."""
    exported = torch.export.load(program)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the converter uses what torch has deprecated
        edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        placed = _placement(edge.exported_program().graph_module)
        made = edge.to_executorch()
    with Path(into).open("wb") as file:
        made.write_to_file(file)
    return placed


def _placement(graph_module: fx.GraphModule) -> dict[str, Any]:
    """Operators of all delegates and of the graph around them; those around are left to portable kernels."""
    delegates = [lowered.original_module.graph for _, lowered, _ in get_lowered_submodules(graph_module)]
    kinds: Counter[str] = Counter()
    left: Counter[str] = Counter()
    integer = floating = 0
    for graph in (*delegates, graph_module.graph):
        portable = graph is graph_module.graph
        for node, name in _operators(graph):
            kinds[name] += 1
            left[name] += portable
            if name in COMPUTE:
                on_codes = not portable and _on_codes(node)
                integer, floating = integer + on_codes, floating + (not on_codes)
    return {
        "operators": dict(kinds.most_common()),
        "integer": integer,
        "floating": floating,
        "fallback": {name: count for name, count in left.most_common() if count},
    }


def _operators(graph: fx.Graph) -> Iterator[tuple[fx.Node, str]]:
    """What computes: codes on the way into and out of an integer kernel are part of it."""
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        name = _plain(str(getattr(node.target, "__name__", node.target)))
        if name not in BOOKKEEPING and not name.startswith(CODES):
            yield node, name


def _plain(name: str) -> str:
    """`aten.view_copy.default` as `view_copy`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 2 else parts[0]


def _on_codes(node: fx.Node) -> bool:
    """Whether a product multiplies codes: at least two of its operands come out of a dequantize."""
    makers = [str(getattr(source.target, "__name__", source.target)) for source in node.all_input_nodes]
    return sum("dequantize_per" in name for name in makers) >= 2
