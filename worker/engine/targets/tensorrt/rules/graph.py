"""Rules about a graph as a whole: its opset, its operators, its types."""

from collections.abc import Iterator

from onnx import ModelProto, NodeProto, TensorProto

from worker.engine.onnx_graph.file import default_opset
from worker.engine.targets.tensorrt.operators import table
from worker.engine.targets.tensorrt.releases import Release
from worker.engine.targets.tensorrt.rules.view import View, Violation, called

FIRST_OPSET = 9
STANDARD = ("", "ai.onnx")
ON_INTEGERS = frozenset({"MatMulInteger", "ConvInteger", "DynamicQuantizeLinear"})
TENSORS = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.BOOL,
        TensorProto.INT8,
        TensorProto.INT4,
        TensorProto.FLOAT8E4M3FN,
        TensorProto.FLOAT4E2M1,
    }
)
"""What a value inside a network may be; the last four only between quantization and dequantization."""
SKIP = "Put the node on the step's skip list, or deliver for another target."
EXPORT = "Replace the operator in the model and export it again, or deliver for another target."


def known_opset(model: ModelProto, release: Release) -> Iterator[Violation]:
    """The parser knows a range of opsets (opsets: 9 to 25 for 11.x; release notes of 10.0: up to 20.)."""
    opset = default_opset(model)
    narrow = any(tensor.data_type == TensorProto.INT4 for tensor in model.graph.initializer)
    last = release.last_opset_int4 if narrow else release.last_opset
    if not FIRST_OPSET <= opset <= last:
        yield Violation(
            f"The model uses opset {opset}; {release.title} reads {FIRST_OPSET} to {last}.",
            f"Export the model with opset {last} or earlier.",
        )


def standard_operator(view: View, node: NodeProto) -> Iterator[Violation]:
    """Other domains are plugins, which nobody installed; local functions are inlined (operators.md)."""
    functions = {(function.domain, function.name) for function in view.model.functions}
    if node.domain not in STANDARD and (node.domain, node.op_type) not in functions:
        yield Violation(
            f"Node {node.name}: TensorRT has no {node.domain}::{node.op_type}.",
            "Export the model with standard ONNX operators only.",
        )


def no_integer_operator(_view: View, node: NodeProto) -> Iterator[Violation]:
    """Quantization is Q/DQ around float operators, never operators on integers (operators.md, checkers)."""
    if node.domain in STANDARD and (node.op_type in ON_INTEGERS or node.op_type.startswith("QLinear")):
        yield Violation(
            f"Node {node.name}: TensorRT has no {node.op_type}.",
            "Upload the float model and let quantize.static write QuantizeLinear and DequantizeLinear.",
        )


def listed_operator(view: View, node: NodeProto) -> Iterator[Violation]:
    """Each operator must be in the table of the oldest release that is to read it (operators.md, changelog)."""
    if node.domain not in STANDARD or node.op_type in ON_INTEGERS or node.op_type.startswith("QLinear"):
        return
    known = table().operators.get(node.op_type)
    if known is None:
        yield Violation(f"{called(node)}: TensorRT has no such operator.", EXPORT)
    elif known.since > view.release.oldest:
        major, minor = known.since
        yield Violation(
            f"{called(node)}: TensorRT reads it since {major}.{minor}; {view.release.profile} is for "
            f"{view.release.oldest[0]}.{view.release.oldest[1]} and later.",
            "Use the profile trt11, or replace the operator in the model.",
        )


def listed_type(view: View, node: NodeProto) -> Iterator[Violation]:
    """The first input must be of a type that the operator takes (operators.md, column Supported Types)."""
    known = table().operators.get(node.op_type) if node.domain in STANDARD else None
    if known is None or not node.input:
        return
    kind = view.types.get(node.input[0])
    if kind is not None and kind in TENSORS | {TensorProto.UINT8} and kind not in known.types:
        remedy = SKIP if kind in (TensorProto.INT8, TensorProto.INT4) else EXPORT
        yield Violation(f"{called(node)}: TensorRT's takes no {_spelled(kind)}.", remedy)


def known_type(view: View) -> Iterator[Violation]:
    """Values are of its types: it would cut float64 to float32, and refuses int16 (operators.md)."""
    initializers = {tensor.name for tensor in view.graph.initializer}
    made = [name for node in view.graph.node for name in node.output]
    for name in dict.fromkeys((*initializers, *(value.name for value in view.graph.input), *made)):
        kind = view.types.get(name, TensorProto.FLOAT)
        if kind not in TENSORS | {TensorProto.UINT8}:
            wanted = "float32" if kind == TensorProto.DOUBLE else "int32, int64 or a float type"
            yield Violation(
                f"Value {name} is {_spelled(kind)}, which TensorRT does not compute with.",
                f"Export the model with {wanted} in its place.",
            )


def bytes_at_the_border(view: View) -> Iterator[Violation]:
    """UINT8 is for inputs and outputs of the network only; a Cast must be next (operators.md, note on UINT8)."""
    outputs = {value.name for value in view.graph.output}
    for node in view.graph.node:
        unsigned = [name for name in node.output if view.types.get(name) == TensorProto.UINT8 and name not in outputs]
        if unsigned and node.op_type not in ("QuantizeLinear", "Constant"):
            yield Violation(
                f"{called(node)} makes uint8 inside the network; TensorRT has it for inputs and outputs only.",
                "Cast to int32 or a float type at the input, and compute with that.",
            )


def _spelled(kind: int) -> str:
    own: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}
    return own.get(kind, str(TensorProto.DataType.Name(kind)).lower())


NODE_RULES = (standard_operator, no_integer_operator, listed_operator, listed_type)
VALUE_RULES = (known_type, bytes_at_the_border)
