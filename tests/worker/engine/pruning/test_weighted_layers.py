"""Layers of every kind and layout lose the weights that they should, in programs and in ONNX files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from app.spec.prune import PruneWeights
from tests.support.engine.orders import model_of, rows_of
from tests.support.engine.pruned_networks import as_model, as_program, module
from tests.support.engine.trainings import training_context
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.passes.prune_weights import prune_weights
from worker.engine.pruning.weighted_layers import WeightedLayer, weighted_layers
from worker.engine.torch_program.program import Program, quiet

SERIES = {"series": torch.zeros(2, 5, 8)}


def pruned(program: Program, folder: Path, rows: Rows | None = None, **step: object) -> Changed:
    data = {} if rows is None else {"calibration": rows}
    return prune_weights(PruneWeights.model_validate(step), as_model(program, folder), training_context(folder, data))


def zeros(changed: Changed) -> dict[str, float]:
    state = changed.model.program.exported.state_dict
    return {name: float((weight == 0).double().mean()) for name, weight in state.items() if weight.ndim > 1}


@pytest.mark.parametrize(
    ("layout", "groups", "shape", "permutation"),
    [
        ("linear", 1, (6, 4), None),
        ("linear", 1, (2, 6, 4), None),
        ("matrix", 1, (4, 6), None),
        ("matrix", 1, (3, 4, 6), (0, 2, 1)),
        ("convolution", 2, (6, 4, 3, 3), None),
        ("transposed_convolution", 1, (8, 6, 3), None),
        ("transposed_convolution", 2, (8, 3, 3, 2), None),
        ("convolution", 1, (3, 4, 6), (2, 0, 1)),
    ],
)
def test_rows_go_back_to_where_they_came_from(
    layout: str, groups: int, shape: tuple[int, ...], permutation: tuple[int, ...] | None
) -> None:
    layer = WeightedLayer("layer", "layer.weight", None, layout, groups, permutation)
    weight = torch.randn(shape)

    assert torch.equal(layer.as_weight(layer.rows(weight), weight), weight)


def test_rows_of_a_grouped_transposed_convolution_are_its_outputs() -> None:
    layer = WeightedLayer("up", "up.weight", None, "transposed_convolution", 2)
    up = nn.ConvTranspose1d(4, 6, 3, groups=2, bias=False)
    rows, image = layer.rows(up.weight.detach()), torch.randn(1, 4, 1)

    by_hand = [rows[out] @ image[0, 2 * (out // 3) : 2 * (out // 3) + 2, 0] for out in range(6)]
    assert torch.allclose(up(image)[0], torch.stack(by_hand), atol=1e-6)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers(kind: type[nn.RNNBase], tmp_path: Path) -> None:
    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return self.head(self.recurrent(series)[0][:, -1])

    network = module(
        forward, recurrent=kind(8, 16, num_layers=2, bidirectional=True, batch_first=True), head=nn.Linear(32, 3)
    )
    changed = pruned(as_program(network, SERIES), tmp_path, scope="local")

    assert len(zeros(changed)) == 9
    assert all(share == pytest.approx(0.5, abs=0.02) for share in zeros(changed).values())
    assert changed.summary.startswith("50 % of the weights of 9 layers are zero, 4")
    assert changed.facts["sparsity_of_all"] < 0.5


def test_embeddings_and_transposed_convolutions(tmp_path: Path) -> None:
    def forward(self: nn.Module, ids: Tensor) -> Tensor:
        return self.up(self.words(ids).transpose(1, 2))

    network = module(forward, words=nn.Embedding(40, 8), up=nn.ConvTranspose1d(8, 12, 3, groups=4))
    changed = pruned(as_program(network, {"ids": torch.zeros(2, 5, dtype=torch.int64)}), tmp_path, scope="local")

    assert zeros(changed) == {"words.weight": 0.5, "up.weight": 0.5}


def test_a_tied_weight_is_one_layer(tmp_path: Path) -> None:
    def forward(self: nn.Module, ids: Tensor) -> Tensor:
        return self.out(self.hidden(self.words(ids)))

    network = module(forward, out=nn.Linear(8, 40), hidden=nn.Linear(8, 8), words=nn.Embedding(40, 8))
    network.words.weight = network.out.weight
    program = as_program(network, {"ids": torch.zeros(2, 5, dtype=torch.int64)})

    assert len(weighted_layers(program.graph_module())) == 2
    assert pruned(program, tmp_path).facts["weights"] == 40 * 8 + 64


@pytest.mark.parametrize(
    "product",
    [
        lambda weight, series: series @ weight.t(),
        lambda weight, series: series @ weight.transpose(0, 1).contiguous(),
        lambda weight, series: series @ weight.permute(1, 0),
        lambda weight, series: nn.functional.linear(series, weight),
        lambda weight, series: (weight.clone() @ series.transpose(1, 2)).transpose(1, 2),
    ],
)
def test_a_pattern_runs_along_the_inputs_wherever_they_are(product: Callable, tmp_path: Path) -> None:
    """Of every four weights in a row of [outputs, inputs] two are left."""

    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return product(self.weight, series)

    changed = pruned(
        as_program(module(forward, weight=nn.Parameter(torch.randn(6, 8))), SERIES), tmp_path, pattern="2:4"
    )
    weight = changed.model.program.exported.state_dict["weight"]

    assert ((weight != 0).reshape(6, 2, 4).sum(2) == 2).all()


def test_a_stack_of_matrices(tmp_path: Path) -> None:
    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return series.unsqueeze(1) @ self.stack

    changed = pruned(
        as_program(module(forward, stack=nn.Parameter(torch.randn(3, 8, 6))), SERIES), tmp_path, pattern="2:4"
    )
    stack = changed.model.program.exported.state_dict["stack"]

    assert ((stack != 0).reshape(3, 2, 4, 6).sum(2) == 2).all()


def test_layers_inside_of_a_condition(tmp_path: Path) -> None:
    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return torch.cond(series.sum() > 0, self.a.forward, self.b.forward, (series,))

    changed = pruned(as_program(module(forward, a=nn.Linear(8, 6), b=nn.Linear(8, 6)), SERIES), tmp_path, scope="local")

    assert zeros(changed) == {"a.weight": 0.5, "b.weight": 0.5}


@pytest.mark.parametrize("batch", [1, 3])
def test_wanda_runs_whole_batches_of_a_fixed_size(batch: int, tmp_path: Path) -> None:
    """And leaves layers whole whose inputs it cannot see."""

    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return self.head(self.recurrent(series.view(batch, 5, 8))[0])

    network = module(forward, recurrent=nn.GRU(8, 16, batch_first=True), head=nn.Linear(16, 3))
    example = {"series": torch.zeros(batch, 5, 8)}
    free = as_program(module(lambda self, series: self.layer(series), layer=nn.Linear(8, 8)), SERIES)
    spec = free.signature.inputs[0].model_copy(update={"shape": (batch, 5, 8)})
    out = free.signature.outputs[0].model_copy(update={"shape": (batch, 5, 3)})
    signature = free.signature.model_copy(update={"inputs": (spec,), "outputs": (out,)})
    with quiet():
        program = Program(torch.export.export(network, tuple(example.values())), signature)
    rows = rows_of(tmp_path, series=floats(70, 5, 8))

    changed = pruned(program, tmp_path, rows, criterion="wanda")

    shares = zeros(changed)
    assert shares["recurrent.weight_ih_l0"] == shares["head.weight"] == 0.5
    assert shares["recurrent.weight_hh_l0"] == 0
    assert any("1 layer stayed whole: what they read" in note for note in changed.notes)


def onnx_pruned(
    folder: Path, nodes: list, tensors: dict[str, np.ndarray], shape: tuple, kind: int = 1, **step: object
) -> dict[str, np.ndarray]:
    """The float tensors of the file afterwards, in Constant nodes, too."""
    given = helper.make_tensor_value_info("x", kind, shape)
    made = helper.make_tensor_value_info("y", 1, None)
    held = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "graph", [given], [made], held)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    model = model_of(path, folder)
    changed = prune_weights(PruneWeights.model_validate(step), model, training_context(folder, {}))
    found: dict[str, np.ndarray] = {}

    def collect(graph: onnx.GraphProto, path: str) -> None:
        found.update({path + tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer})
        for node in graph.node:
            for entry in node.attribute:
                if entry.name == "value":
                    found[path + node.output[0]] = numpy_helper.to_array(entry.t)
                if entry.type == onnx.AttributeProto.GRAPH:
                    collect(entry.g, f"{path}{entry.name}/")

    collect(onnx.load(changed.model.source).graph, "")
    return found


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def share(array: np.ndarray) -> float:
    return float((array == 0).mean())


def constant(name: str, array: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))


def test_weights_that_are_nodes(tmp_path: Path) -> None:
    """As older exporters write them."""
    nodes = [constant("w", floats(8, 6)), helper.make_node("MatMul", ["x", "w"], ["y"])]

    assert share(onnx_pruned(tmp_path, nodes, {}, ("n", 8))["w"]) == 0.5


def test_weights_behind_nodes_that_move_them(tmp_path: Path) -> None:
    nodes = [
        constant("w", floats(6, 8)),
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("Transpose", ["same"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    found = onnx_pruned(tmp_path, nodes, {}, ("n", 8), pattern="2:4")["w"]

    assert ((found != 0).reshape(6, 2, 4).sum(2) == 2).all()


@pytest.mark.parametrize(
    ("node", "shapes", "shape"),
    [
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2), [(4, 3, 3)], ("n", 4, 9)),
        (helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=4), [(1, 12, 6), (1, 12, 4)], ("t", "n", 6)),
        (helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4), [(1, 16, 6), (1, 16, 4)], ("t", "n", 6)),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), [(3, 8, 6)], (3, "n", 8)),
        (helper.make_node("MatMul", ["w", "x"], ["y"]), [(6, 8)], (8, "n")),
    ],
)
def test_layers_of_an_onnx_file(node: onnx.NodeProto, shapes: list, shape: tuple, tmp_path: Path) -> None:
    tensors = dict(zip("wr", (floats(*size) for size in shapes), strict=False))
    found = onnx_pruned(tmp_path, [node], tensors, shape, scope="local")

    assert [share(found[name]) for name in tensors] == [0.5] * len(shapes)


def test_tables_of_words_are_pruned_and_tables_of_anchors_are_not(tmp_path: Path) -> None:
    nodes = [
        constant("places", np.arange(4)),
        helper.make_node("Gather", ["anchors", "places"], ["picked"]),
        helper.make_node("Gather", ["words", "x"], ["seen"]),
        helper.make_node("Add", ["seen", "picked"], ["y"]),
    ]
    found = onnx_pruned(tmp_path, nodes, {"words": floats(40, 6), "anchors": floats(4, 6)}, ("n", 4), 7)

    assert share(found["words"]) == 0.5
    assert share(found["anchors"]) == 0


def test_layers_inside_of_an_onnx_condition(tmp_path: Path) -> None:
    """Both branches call theirs `w`; one reads a weight of the graph around it."""

    def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(name, 1, None)])

    first = branch("a", constant("w", floats(8, 6)), helper.make_node("MatMul", ["x", "w"], ["a"]))
    second = branch(
        "b",
        constant("w", floats(8, 6)),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "outer"], ["b"]),
    )
    nodes = [
        constant("is", np.array(True)),
        helper.make_node("If", ["is"], ["y"], then_branch=first, else_branch=second),
    ]
    found = onnx_pruned(tmp_path, nodes, {"outer": floats(6, 6)}, ("n", 8), scope="local")

    assert {name: share(array) for name, array in found.items() if array.ndim == 2} == {
        "outer": 0.5,
        "then_branch/w": 0.5,
        "else_branch/w": 0.5,
    }
