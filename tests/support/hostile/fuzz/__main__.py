"""`python -m tests.support.hostile.fuzz [reader ...] [--seconds N] [--seed N] [--keep FOLDER]`.

Each reader gets so many seconds in a process of its own; what breaks one is kept, and the command fails.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.hostile.fuzz.loop import fuzz, limit_memory
from tests.support.hostile.fuzz.readers import READERS
from tests.support.root import ROOT

EXTRA_SECONDS = 60
"""For starting Python, and for the last file, beside the time for reading."""


@dataclass(frozen=True)
class FuzzOutcome:
    """What the process of a reader said."""

    files: int
    refusals: int
    fault: str


def run(name: str, folder: Path, *, seconds: float, seed: int) -> FuzzOutcome:
    """Fuzz one reader on the seeds in `folder / name`; the file that broke it is left as `folder / name.broken`."""
    command = [sys.executable, "-m", "tests.support.hostile.fuzz", "--inside", str(folder), name]
    command += ["--seconds", str(seconds), "--seed", str(seed)]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + EXTRA_SECONDS, check=False
    )
    if ran.returncode:  # a signal, or no memory even to say so; the file it was reading lies there
        return FuzzOutcome(0, 0, f"the process ended with {ran.returncode}: {ran.stderr[-2000:]}")
    return FuzzOutcome(**json.loads(ran.stdout))


def inside(name: str, folder: Path, *, seconds: float, seed: int) -> FuzzOutcome:
    """The same in this process, which gets its limits."""
    limit_memory()
    seeds = [path.read_bytes() for path in sorted((folder / name).iterdir())]
    broken = folder / f"{name}.broken"
    outcome = fuzz(name, seeds, broken, seconds=seconds, seed=seed)
    if outcome.culprit is None:
        broken.unlink()
    return FuzzOutcome(outcome.files, outcome.refusals, outcome.fault)


def main() -> int:
    """Run what the command line asks for; 1 if a reader broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.hostile.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="reader", help=", ".join(READERS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the seeds and for files that broke a reader")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        outcome = inside(options.readers[0], options.inside, seconds=options.seconds, seed=options.seed)
        print(json.dumps(vars(outcome)))
        return 0
    from tests.support.hostile.fuzz.seeds import write_seeds  # imports torch, which the process that reads must not

    broken = 0
    folder = options.keep or Path(tempfile.mkdtemp(prefix="pare-fuzz-"))
    for name in options.readers or READERS:
        write_seeds(folder / name, name)
        outcome = run(name, folder, seconds=options.seconds, seed=options.seed)
        print(f"{name}: {outcome.files} files, {outcome.refusals} ways to refuse{', BROKEN' if outcome.fault else ''}")
        if outcome.fault:
            broken += 1
            print(f"{outcome.fault}\nthe file: {folder / f'{name}.broken'}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
