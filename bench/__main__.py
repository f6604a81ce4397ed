"""`python -m bench [story ...] [--quick]`: measure, print, and fail if a figure misses what is required of it.

A run of all stories at full length writes `docs/benchmarks.md`; any other only prints.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

os.environ |= {
    # Before numpy and torch are imported, and for every process that is started.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "OMP_WAIT_POLICY": "PASSIVE",
    "ORT_DISABLE_TELEMETRY": "1",
}

from bench.harness.commit import commit
from bench.harness.document import Conditions, StoryResult, document, section
from bench.harness.scene import Scene, Story
from worker.engine.measure.machine import describe_machine, load_average

NAMES = (
    "resnet50",
    "digits",
    "quantizer",
    "options",
    "calibration",
    "passes",
    "pruning",
    "weights",
    "distillation",
    "requests",
    "upload",
    "streaming",
    "estimates",
)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def story(name: str) -> Story:
    """Import the file of that name."""
    module = import_module(f"bench.{name}")
    return Story(name, module.__doc__ or "", module.tell)


def main(arguments: Sequence[str] | None = None, stories: Mapping[str, Story] | None = None) -> int:
    """Tell the stories asked for; 1 if a required figure is missed. `stories` replaces those of this package."""
    known = list(stories or NAMES)
    options = _options(known, arguments)
    started, load = datetime.now(UTC), load_average()
    results = []
    for name in options.stories or known:
        results.append(tell(stories[name] if stories else story(name), quick=options.quick))
        print(section(results[-1]), flush=True)
    if options.output:
        conditions = Conditions(describe_machine(), started, load, load_average(), commit())
        options.output.write_text(document(conditions, results), encoding="utf-8")
        print(f"wrote {options.output}")
    missed = [(result.story.name, figure) for result in results for figure in result.figures if not figure.met]
    for name, figure in missed:
        print(f"{name}: {figure.name} is {figure.shown}, required is {figure.requirement}", file=sys.stderr)
    return 1 if missed else 0


def tell(story: Story, *, quick: bool) -> StoryResult:
    """Tell one story in a folder of its own, which is deleted."""
    folder = Path(tempfile.mkdtemp(prefix="pare-bench-"))
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{story.name} {time.monotonic() - started:5.0f} s] {what}", file=sys.stderr, flush=True)

    try:
        figures = story.tell(Scene(folder, quick, say))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say("done")
    return StoryResult(story, figures, time.monotonic() - started)


def _options(known: Sequence[str], arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("stories", nargs="*", metavar="story", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="small amounts: does it work, not how well")
    parser.add_argument("--output", type=Path, help="write the page here, whatever was run")
    options = parser.parse_args(arguments)
    if unknown := set(options.stories) - set(known):
        parser.error(f"no such story: {', '.join(sorted(unknown))}")
    if options.output is None and not options.quick and not options.stories:
        options.output = PAGE
    return options


if __name__ == "__main__":
    sys.exit(main())
