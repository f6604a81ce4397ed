"""Causes and ways out, from the operators that really ran."""

from collections import Counter

from app.spec.report import LayerError, Size
from tests.support.reports import latency
from worker.engine.measure.advice import Outcome, advice
from worker.engine.measure.placement import placement_of

FASTER = latency(1).model_copy(update={"speedup": 2.0, "speedup_low": 1.9, "speedup_high": 2.1})
SAME_SPEED = latency(1).model_copy(update={"speedup": 1.0, "speedup_low": 0.97, "speedup_high": 1.03})
SMALLER = Size(before_bytes=1_000_000, after_bytes=260_000)


def told(operators: dict[str, int], step: str = "quantize.static", **changed: object) -> str:
    outcome = {"size": SMALLER, "latency": (SAME_SPEED,), "layers": (), "lost_quality": False} | changed
    return " ".join(advice(Outcome((step,), placement_of(Counter(operators)), **outcome)))


def test_operators_in_floats_between_conversions_are_counted() -> None:
    converted = {"QuantizeLinear": 8, "DequantizeLinear": 8, "Sigmoid": 8, "Mul": 8}
    sentence = told({"QLinearConv": 9, "Reshape": 2, **converted})

    assert "16 conversions between integers and floats ran around operators" in sentence
    assert "stayed in floats: 8 Sigmoid, 8 Mul." in sentence
    assert '"quantize.dynamic"' in sentence
    assert "Reshape" not in sentence


def test_a_layer_without_an_integer_kernel_is_named_and_can_be_skipped() -> None:
    sentence = told({"QLinearConv": 2, "ConvTranspose": 4, "QuantizeLinear": 4, "DequantizeLinear": 4})

    assert "no integer kernel for 4 ConvTranspose" in sentence
    assert '"operators": ["ConvTranspose"]' in sentence


def test_weights_are_unpacked() -> None:
    sentence = told({"Conv": 5, "Gemm": 1}, "quantize.weights")

    assert "unpacks them when it loads the model" in sentence
    assert '"quantize.static"' in sentence


def test_no_integers_at_all() -> None:
    assert "no layer ran on an integer kernel: 5 Conv" in told({"Conv": 5})


def test_what_is_faster_or_not_quantized_needs_no_advice() -> None:
    assert told({"QLinearConv": 9, "Sigmoid": 8, "QuantizeLinear": 8}, latency=(FASTER,)) == ""
    assert told({"Conv": 5}, "prune.channels") == ""
    assert told({"Conv": 5}, latency=()) == "", "speed was not measured here"


def test_growth_has_a_cause() -> None:
    grown = Size(before_bytes=10_000, after_bytes=60_000)

    assert "Larger, because scales" in told({"QLinearConv": 9}, latency=(FASTER,), size=grown)


def test_the_layers_that_lose_most_can_be_skipped() -> None:
    levels = {"/a": 45.0, "/b": 18.0, "/c": 17.0, "/d": 5.0, "/e": 4.9, "/f": 40.0}
    layers = tuple(LayerError(name=name, operator="Conv", sqnr_db=level) for name, level in levels.items())

    sentence = told({"QLinearConv": 9}, latency=(FASTER,), layers=layers, lost_quality=True)

    assert '"nodes": ["/b", "/d", "/c"]' in sentence
    assert "quantize.aware" in sentence
