"""Fields whose choices are the rows of a table refuse what is not in it as a union and a literal would."""

import pytest
from pydantic import ValidationError

from app.spec.evaluate import Evaluate
from app.spec.job import JobSpec
from app.spec.prune import PruneWeights

MODEL = "mdl_" + "0" * 32


@pytest.mark.parametrize(
    ("steps", "kind", "place"),
    [
        ([{"type": "prune.weights", "sparsity": 2}], "less_than", ("steps", 0, "sparsity")),
        ([{"type": "prune.nothing"}], "union_tag_invalid", ("steps", 0)),
        ([{"type": ["prune.weights"]}], "union_tag_invalid", ("steps", 0)),
        ([{"ratio": 0.5}], "union_tag_not_found", ("steps", 0)),
        (["prune.weights"], "model_attributes_type", ("steps", 0)),
    ],
)
def test_a_fault_of_a_choice_has_its_place(steps: list, kind: str, place: tuple) -> None:
    with pytest.raises(ValidationError) as refused:
        JobSpec.model_validate({"model": MODEL, "steps": steps})

    (error,) = refused.value.errors()
    assert (error["type"], error["loc"]) == (kind, place)


def test_an_instance_passes_as_it_is() -> None:
    step = PruneWeights(sparsity=0.5)

    assert JobSpec(model=MODEL, steps=(step,)).steps == (step,)


@pytest.mark.parametrize(("name", "kind"), [("top2", "literal_error"), (1, "string_type")])
def test_a_name_is_of_the_table(name: object, kind: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Evaluate.model_validate({"metrics": [name]})

    assert refused.value.errors()[0]["type"] == kind
