"""Small jobs: what they ask for, and models made for them."""

from itertools import pairwise

import numpy as np
from onnx import TensorProto, helper, numpy_helper

TINY_SPLITS = {"splits": {"calibration": 0.5, "test": 0.5}}
DIGITS_SPLITS = {
    "splits": {"calibration": 0.25, "test": 0.75},
    "preprocess": {"image": [{"type": "to_float"}]},
}
BRIEF = {"batch": [1], "runs": 20, "budget_s": 0.2}
"""Latency that takes no time."""
LASTING = {"batch": [4096], "runs": 10_000, "budget_s": 600}
"""Latency that takes minutes with `heavy_classifier`."""


def recipe(model: str, data: str, *, latency: dict | None = None, **changes: object) -> dict:
    """Return the body of a static int8 job for x86."""
    evaluate = {"metrics": ["top1"], "latency": latency or BRIEF}
    return {
        "model": model,
        "data": {"calibration": data, "test": data},
        "steps": [{"type": "quantize.static"}],
        "evaluate": evaluate,
    } | changes


def heavy_classifier(width: int = 512, layers: int = 4) -> bytes:
    """Like the tiny classifier (x [batch, 4] -> scores [batch, 3]), with work for the CPU in between: 4 GFLOP a batch
    of 4096."""
    random = np.random.default_rng(0)
    sizes = [4, *[width] * layers, 3]
    weights = [
        numpy_helper.from_array(random.normal(scale=size**-0.5, size=(size, after)).astype(np.float32), f"w{index}")
        for index, (size, after) in enumerate(pairwise(sizes))
    ]
    names = ["x", *(f"h{index}" for index in range(layers)), "scores"]
    nodes = [
        helper.make_node("MatMul", [names[index], f"w{index}"], [names[index + 1]], name=f"layer{index}")
        for index in range(layers + 1)
    ]
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return made.SerializeToString()
