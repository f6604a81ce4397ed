"""Which output learns, told from shapes alone."""

import pytest

from app.spec.data import ArraySpec
from app.spec.scores import are_class_numbers, fits, trained_output
from app.spec.signature import Dimension, Signature, TensorSpec

BATCH = Dimension(name="batch")
LENGTH = Dimension(name="length", min=2, max=9)


def output(*sample: int | Dimension, dtype: str = "float32", name: str = "scores") -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": (BATCH, *sample)})


def labels(*sample: int, dtype: str = "int64") -> ArraySpec:
    return ArraySpec.model_validate({"dtype": dtype, "shape": (40, *sample)})


@pytest.mark.parametrize(
    ("scores", "given", "expected"),
    [
        (output(10), labels(), True),
        (output(10), labels(1), True),
        (output(10), labels(dtype="float32"), False),
        (output(1), labels(), False),
        (output(10, dtype="int64"), labels(), False),
        (output(7, 5), labels(7), True),  # tokens
        (output(7, 5), labels(5), False),
        (output(LENGTH, 5), labels(7), True),
        (output(LENGTH, 5), labels(10), False),
        (output(3, 4, 6), labels(4, 6), True),  # pixels
        (output(4, 6, 3), labels(4, 6), False),
    ],
)
def test_the_class_axis_is_last_for_tokens_and_second_for_images(
    scores: TensorSpec, given: ArraySpec, *, expected: bool
) -> None:
    assert are_class_numbers(scores, given) is expected


def test_the_first_output_that_fits_learns_unless_one_is_named() -> None:
    outputs = (output(dtype="int64", name="answer"), output(64, name="embedding"), output(7, 5, name="tokens"))
    signature = Signature(inputs=(), outputs=outputs)

    def chosen(given: ArraySpec | None, named: str | None = None) -> str | None:
        found = trained_output(signature, given, named)
        return None if found is None else found.name

    assert chosen(labels()) == "embedding"
    assert chosen(labels(7)) == "tokens"
    assert chosen(labels(64, dtype="float32")) == "embedding"
    assert chosen(labels(7), "answer") == "answer"
    assert (chosen(labels(9)), chosen(None)) == ("answer", "answer")
    assert chosen(labels(), "logits") is None
    assert not fits(outputs[0], labels())
