"""`python -m bench.results [subject ...] [--quick]`: train, compress, measure; 1 if a requirement is missed.

A run of all subjects at full length writes `docs/results.md`; any other only prints.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

os.environ |= {
    # Before numpy and torch are imported.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "OMP_WAIT_POLICY": "PASSIVE",
    "ORT_DISABLE_TELEMETRY": "1",
}

import torch
from pydantic import TypeAdapter

from bench.harness.commit import commit
from bench.harness.document import Conditions
from bench.results.page import Outcomes, missed, page, section
from bench.results.recipes import Recipe
from bench.results.running import Effort, Files, Outcome, outcome
from bench.results.subjects import SUBJECTS, Subject
from worker.engine.measure.machine import describe_machine, load_average

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
FILES, OUTCOME = TypeAdapter(Files), TypeAdapter(Outcome)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every recipe on every subject asked for."""
    options = _options(arguments)
    torch.set_num_threads(1)
    started, load = datetime.now(UTC), load_average()
    measured = {}
    for subject in SUBJECTS:
        if not options.subjects or subject.name in options.subjects:
            measured[subject] = try_all(subject, quick=options.quick, keep=options.keep)
            print(section(subject, measured[subject]), flush=True)
    if options.output:
        conditions = Conditions(describe_machine(), started, load, load_average(), commit())
        options.output.write_text(page(conditions, measured), encoding="utf-8")
        print(f"wrote {options.output}")
    lines = [
        f"{subject.name}, {recipe.name}: {line}"
        for subject, outcomes in measured.items()
        for recipe in outcomes
        for line in missed(recipe, outcomes)
    ]
    print("\n".join(lines), file=sys.stderr)
    return 1 if lines else 0


def try_all(subject: Subject, *, quick: bool, keep: Path | None = None) -> Outcomes:
    """The outcome of each recipe for each seed; networks and outcomes are taken from `keep`, or left there."""
    effort = Effort(subject.batches, 1.0 if quick else 5.0)
    recipes = subject.recipes(1 if quick else subject.epochs)
    outcomes: dict = {recipe: [] for recipe in recipes}
    begun = time.monotonic()
    for seed in subject.seeds[:1] if quick else subject.seeds:
        with tempfile.TemporaryDirectory(prefix="pare-results-") as place:
            _say(subject, begun, f"training from seed {seed}")
            files = prepared(subject, seed, keep or Path(place), quick=quick)
            for recipe in recipes:
                _say(subject, begun, f"seed {seed}: {recipe.name}")
                kept = None if keep is None else _folder(subject, seed, keep, quick=quick) / _file_name(recipe)
                if kept is not None and kept.exists():
                    outcomes[recipe].append(OUTCOME.validate_json(kept.read_bytes()))
                    continue
                outcomes[recipe].append(outcome(recipe, files, Path(place, "job"), seed=seed, effort=effort))
                if kept is not None:
                    kept.write_bytes(OUTCOME.dump_json(outcomes[recipe][-1]))
    return outcomes


def _folder(subject: Subject, seed: int, keep: Path, *, quick: bool) -> Path:
    return keep / f"{subject.name}-{seed}{'-quick' if quick else ''}"


def _file_name(recipe: Recipe) -> str:
    """Of the outcome of a recipe: another recipe has another name."""
    steps = json.dumps(recipe.steps, sort_keys=True)
    return f"outcome-{hashlib.sha256(steps.encode()).hexdigest()[:16]}.json"


def prepared(subject: Subject, seed: int, keep: Path, *, quick: bool) -> Files:
    """The network of a seed with its data; trained unless it is there."""
    folder = _folder(subject, seed, keep, quick=quick)
    noted = folder / "files.json"
    if noted.exists():
        return FILES.validate_json(noted.read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    files = subject.prepare(folder, seed, quick)
    noted.write_bytes(FILES.dump_json(files))
    return files


def _say(subject: Subject, begun: float, what: str) -> None:
    print(f"[{subject.name} {time.monotonic() - begun:5.0f} s] {what}", file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [subject.name for subject in SUBJECTS]
    parser = argparse.ArgumentParser(prog="python -m bench.results", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="one seed and one epoch: does it work, not how well")
    parser.add_argument("--output", type=Path, help="write the page here, whatever was run")
    parser.add_argument("--keep", type=Path, help="keep networks and outcomes here, and do not make them again")
    options = parser.parse_args(arguments)
    if unknown := set(options.subjects) - set(names):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    if options.output is None and not options.quick and not options.subjects:
        options.output = PAGE
    return options


if __name__ == "__main__":
    sys.exit(main())
