"""Writes `docs/errors.md` from the code: `python docs/errors.py`."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import app
import worker
from app.errors import PareError

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Errors

Every error has a stable code. A refused request answers with it as `application/problem+json` (RFC 9457) and the
status below; a failed job carries it in `error`, with the status it would have had. This page is written by
`python docs/errors.py` from the classes themselves, and a test compares the two.

| code | status | cause | remedy |
|---|---|---|---|
"""


def every_error() -> dict[str, type[PareError]]:
    """Import the whole of both packages and collect each documented code."""
    for package in (app, worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Toolchains import what only their environments have, and their errors travel as codes of the engine's.
            if not module.name.endswith("__main__") and not module.name.startswith("worker.toolchains."):
                importlib.import_module(module.name)
    errors: dict[str, type[PareError]] = {}
    for error in PareError.every():
        known = errors.setdefault(error.code, error)
        if known is not error:
            raise ValueError(f"{error.code} is declared by {known.__qualname__} and {error.__qualname__}")
    return dict(sorted(errors.items()))


def rows() -> Iterator[str]:
    """Write one table row per code."""
    for code, error in every_error().items():
        cause = " ".join((inspect.getdoc(error) or "").split("\n\n")[0].split())
        yield f"| `{code}` | {error.status} | {_cell(cause)} | {_cell(error.remedy)} |\n"


def page() -> str:
    """Write the whole page."""
    return HEAD + "".join(rows())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
