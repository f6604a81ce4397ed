"""Writes `docs/onnx-import.md`: `python docs/onnx_import.py` gives ONNX's own backend tests to the importer (2 min)."""

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.errors import PareError
from tests.support.engine.onnx_backend import Case, cases, require_passes
from worker.engine.onnx_import.operators.table import OPERATORS

PAGE = Path(__file__).with_name("onnx-import.md")
MARK = "<!-- written by python docs/onnx_import.py from here on -->\n"
NO_FLOATS = {
    "texts": (
        "RegexFullMatch",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "TfIdfVectorizer",
        "LabelEncoder",
        "_string",
    ),
    "pictures in files": ("ImageDecoder",),
    "random numbers": ("Bernoulli", "RandomUniformLike", "training_dropout"),
    "steps of training": ("Adagrad", "Adam", "gradient_of", "Momentum"),
    "types of 2 and 4 bits": ("INT4", "INT2", "FLOAT4", "float4e2m1", "int4", "int2"),
}
"""What has no meaning in floats, by what its cases are about: an operator, or a part of the case's name."""


def main() -> None:
    """Run every case and write the page below its text."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of numpy and torch, about the cases' extremes
    by_operator: dict[str, list[tuple[Case, str]]] = defaultdict(list)
    for case in cases():
        by_operator[case.operator].append((case, failure(case)))
    text = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(text + MARK + "".join(told(by_operator)), encoding="utf-8")


def failure(case: Case) -> str:
    """Why a case does not pass; empty: it does."""
    try:
        require_passes(case)
    except PareError as error:
        return error.detail
    except Exception as error:  # noqa: BLE001  # a comparison that fails, or a type that NumPy does not have
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else ''}"
    return ""


def told(by_operator: Mapping[str, list[tuple[Case, str]]]) -> Iterator[str]:
    """The sums, then a row for each operator."""
    every = [outcome for outcomes in by_operator.values() for outcome in outcomes]
    floats = [outcome for outcome in every if not kind_of(outcome[0])]
    yield f"\n## ONNX's backend tests (onnx {onnx.__version__}, torch {torch.__version__.partition('+')[0]})\n\n"
    yield f"{share(floats)} of the cases with a meaning in floats pass, {share(every)} of all. "
    yield f"The table of converters has {len(OPERATORS)} operators.\n\n"
    yield "| no meaning in floats | cases | pass |\n|---|---:|---:|\n"
    for kind in NO_FLOATS:
        outcomes = [outcome for outcome in every if kind_of(outcome[0]) == kind]
        yield f"| {kind} | {len(outcomes)} | {passed(outcomes)} |\n"
    yield "\n| operator | cases | pass | the first that does not |\n|---|---:|---:|---|\n"
    for operator, outcomes in sorted(by_operator.items()):
        rest = [outcome for outcome in outcomes if not kind_of(outcome[0])]
        if rest:
            yield f"| {operator} | {len(rest)} | {passed(rest)} | {first_failure(rest)} |\n"


def kind_of(case: Case) -> str:
    """What the case is about that has no meaning in floats; empty: it has one."""
    return next(
        (
            kind
            for kind, parts in NO_FLOATS.items()
            if any(part == case.operator.rpartition(".")[2] or part in case.name for part in parts)
        ),
        "",
    )


def passed(outcomes: list[tuple[Case, str]]) -> int:
    """How many pass."""
    return sum(not reason for _, reason in outcomes)


def share(outcomes: list[tuple[Case, str]]) -> str:
    """In words: "1,800 of 1,850 (97.3 %)"."""
    return f"{passed(outcomes):,} of {len(outcomes):,} ({100 * passed(outcomes) / len(outcomes):.1f} %)"


def first_failure(outcomes: list[tuple[Case, str]]) -> str:
    """The name of the first case that fails, and why."""
    reasons = [f"`{case.name}`: {reason}" for case, reason in outcomes if reason]
    return " ".join(reasons[0].split())[:260].replace("|", "\\|") if reasons else ""


if __name__ == "__main__":
    main()
