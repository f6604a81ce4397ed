"""Scores are told from boxes, embeddings and regressions by what the graph says of them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from worker.engine.measure.class_axes import axes_of


def graph(
    nodes: list[onnx.NodeProto], outputs: dict[str, int], weights: dict[str, tuple[int, ...]], image: int = 3
) -> onnx.GraphProto:
    """Outputs by name with their number of axes; weights by name with their shape."""
    return helper.make_graph(
        nodes,
        "ends",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", image, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * axes) for name, axes in outputs.items()],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()],
    )


def linear(output: str, weight: str = "w", *, bias: bool = True) -> list[onnx.NodeProto]:
    product = helper.make_node("MatMul", ["x", weight], [f"{output}/p" if bias else output])
    return [product, helper.make_node("Add", [f"{output}/p", "b"], [output])] if bias else [product]


def named(output: str, weight: str = "w", *, axes: int = 2, columns: int = 10) -> dict[str, int]:
    return axes_of(graph(linear(output, weight), {output: axes}, {weight: (64, columns), "b": (columns,)}))


@pytest.mark.parametrize(("axes", "axis"), [(2, 1), (3, 2)])
def test_a_linear_layer_with_a_bias_at_the_end_is_scores(axes: int, axis: int) -> None:
    assert named("linear", axes=axes) == {"linear": axis}


@pytest.mark.parametrize("name", ["logits", "pred_logits", "class_scores", "probabilities", "cls", "labels"])
def test_a_name_says_scores(name: str) -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], [name])]

    assert [axes_of(graph(nodes, {name: axes}, {}))[name] for axes in (2, 3, 4)] == [1, 2, 1]


@pytest.mark.parametrize(
    "name",
    [
        *("boxes", "pred_boxes", "bboxPred", "embedding", "image_embeds", "last_hidden_state", "pooler_output"),
        *("depth", "keypoints", "features", "reg", "landmarks", "state"),
    ],
)
def test_a_name_says_values(name: str) -> None:
    assert named(name) == {}


def test_the_weights_of_the_layer_have_a_name_too() -> None:
    assert named("linear_1", "box.weight") == {}
    assert named("linear_1", "head.embed.weight") == {}
    assert named("linear_1", "scores.weight", columns=4) == {"linear_1": 1}


def test_what_follows_the_layer_says_values() -> None:
    weights = {"w": (64, 10), "b": (10,)}
    for operator in ("LpNormalization", "Tanh", "Relu", "Sigmoid"):
        nodes = [*linear("h"), helper.make_node(operator, ["h"], ["y"])]
        assert axes_of(graph(nodes, {"y": 2}, weights)) == {}, operator
    kept = [*linear("h"), helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT)]
    assert axes_of(graph(kept, {"y": 2}, weights)) == {"y": 1}


def test_a_projection_without_a_bias_is_an_embedding_unless_it_spans_a_vocabulary() -> None:
    narrow, wide = {"w": (512, 256)}, {"w": (64, 500)}

    assert axes_of(graph(linear("y", bias=False), {"y": 2}, narrow)) == {}
    assert axes_of(graph(linear("y", bias=False), {"y": 3}, wide)) == {"y": 2}


def test_four_columns_beside_another_output_are_rather_a_box() -> None:
    weights = {"w": (64, 4), "v": (64, 10), "b": (10,)}
    both = graph([*linear("first", "v"), *linear("second")], {"first": 2, "second": 2}, weights)

    assert axes_of(both) == {"first": 1}
    assert named("only", columns=4) == {"only": 1}


@pytest.mark.parametrize(
    ("operator", "axis", "expected"), [("Softmax", 1, 1), ("LogSoftmax", -1, 3), ("Softmax", 2, 2)]
)
def test_a_softmax_says_its_axis(operator: str, axis: int, expected: int) -> None:
    nodes = [helper.make_node(operator, ["x"], ["h"], axis=axis), helper.make_node("Identity", ["h"], ["boxes"])]

    assert axes_of(graph(nodes, {"boxes": 4}, {})) == {"boxes": expected}


def test_pixels_are_scored_by_a_pointwise_convolution() -> None:
    def ended(channels: int, kernel: int) -> dict[str, int]:
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"])]
        return axes_of(graph(nodes, {"y": 4}, {"w": (channels, 3, kernel, kernel), "b": (channels,)}))

    assert ended(21, 1) == {"y": 1}
    assert ended(3, 1) == {}, "as many channels as a picture has: a picture"
    assert ended(1, 1) == {}
    assert ended(21, 3) == {}


def test_labels_say_what_an_output_is() -> None:
    nodes, weights = [helper.make_node("Conv", ["x", "w", "b"], ["y"])], {"w": (4, 3, 3, 3), "b": (4,)}

    assert axes_of(graph(nodes, {"y": 4}, weights), classified={"y"}) == {"y": 1}
    assert axes_of(graph(linear("y"), {"y": 2}, {"w": (64, 10), "b": (10,)}), regressed={"y"}) == {}
