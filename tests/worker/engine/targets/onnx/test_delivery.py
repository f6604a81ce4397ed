"""What each profile promises is in the delivered graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
from onnxruntime.quantization import quantize_static as ort_quantize_static

from app.spec.quantize import QuantizeStatic
from tests.support.engine.orders import changed, lowered, model_of, outputs_of, rows_of
from worker.engine.data.rows import Rows
from worker.engine.model import Model
from worker.engine.targets.tensorrt.releases import RELEASES
from worker.engine.targets.tensorrt.rules import RuleViolated, require_rules

TYPES = {TensorProto.UINT8: "uint8", TensorProto.INT8: "int8", TensorProto.INT32: "int32"}


class Quantized:
    """The constants of a delivered graph, by what they are for."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self.constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        nodes = self.model.graph.node
        self.activations = [node for node in nodes if node.op_type == "QuantizeLinear"]
        dequantized = [node for node in nodes if node.op_type == "DequantizeLinear" and node.input[0] in self.constants]
        self.by_name = {n.input[0]: self.array(n.input[0]) for n in dequantized if self.kind(n.input[0]) == "int8"}
        self.weights = list(self.by_name.values())
        self.biases = [node for node in dequantized if self.kind(node.input[0]) == "int32"]
        self.weight_scales = [self.array(node.input[1]) for node in dequantized if self.kind(node.input[0]) == "int8"]

    def array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.constants[name])

    def kind(self, name: str) -> str:
        return TYPES.get(self.constants[name].data_type, "float")

    def activation_types(self) -> set[str]:
        return {self.kind(node.input[2]) for node in self.activations}

    def zero_points(self) -> set[int]:
        return {int(self.array(node.input[2])) for node in self.activations}


@pytest.fixture(scope="module")
def quantized_digits(
    digits_folder: Path, digits_calibration: Rows, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Path]:
    folder = tmp_path_factory.mktemp("quantized")
    return changed(QuantizeStatic(), digits_folder / "digits.onnx", folder, digits_calibration).model, folder


def test_x86_has_unsigned_activations_and_signed_weights_for_each_channel(quantized_digits) -> None:
    graph = Quantized(lowered(quantized_digits[0], "x86", quantized_digits[1]))

    assert graph.activation_types() == {"uint8"}
    assert len(graph.weights) == 5
    assert max(np.abs(weight).max() for weight in graph.weights) == 127
    assert [scale.size for scale in graph.weight_scales] == [32, 64, 128, 128, 10]


def test_x86_legacy_has_7_bit_weights(quantized_digits) -> None:
    graph = Quantized(lowered(quantized_digits[0], "x86-legacy", quantized_digits[1]))

    assert graph.activation_types() == {"uint8"}
    assert {int(np.abs(weight.astype(int)).max()) for weight in graph.weights} <= {63, 64}


def test_arm_has_signed_activations_with_zero_points(quantized_digits) -> None:
    graph = Quantized(lowered(quantized_digits[0], "arm", quantized_digits[1]))

    assert graph.activation_types() == {"int8"}
    assert -128 in graph.zero_points(), "a ReLU's output uses every code"


def test_tensorrt_is_signed_and_symmetric_with_float_biases(quantized_digits) -> None:
    graph = Quantized(lowered(quantized_digits[0], "tensorrt", quantized_digits[1]))

    assert graph.activation_types() == {"int8"}
    assert graph.zero_points() == {0}
    assert graph.biases == []
    assert {opset.domain for opset in graph.model.opset_import} == {""}
    assert len(graph.weights) == 5
    require_rules(graph.model, RELEASES["trt10"])


@pytest.mark.parametrize("profile", ["x86", "x86-legacy", "arm"])
def test_other_profiles_break_tensorrts_rules(profile, quantized_digits) -> None:
    with pytest.raises(RuleViolated, match="zero-point"):
        require_rules(onnx.load(lowered(quantized_digits[0], profile, quantized_digits[1])), RELEASES["trt10"])


def test_one_plan_lowers_to_the_same_file_every_time(quantized_digits) -> None:
    """The quantizer writes into the ranges it is given; the plan must not notice."""
    model, folder = quantized_digits
    first = lowered(model, "x86", folder).read_bytes()
    for profile in ("arm", "tensorrt", "x86-legacy"):
        lowered(model, profile, folder)
    assert lowered(model, "x86", folder).read_bytes() == first


def test_each_rule_of_tensorrt_is_checked(quantized_digits) -> None:
    path = lowered(quantized_digits[0], "tensorrt", quantized_digits[1])

    def broken(change) -> onnx.ModelProto:
        model = onnx.load(path)
        change(model)
        return model

    def constant(model: onnx.ModelProto, suffix: str) -> onnx.TensorProto:
        return next(tensor for tensor in model.graph.initializer if tensor.name.endswith(suffix))

    def negative_scale(model: onnx.ModelProto) -> None:
        constant(model, "image_scale").CopyFrom(numpy_helper.from_array(np.float32(-1), "image_scale"))

    def shifted(model: onnx.ModelProto) -> None:
        constant(model, "image_zero_point").CopyFrom(numpy_helper.from_array(np.int8(3), "image_zero_point"))

    def per_channel_activation(model: onnx.ModelProto) -> None:
        constant(model, "image_scale").CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "image_scale"))

    def late_opset(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 21

    def integer_operator(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("MatMulInteger", ["a", "b"], ["c"], "product"))

    def other_domain(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Gelu", ["a"], ["b"], "bent", domain="com.microsoft"))

    for change, sentence in [
        (other_domain, "Node bent: TensorRT has no com.microsoft::Gelu"),
        (negative_scale, "positive"),
        (shifted, "must be 0"),
        (per_channel_activation, "only weights"),
        (late_opset, "opset 21"),
        (integer_operator, "MatMulInteger"),
    ]:
        with pytest.raises(RuleViolated, match=sentence):
            require_rules(broken(change), RELEASES["trt10"])


def test_weights_and_scales_are_those_of_the_runtimes_own_quantizer(
    digits_folder: Path, digits_calibration: Rows, quantized_digits, tmp_path: Path
) -> None:
    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = digits_calibration.batches(64)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next((inputs for inputs, _ in self.batches), None)

    model, folder = quantized_digits
    ort_quantize_static(
        model.plan.graph,
        tmp_path / "theirs.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=list(model.plan.nodes),
    )
    ours, theirs = Quantized(lowered(model, "x86", folder)), Quantized(tmp_path / "theirs.onnx")

    assert len(ours.weights) == 5
    assert ours.by_name.keys() == theirs.by_name.keys()
    for name, weight in ours.by_name.items():
        assert np.array_equal(weight, theirs.by_name[name])
    scales = {node.input[0]: float(theirs.array(node.input[1])) for node in theirs.activations}
    assert {node.input[0]: float(ours.array(node.input[1])) for node in ours.activations} == pytest.approx(scales)


def test_the_file_says_where_it_comes_from_and_no_more(quantized_digits) -> None:
    model = onnx.load(lowered(quantized_digits[0], "x86", quantized_digits[1]))

    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes["pare.job"] == "job_1"
    assert notes["pare.recipe_sha256"] == "a" * 64
    assert notes["pare.parent_sha256"] == "b" * 64
    assert notes["pare.profile"] == "x86"
    assert notes["pare.version"]
    assert model.producer_name == "pare"
    written = model.SerializeToString()
    for private in (b".py", b"stack_trace", str(quantized_digits[1]).encode(), b"/tmp"):
        assert private not in written


def test_without_a_step_the_export_is_the_original(digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    original = digits_folder / "digits.onnx"
    file = lowered(model_of(original, tmp_path), "x86", tmp_path)

    inputs, _ = next(digits_test.batches(16))
    assert np.array_equal(outputs_of(original, inputs)[0], outputs_of(file, inputs)[0])
    assert "pare.job" in {entry.key for entry in onnx.load(file).metadata_props}


def test_the_authors_own_notes_stay(digits_folder: Path, tmp_path: Path) -> None:
    model = onnx.load(digits_folder / "digits.onnx")
    helper.set_model_props(model, {"classes": "0,1,2"})
    model.doc_string = "made on /home/ann"
    onnx.save(model, tmp_path / "noted.onnx")

    delivered = onnx.load(lowered(model_of(tmp_path / "noted.onnx", tmp_path), "arm", tmp_path))

    assert {entry.key: entry.value for entry in delivered.metadata_props}["classes"] == "0,1,2"
    assert delivered.doc_string == ""


def test_batch_size_stays_free(quantized_digits) -> None:
    file = lowered(quantized_digits[0], "x86", quantized_digits[1])
    for rows in (1, 5):
        assert outputs_of(file, {"image": np.zeros((rows, 1, 8, 8), np.float32)})[0].shape == (rows, 10)


def test_weights_in_a_file_beside_the_model(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    onnx.save(
        onnx.load(digits_folder / "digits.onnx"),
        tmp_path / "outside.onnx",
        save_as_external_data=True,
        location="weights.bin",
    )
    images, _ = next(digits_calibration.batches(50))
    quantized = changed(QuantizeStatic(), tmp_path / "outside.onnx", tmp_path, rows_of(tmp_path, **images))
    graph = Quantized(lowered(quantized.model, "x86", tmp_path))
    assert len(graph.weights) == 5
