"""Rules about single operators: forms of them that TensorRT's parser refuses (operators.md, checkers)."""

from collections.abc import Callable, Iterator

from onnx import NodeProto

from worker.engine.targets.tensorrt.rules.graph import EXPORT, STANDARD
from worker.engine.targets.tensorrt.rules.view import View, Violation, attributes, called

POOLS = frozenset({"AveragePool", "MaxPool", "LpPool"})
REDUCTIONS_WITH_AXES = frozenset(
    {
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    }
)
CONSTANT_INPUTS: dict[str, tuple[int, str]] = {
    **dict.fromkeys(REDUCTIONS_WITH_AXES, (1, "axes")),
    "Squeeze": (1, "axes"),
    "Unsqueeze": (1, "axes"),
    "CumSum": (1, "axis"),
    "OneHot": (1, "depth"),
    "Dropout": (2, "training_mode"),
    "STFT": (1, "frame_step"),
}
"""By operator: the input that must be known while the engine is built."""
TRANSFORMATIONS = frozenset({"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"})
FIXED: dict[str, dict[str, tuple[object, ...]]] = {
    "LpPool": {"p": (1, 2)},
    "GlobalLpPool": {"p": (1, 2)},
    "BatchNormalization": {"training_mode": (0,)},
    "LSTM": {"input_forget": (0,), "layout": (0,)},
    "LpNormalization": {"p": (1, 2)},
    "Resize": {
        "mode": ("nearest", "linear"),
        "coordinate_transformation_mode": tuple(sorted(TRANSFORMATIONS)),
        "antialias": (0,),
        "keep_aspect_ratio_policy": ("stretch",),
    },
    "ScatterND": {"reduction": ("none",)},
    "TopK": {"sorted": (1,)},
}
"""By operator and attribute: the values that it may have, where it is set."""
ONE_OUTPUT = frozenset({"MaxPool", "LayerNormalization", "Attention"})
"""Operators of which TensorRT makes the first output only."""
MOST_OF_TOPK = 3840


def accepted_attributes(_view: View, node: NodeProto) -> Iterator[Violation]:
    """Attributes have the values that the table allows."""
    given = attributes(node)
    for name, allowed in FIXED.get(node.op_type, {}).items():
        if name in given and given[name] not in allowed:
            choices = " or ".join(str(value) for value in allowed)
            yield Violation(f"{called(node)}: TensorRT takes {name} {choices}, not {given[name]}.", EXPORT)


def undilated_pools(_view: View, node: NodeProto) -> Iterator[Violation]:
    """Pooling windows have no holes."""
    dilations = attributes(node).get("dilations", ())
    if node.op_type in POOLS and isinstance(dilations, (list, tuple)) and any(step != 1 for step in dilations):
        yield Violation(f"{called(node)}: TensorRT pools without dilations.", EXPORT)


def flat_pools(view: View, node: NodeProto) -> Iterator[Violation]:
    """Pooling is over two or three axes."""
    rank = len(view.shapes.get(node.input[0], ())) if node.op_type in ("AveragePool", "MaxPool") else 0
    if rank and rank not in (4, 5):
        yield Violation(
            f"{called(node)}: TensorRT pools over 2 or 3 axes, not {rank - 2}.",
            "Give the tensor an axis of size 1 (Unsqueeze) and pool in two dimensions.",
        )


def grids_of_images(view: View, node: NodeProto) -> Iterator[Violation]:
    """GridSample samples images."""
    rank = len(view.shapes.get(node.input[0], ())) if node.op_type == "GridSample" else 0
    if rank and rank != 4:
        yield Violation(f"{called(node)}: TensorRT samples tensors with 4 axes, not {rank}.", EXPORT)


def first_output_only(_view: View, node: NodeProto) -> Iterator[Violation]:
    """Indices of maxima, means and deviations are not made."""
    if node.op_type in ONE_OUTPUT and any(node.output[1:]):
        yield Violation(f"{called(node)}: TensorRT makes its first output only.", EXPORT)


def constant_inputs(view: View, node: NodeProto) -> Iterator[Violation]:
    """What decides shapes must be known while the engine is built."""
    place, name = CONSTANT_INPUTS.get(node.op_type, (0, ""))
    if place and len(node.input) > place and node.input[place] and node.input[place] not in view.known:
        yield Violation(f"{called(node)}: TensorRT wants its {name} as a constant.", EXPORT)


def no_training(view: View, node: NodeProto) -> Iterator[Violation]:
    """Dropout must be off: TensorRT only infers."""
    flag = view.array(node.input[2]) if node.op_type == "Dropout" and len(node.input) > 2 else None
    if flag is not None and flag.any():
        yield Violation(f"{called(node)} is in training mode.", "Export the model after model.eval().")


def static_eye(view: View, node: NodeProto) -> Iterator[Violation]:
    """EyeLike needs an input of fixed size."""
    if node.op_type == "EyeLike" and None in view.shapes.get(node.input[0], (None,)):
        yield Violation(f"{called(node)}: TensorRT wants an input of fixed size.", EXPORT)


def few_of_topk(view: View, node: NodeProto) -> Iterator[Violation]:
    """TopK finds fewer than 3840."""
    most = view.array(node.input[1]) if node.op_type == "TopK" and len(node.input) > 1 else None
    if most is not None and (most >= MOST_OF_TOPK).any():
        yield Violation(f"{called(node)}: TensorRT finds fewer than {MOST_OF_TOPK} values.", EXPORT)


def equal_directions(_view: View, node: NodeProto) -> Iterator[Violation]:
    """Both directions of a recurrent layer have the same activations."""
    given = attributes(node)
    functions = given.get("activations", ())
    if node.op_type not in ("GRU", "LSTM", "RNN") or given.get("direction") != "bidirectional":
        return
    if isinstance(functions, (list, tuple)) and functions[: len(functions) // 2] != functions[len(functions) // 2 :]:
        yield Violation(f"{called(node)}: both directions must have the same activations.", EXPORT)


def known_scan_length(view: View, node: NodeProto) -> Iterator[Violation]:
    """What a Loop collects has a length known while the engine is built."""
    carried = len(node.input) - 2
    if node.op_type != "Loop" or not any(node.output[carried:]):
        return
    if not node.input[0] or node.input[0] not in view.known:
        yield Violation(f"{called(node)}: TensorRT wants a constant number of turns to collect outputs.", EXPORT)


def plain_constants(_view: View, node: NodeProto) -> Iterator[Violation]:
    """Constants are neither sparse nor strings."""
    if node.op_type == "Constant" and {"sparse_value", "value_string", "value_strings"} & attributes(node).keys():
        yield Violation(f"{called(node)}: TensorRT reads dense constants of numbers only.", EXPORT)


def plain_attention(_view: View, node: NodeProto) -> Iterator[Violation]:
    """Attention without a cache of keys and values, and without a soft cap."""
    if node.op_type == "Attention" and (any(node.input[4:]) or attributes(node).get("softcap", 0.0)):
        yield Violation(f"{called(node)}: TensorRT has no cache of keys and values in it, and no softcap.", EXPORT)


_RULES: tuple[Callable[[View, NodeProto], Iterator[Violation]], ...] = (
    accepted_attributes,
    undilated_pools,
    flat_pools,
    grids_of_images,
    first_output_only,
    constant_inputs,
    no_training,
    static_eye,
    few_of_topk,
    equal_directions,
    known_scan_length,
    plain_constants,
    plain_attention,
)


def _standard(
    rule: Callable[[View, NodeProto], Iterator[Violation]],
) -> Callable[[View, NodeProto], Iterator[Violation]]:
    def checked(view: View, node: NodeProto) -> Iterator[Violation]:
        return rule(view, node) if node.domain in STANDARD else iter(())

    return checked


NODE_RULES = tuple(_standard(rule) for rule in _RULES)
