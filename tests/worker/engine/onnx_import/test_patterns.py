"""What exporters take apart comes back as one operator."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from tests.support.engine.onnx_exports import Exporter, export, imported, operators
from worker.engine.pruning.channels.analysis import analyse
from worker.engine.pruning.channels.cost import cost_of
from worker.engine.torch_program.program import Program, quiet

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TOKENS = torch.arange(36).reshape(3, 12) % 50
SERIES = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(1))


class Picture(nn.Module):
    """A norm of channels, one of groups, and the activations of mobile networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.depthwise, self.groups = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.GroupNorm(4, 16)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        value = functional.silu(self.norm(self.first(image)))
        value = functional.mish(functional.hardswish(self.groups(self.depthwise(value))) + value)
        value = functional.interpolate(value, scale_factor=2, mode="bilinear")
        value = functional.gelu(self.up(value), approximate="tanh")
        return self.last(functional.max_pool2d(value, 2))


class Transformer(nn.Module):
    """Embedding, attention, layer norms and GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, 32), nn.Linear(32, 5)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.table(tokens)).mean(1))


class Recurrent(nn.Module):
    """Both directions of an LSTM, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True)
        self.gru, self.head = nn.GRU(32, 12, batch_first=True), nn.Linear(12, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.gru(self.lstm(series)[0])[0][:, -1])


@pytest.mark.parametrize(
    ("network", "example", "exporter", "wanted"),
    [
        (Picture, IMAGES, "dynamo", {"silu": 1, "hardswish": 1, "mish": 1, "gelu": 1, "group_norm": 1, "conv2d": 3}),
        (Picture, IMAGES, "legacy", {"silu": 1, "hardswish": 1, "mish": 1, "gelu": 1, "group_norm": 1, "conv2d": 3}),
        (
            Transformer,
            TOKENS,
            "dynamo",
            {"scaled_dot_product_attention": 1, "layer_norm": 2, "gelu": 1, "embedding": 1},
        ),
        (
            Transformer,
            TOKENS,
            "legacy",
            {"scaled_dot_product_attention": 1, "layer_norm": 2, "gelu": 1, "embedding": 1},
        ),
        (Recurrent, SERIES, "legacy", {"lstm": 2, "gru": 1, "linear": 1}),
    ],
)
def test_a_network_comes_back_and_is_pruned_as_the_original(
    network: Callable[[], nn.Module], example: Tensor, exporter: Exporter, wanted: dict[str, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = network().eval()
    program = imported(export(module, example, tmp_path / "model.onnx", exporter))

    (got,) = program({"x": example.numpy()}).values()
    want = module(example).detach().numpy()
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()
    found = operators(program)
    assert {name: found[name] for name in wanted} == wanted
    assert left_by_half(program) == pytest.approx(left_by_half(original(module, example, program)), abs=0.01)


def original(module: nn.Module, example: Tensor, program: Program) -> Program:
    batch = ({0: torch.export.Dim("batch")},)
    with quiet():
        return Program(torch.export.export(module, (example,), dynamic_shapes=batch), program.signature)


def left_by_half(program: Program) -> float:
    """Share of the parameters that are left where half of each group's channels go."""
    channels = analyse(program)
    gone = np.zeros(len(channels.classes), bool)
    for group in channels.groups:
        gone[group.classes[: len(group.classes) // 2]] = True
    return cost_of(channels, gone).parameters / cost_of(channels).parameters


def test_weights_keep_their_names_and_are_parameters(tmp_path: Path) -> None:
    module = Transformer().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)  # the exporter stores equal ones once, and adds no zeros
    program = imported(export(module, TOKENS, tmp_path / "model.onnx", "dynamo"))
    parameters = dict(program.exported.named_parameters())

    assert {"table.weight", "head.weight", "head.bias", "layer.norm1.weight", "layer.linear1.weight"} <= set(parameters)
    assert sum(one.numel() for one in parameters.values()) == sum(one.numel() for one in module.parameters())
    assert list(program.exported.named_buffers()) == []


def _file(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], path: Path, rank: int = 2, **opsets: int
) -> Path:
    """A graph from `x` [batch, 8] to `y` of this rank."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    imports = [helper.make_opsetid(name.replace("_", "."), version) for name, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *imports], ir_version=8)
    onnx.save(model, path)
    return path


def test_layers_in_integers_become_layers_in_floats(tmp_path: Path) -> None:
    """The weight is a float parameter on its grid, under the codes' name; the result stays in integer codes."""
    random = np.random.default_rng(0)
    scalars = {"a": 0.02, "b": 0.01, "c": 0.05}
    tensors: dict[str, np.ndarray] = {
        **{f"{name}.scale": np.array(value, np.float32) for name, value in scalars.items()},
        **{f"{name}.zero": np.array(0, np.int8) for name in scalars},
        "layer.weight": random.integers(-127, 128, (8, 6)).astype(np.int8),
    }
    grids = {name: [f"{name}.scale", f"{name}.zero"] for name in scalars}
    path = _file(
        [
            helper.make_node("QuantizeLinear", ["x", *grids["a"]], ["xq"]),
            helper.make_node("QLinearMatMul", ["xq", *grids["a"], "layer.weight", *grids["b"], *grids["c"]], ["yq"]),
            helper.make_node("DequantizeLinear", ["yq", *grids["c"]], ["y"]),
        ],
        tensors,
        tmp_path / "integers.onnx",
    )
    program = imported(path)

    weight = dict(program.exported.named_parameters())["layer.weight"].detach().numpy()
    assert np.allclose(weight.T, tensors["layer.weight"] * np.float32(0.01))
    assert operators(program)["linear"] == 1
    module = program.graph_module()
    (module(torch.randn(4, 8))[0] ** 2).sum().backward()
    assert module.get_parameter("layer.weight").grad is not None, "gradients pass the rounding"


def test_four_bit_products_become_layers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (6, 1, 8), dtype=np.uint8)
    tensors = {"layer.weight": codes, "layer.scales": random.random(6, np.float32) / 10}
    node = helper.make_node(
        "MatMulNBits", ["x", *tensors], ["y"], domain="com.microsoft", K=8, N=6, bits=4, block_size=16
    )
    program = imported(_file([node], tensors, tmp_path / "bits.onnx", com_microsoft=1))

    assert operators(program)["linear"] == 1
    assert dict(program.exported.named_parameters())["layer.weight"].shape == (6, 8)


def test_what_optimizers_of_onnx_runtime_fuse(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {
        "scale": random.random(8, np.float32),
        "shift": random.random(8, np.float32),
        "weight": random.standard_normal((8, 8)).astype(np.float32),
    }

    def fused(name: str, inputs: list[str], outputs: list[str], **attributes: float) -> onnx.NodeProto:
        return helper.make_node(name, inputs, outputs, domain="com.microsoft", **attributes)

    nodes = [
        fused("FusedMatMul", ["x", "weight"], ["a"], transB=1, alpha=0.5),
        fused("SkipLayerNormalization", ["a3", "x3", "scale", "shift"], ["b"], epsilon=1e-5),
        fused("BiasGelu", ["b", "shift"], ["c"]),
        fused("FastGelu", ["c"], ["d"]),
        fused("QuickGelu", ["d"], ["y"], alpha=1.702),
    ]
    nodes[1:1] = [helper.make_node("Unsqueeze", [name, "one"], [f"{name}3"]) for name in ("a", "x")]
    tensors["one"] = np.array([1])
    program = imported(_file(nodes, tensors, tmp_path / "fused.onnx", rank=3, com_microsoft=1))

    wanted = {"mul": 3, "unsqueeze": 2, "add": 2, "layer_norm": 1, "gelu": 2, "sigmoid": 1, "linear": 1}
    assert operators(program) == wanted
    assert {"scale", "shift", "weight"} == set(dict(program.exported.named_parameters()))


def test_the_gelu_of_an_exporter_is_recognised_in_every_order(tmp_path: Path) -> None:
    tensors = {"root": np.float32(math.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)}
    begin = [
        helper.make_node("Div", ["x", "root"], ["a"]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["one", "b"], ["c"]),
    ]
    orders = [
        [("c", "x", "d"), ("d", "half", "y")],
        [("half", "x", "d"), ("c", "d", "y")],
        [("c", "half", "d"), ("d", "x", "y")],
    ]
    for number, order in enumerate(orders):
        products = [helper.make_node("Mul", [one, other], [result]) for one, other, result in order]
        path = _file([*begin, *products], {name: np.asarray(one) for name, one in tensors.items()}, tmp_path / "g.onnx")
        assert operators(imported(path)) == Counter({"gelu": 1}), number
