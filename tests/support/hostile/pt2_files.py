"""`.pt2` archives that run code when `torch.export.load` opens them, or reach outside of their storages."""

import functools
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from tests.support.hostile.archives import zipped
from tests.support.hostile.kinds import Hostile, model
from tests.support.hostile.payloads import Payloads

PICKLED = frozenset({"model.unsafe_pickle"})
EXPRESSION = frozenset({"model.unsafe_expression"})
OPERATOR = frozenset({"model.unsupported_op"})
MALFORMED = frozenset({"model.malformed"})
PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"
Edit = Callable[[Any], object]


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x))


@functools.lru_cache(maxsize=1)
def good_pt2() -> bytes:
    """A harmless model with a dynamic batch."""
    buffer = io.BytesIO()
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(Linear().eval(), (torch.randn(4, 4),), dynamic_shapes=({0: batch},)), buffer)
    return buffer.getvalue()


def repacked(edits: Mapping[str, bytes | Edit | None], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """The good archive with members replaced, edited as JSON, added, or (None) left out."""
    with zipfile.ZipFile(io.BytesIO(good_pt2())) as archive:
        members: dict[str, bytes] = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    for name, edit in edits.items():
        if edit is None:
            del members[name]
        elif isinstance(edit, bytes):
            members[name] = edit
        else:
            parsed = json.loads(members[name])
            edit(parsed)
            members[name] = json.dumps(parsed).encode()
    return zipped(((f"model/{name}", data) for name, data in members.items()), method)


def program(edit: Edit) -> bytes:
    """The good archive with its program edited."""
    return repacked({PROGRAM: edit})


def saved(value: Any) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def replaced(old: str, new: str) -> bytes:
    """The good archive with a text of its program replaced everywhere."""

    def edit(parsed: dict[str, Any]) -> None:
        text = json.dumps(parsed).replace(json.dumps(old), json.dumps(new))
        parsed.clear()
        parsed.update(json.loads(text))

    return program(edit)


def files(payloads: Payloads) -> Iterator[Hostile]:
    yield model("pt2_untouched", repacked({}), {"ok"})
    yield model("pt2_without_samples", repacked({SAMPLES: b""}), {"ok"})
    for name, content, codes in (*_pickles(payloads), *_expressions(payloads), *_names(payloads), *_operators()):
        yield model(name, content, codes)
    for name, content, codes in (*_trees(), *_members(), *_weights(), *_programs()):
        yield model(name, content, codes)


Case = tuple[str, bytes, frozenset[str] | set[str]]


def _pickles(payloads: Payloads) -> Iterator[Case]:
    def payload(name: str, place: str, config: str, data: bytes) -> Case:
        entry = {"path_name": place, "is_param": False, "use_pickle": True, "tensor_meta": None}
        edit: Edit = lambda parsed: parsed["config"].update(evil=entry)  # noqa: E731
        return name, repacked({config: edit, f"{config.rsplit('/', 1)[0]}/{place}": data}), PICKLED

    yield "pt2_sample_inputs", repacked({SAMPLES: saved(payloads.call("pt2_sample_inputs"))}), PICKLED
    yield "pt2_sample_inputs_raw", repacked({SAMPLES: pickle.dumps(payloads.call("raw"))}), PICKLED | MALFORMED
    yield "pt2_sample_inputs_module", repacked({SAMPLES: saved(Linear())}), PICKLED
    yield payload("pt2_pickled_weight", "weight_9", WEIGHTS, saved(payloads.call("pt2_pickled_weight")))
    yield payload("pt2_opaque", "opaque_obj_0", CONSTANTS, pickle.dumps(payloads.call("pt2_opaque")))
    yield payload("pt2_script_object", "custom_obj_0", CONSTANTS, saved(payloads.call("pt2_script_object")))
    unused = repacked({"data/weights/model.pt": saved(payloads.call("pt2_old_weights"))})
    yield "pt2_old_weights", unused, PICKLED
    legacy = [
        ("serialized_exported_program.json", b"{}"),
        ("version", b"8.5"),
        ("serialized_state_dict.pt", saved(payloads.call("pt2_before_28"))),
    ]
    yield "pt2_before_28", zipped(legacy), PICKLED
    empty = [("serialized_exported_program.json", b"{}"), ("version", b"8.5"), ("serialized_state_dict.pt", b"")]
    yield "pt2_before_28_empty", zipped(empty), {"model.outdated_format"}
    custom = {"evil": {"name": "evil", "class_fqn": "__torch__.torch.classes.Evil"}}
    yield "pt2_custom_object", program(lambda p: _graph(p).update(custom_obj_values=custom)), PICKLED


def _expressions(payloads: Payloads) -> Iterator[Case]:
    def sized(expression: str) -> bytes:
        size = {"as_expr": {"expr_str": expression, "hint": {"as_int": 4}}}
        return program(lambda p: _graph(p)["tensor_values"]["x"]["sizes"].__setitem__(0, size))

    for name, expression in {
        "pt2_expression": payloads.code("pt2_expression"),
        "pt2_expression_attribute": "Symbol('s0').__class__",
        "pt2_expression_lambda": "(lambda: 1)()",
        "pt2_expression_string": "Integer('1')",
        "pt2_expression_power": "9**9**9",
        "pt2_expression_powers": "Pow(Pow(Pow(Integer(9), Integer(16)), Integer(16)), Integer(16))",
        "pt2_expression_long_power": "Pow(Integer(9), Integer(99999999))",
        "pt2_expression_nested": "(" * 500 + "1" + ")" * 500,
        "pt2_expression_factorial": "factorial(Integer(99999999))",
        "pt2_expression_empty": "",
        "pt2_expression_long": "1+" * 50_000 + "1",
        "pt2_expression_symbol": "Symbol('s0;import os')",
    }.items():
        yield name, sized(expression), EXPRESSION
    for name, guard in {
        "pt2_guard": payloads.code("pt2_guard"),
        "pt2_guard_attribute": "L['x'].__class__ == 1",
        "pt2_guard_statement": "1 == 1)\n  import os  #",
        "pt2_guard_call": "L['x'].numpy() == 1",
    }.items():
        yield name, program(lambda p, guard=guard: p.update(guards_code=[guard])), EXPRESSION
    ranges = {payloads.code("pt2_range"): {"min_val": 1, "max_val": 2}}
    yield "pt2_range", program(lambda p: p["range_constraints"].update(ranges)), EXPRESSION


def _names(payloads: Payloads) -> Iterator[Case]:
    """Names that become part of generated Python."""
    yield "pt2_input_name", replaced("x", f"x={payloads.code('pt2_input_name')}"), EXPRESSION
    yield "pt2_node_name", replaced("linear", f"linear; {payloads.code('pt2_node_name')}"), EXPRESSION
    quoted = f'linear"+str({payloads.code("pt2_weight_name")})+"'
    yield "pt2_weight_name", replaced("linear.weight", quoted), EXPRESSION
    arguments = [f"x): {payloads.code('pt2_argument_name')} #"]
    signature = lambda p: p["graph_module"]["module_call_graph"][0]["signature"]  # noqa: E731
    yield "pt2_argument_name", program(lambda p: signature(p).update(forward_arg_names=arguments)), EXPRESSION


def _operators() -> Iterator[Case]:
    for target in (
        "torch.load",
        "torch.hub.load",
        "torch._C._jit_set_profiling_mode",
        "torch.ops.aten.from_file.default",
        "torch.ops.load_library",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "math.factorial",
        "os.system",
        "torch.ops.aten.save.default",
        "#ext:evil",
        "builtins.eval",
        "torch.ops.evil.op.default",
        "torch.ops.aten.resize_.default",
        "torch.ops.aten.set_.source_Storage",
        "torch.ops.aten.relu.default.__call__",
    ):
        name = "pt2_op_" + "".join(c if c.isalnum() else "_" for c in target)
        yield name, replaced("torch.ops.aten.relu.default", target), OPERATOR
    argument = {"name": "f", "arg": {"as_operator": "torch.load"}, "kind": 1}
    yield "pt2_op_as_argument", program(lambda p: _graph(p)["nodes"][0]["inputs"].append(argument)), OPERATOR


def _trees() -> Iterator[Case]:
    signature = lambda p: p["graph_module"]["module_call_graph"][0]["signature"]  # noqa: E731

    def tree(**said: Any) -> bytes:
        spec = json.dumps([1, {"type": "builtins.dict", "context": None, "children_spec": [], **said}])
        return program(lambda p: signature(p).update(in_spec=spec))

    enum = json.dumps([{"__enum__": True, "fqn": "antigravity:x", "name": "x"}])
    yield "pt2_tree_imports", tree(context=enum), MALFORMED | EXPRESSION
    factory = {"default_factory_module": "os", "default_factory_name": "system", "dict_context": []}
    yield "pt2_tree_factory", tree(type="collections.defaultdict", context=factory), OPERATOR
    yield "pt2_tree_type", tree(type="transformers.Evil"), OPERATOR
    yield "pt2_tree_key", tree(context=json.dumps(["x'+evil()+'"])), EXPRESSION
    deep = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [' * 1 + "[" * 3000
    yield "pt2_tree_damaged", program(lambda p: signature(p).update(in_spec=deep)), MALFORMED | {"model.too_complex"}


def _members() -> Iterator[Case]:
    native = repacked({"data/aotinductor/model/model.so": b"\x7fELF"})
    yield "pt2_native_code", native, {"model.native_code"}
    compiled = [("m/archive_format", b"pt2"), ("m/data/aotinductor/m/m.wrapper.so", b"\x7fELF")]
    yield "pt2_only_native_code", zipped(compiled), {"model.native_code"}
    yield "pt2_stray", repacked({"extra/run.sh": b"#!/bin/sh"}), MALFORMED
    yield "pt2_stray_weight", repacked({"data/weights/weight_77": b"\0" * 8}), MALFORMED
    yield "pt2_stray_pickle", repacked({"data/sample_inputs/other.pt": b"\x80\x02}."}), PICKLED
    yield "pt2_two_programs", repacked({"models/other.json": b"{}"}), MALFORMED
    yield "pt2_no_program", repacked({PROGRAM: None}), MALFORMED
    yield "pt2_no_weights", repacked({WEIGHTS: None}), MALFORMED
    yield "pt2_big_endian", repacked({"byteorder": b"big"}), MALFORMED
    yield "pt2_compressed", repacked({}, method=zipfile.ZIP_DEFLATED), {"model.decompression_bomb"}
    yield "pt2_truncated", good_pt2()[:-300], MALFORMED
    second = zipped([("model/archive_format", b"pt2"), ("other/models/model.json", b"{}")])
    yield "pt2_two_folders", second, MALFORMED


def _weights() -> Iterator[Case]:
    def shaped(**meta: Any) -> bytes:
        edit: Edit = lambda p: p["config"]["linear.weight"]["tensor_meta"].update(meta)  # noqa: E731
        return repacked({WEIGHTS: edit})

    def numbers(*values: int) -> list[dict[str, int]]:
        return [{"as_int": value} for value in values]

    huge = numbers(1 << 20, 1 << 20)
    yield "pt2_weight_stride_0", shaped(sizes=huge, strides=numbers(0, 0)), MALFORMED
    yield "pt2_weight_too_long", shaped(sizes=huge, strides=numbers(1 << 20, 1)), MALFORMED
    yield "pt2_weight_offset", shaped(storage_offset={"as_int": 9}), MALFORMED
    yield "pt2_weight_negative", shaped(storage_offset={"as_int": -1}), MALFORMED
    yield "pt2_weight_negative_size", shaped(sizes=numbers(-3, -4)), MALFORMED
    yield "pt2_weight_float_size", shaped(sizes=[{"as_int": 3.0}, {"as_int": 4}]), MALFORMED
    yield "pt2_weight_sparse", shaped(layout=1), MALFORMED
    yield "pt2_weight_other_shape", shaped(sizes=numbers(4, 3), strides=numbers(3, 1)), MALFORMED
    yield "pt2_weight_type", shaped(dtype=99), MALFORMED
    yield "pt2_weight_cuda", shaped(device={"type": "cuda", "index": 0}), {"model.wrong_device"}
    yield "pt2_weight_short", repacked({"data/weights/weight_0": b"\0" * 4}), MALFORMED
    yield "pt2_weight_empty", repacked({"data/weights/weight_0": b""}), MALFORMED
    yield "pt2_weight_missing", repacked({"data/weights/weight_0": None}), MALFORMED
    away: Edit = lambda p: p["config"]["linear.weight"].update(path_name="../../models/model.json")  # noqa: E731
    yield "pt2_weight_path", repacked({WEIGHTS: away}), PICKLED
    odd: Edit = lambda p: p["config"].update({'a"+evil()+"': p["config"]["linear.weight"]})  # noqa: E731
    yield "pt2_weight_odd_name", repacked({WEIGHTS: odd}), EXPRESSION
    yield "pt2_weight_unnamed", repacked({WEIGHTS: lambda p: p["config"].pop("linear.bias")}), MALFORMED


def _programs() -> Iterator[Case]:
    limits = MALFORMED | {"model.too_complex"}
    yield "pt2_json_deep", repacked({PROGRAM: b"[" * 2_000_000}), limits
    yield "pt2_json_nested", repacked({PROGRAM: b'{"a":' * 90_000 + b"1" + b"}" * 90_000}), limits
    yield "pt2_json_wide", repacked({PROGRAM: b"[" + b"{}," * 3_000_000 + b"{}]"}), limits
    yield "pt2_json_nan", repacked({PROGRAM: b'{"schema_version": NaN}'}), MALFORMED
    yield "pt2_json_digits", repacked({PROGRAM: b'{"schema_version": ' + b"9" * 9000 + b"}"}), MALFORMED
    yield "pt2_json_list", repacked({PROGRAM: b"[]"}), MALFORMED
    yield "pt2_json_none", repacked({PROGRAM: b"\xff\xfe"}), MALFORMED
    version = program(lambda p: p["schema_version"].update(major=7))
    yield "pt2_schema", version, {"model.outdated_format"}
    huge = [{"as_int": 1 << 20}, {"as_int": 1 << 20}]
    yield (
        "pt2_huge_value",
        program(lambda p: _graph(p)["tensor_values"]["relu"].update(sizes=huge)),
        {"model.too_large"},
    )
    node = {"target": "torch.ops.aten.relu.default", "inputs": [], "outputs": [], "metadata": {}}
    many = program(lambda p: _graph(p).update(nodes=[node] * 60_000))
    yield "pt2_many_nodes", many, limits
    scalar = {"user_input": {"arg": {"as_int": 3}}}
    inputs = program(lambda p: p["graph_module"]["signature"]["input_specs"].__setitem__(-1, scalar))
    yield "pt2_integer_input", inputs, MALFORMED | {"model.unsupported_type"}
    with zipfile.ZipFile(io.BytesIO(good_pt2())) as archive:
        good = [(name, archive.read(name)) for name in archive.namelist()]
    dotted = zipped((f"./{name.partition('/')[2]}", data) for name, data in good)
    yield "pt2_dotted", dotted, {"archive.unsafe_member"}
    # torch takes the first member's folder for the archive's own: nothing in front may be passed over.
    yield "pt2_behind_another_folder", zipped([("__MACOSX/models/model.json", b"{}"), *good]), MALFORMED
    yield "pt2_no_outputs", program(_without_outputs), MALFORMED


def _without_outputs(parsed: dict[str, Any]) -> None:
    parsed["graph_module"]["signature"]["output_specs"] = []
    _graph(parsed)["outputs"] = []


def _graph(parsed: dict[str, Any]) -> dict[str, Any]:
    graph: dict[str, Any] = parsed["graph_module"]["graph"]
    return graph
