"""The results page: recipes are real jobs, requirements are held against what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.spec.job import JobSpec
from bench.harness.figures import at_least, at_most
from bench.results.page import missed, section
from bench.results.recipes import STATIC, Recipe
from bench.results.running import Effort, Files, Outcome, outcome
from bench.results.subjects import SUBJECTS, Subject, prepare_digits
from tests.support.bench_extra import require_bench

OUTCOME = Outcome(
    before=0.98,
    after=0.97,
    rows=597,
    bytes_before=1000,
    bytes_after=100,
    speedup={"ONNX Runtime, batch 1": 5.0},
    zipped=4.0,
    seconds=3.0,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return prepare_digits(tmp_path_factory.mktemp("digits"), 0, True)


def test_a_recipe_is_run_and_measured(trained: Files, tmp_path: Path) -> None:
    require_bench("openvino")
    found = outcome(Recipe("static int8", (STATIC,), ""), trained, tmp_path / "job", seed=0, effort=Effort((1,), 0.2))

    assert found.rows == 597
    assert found.before > 0.97
    assert found.drop <= 1.0
    assert found.smaller > 3
    assert found.speedup["ONNX Runtime, batch 1"] > 0
    assert found.zipped > 2


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_every_recipe_is_a_valid_job(subject: Subject) -> None:
    recipes = subject.recipes(3)
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    for recipe in recipes:
        JobSpec.model_validate({"model": "mdl_" + "0" * 32, "steps": recipe.steps})


def test_what_misses_a_requirement_is_named() -> None:
    strict = Recipe("chain", (), "", drop=at_most(0.5), smaller=at_least(10), faster=at_least(5.5))

    assert missed(strict, {strict: [OUTCOME, OUTCOME]}) == [
        "lost is 1, required is at most 0.5",
        "faster is 5, required is at least 5.5",
    ]
    easy = Recipe("chain", (), "", drop=at_most(1.01))
    assert missed(easy, {easy: [OUTCOME]}) == []


def test_requirements_hold_for_the_mean_over_the_seeds() -> None:
    chain = Recipe("chain", (), "", drop=at_most(2.0))

    assert missed(chain, {chain: [OUTCOME, replace(OUTCOME, after=0.95)]}) == []


def test_a_recipe_must_beat_the_one_it_names() -> None:
    alone, taught = Recipe("alone", (), ""), Recipe("taught", (), "", beats="alone")

    assert missed(taught, {alone: [OUTCOME], taught: [replace(OUTCOME, after=0.98)]}) == []
    assert missed(taught, {alone: [OUTCOME], taught: [OUTCOME]}) == [
        "top-1 above alone's is 97, required is at least 97.1"
    ]


def test_the_table_shows_means_and_spreads() -> None:
    recipe = Recipe("half, zipped", (), "downloads", drop=at_most(3))
    text = section(SUBJECTS[0], {recipe: [OUTCOME, replace(OUTCOME, after=0.95)]})

    assert "| half, zipped | 10.0x | 4.0x | 5.00x | 96.0 (95.0 to 97.0) % | 2.00 (1.00 to 3.00) | 3 s |" in text
    assert "lost at most 3: met" in text
    assert "2 random starts" in text


def test_where_speed_is_not_measured_only_top1_is_told() -> None:
    (subject,) = (one for one in SUBJECTS if not one.batches)
    recipe = Recipe("taught", (), "few labels")
    text = section(subject, {recipe: [replace(OUTCOME, speedup={})]})

    assert "| Recipe | Top-1 | Lost, points | Cost | Required | Use it for |" in text
    assert "| taught | 97.0 % | 1.00 | 3 s |" in text
