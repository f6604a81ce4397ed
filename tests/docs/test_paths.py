"""A path that a document names is there, and a link to another document leads to one."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest

from tests.support.root import ROOT

ELSEWHERE = {"docs/results.md", "docs/benchmarks.md", "CHANGELOG.md"}
"""Written by commands that have tests of their own, or about what was."""
TOP = ("app", "worker", "tests", "docs", "agent", "bench", "docker", "examples", "migrations", "toolchains")
NAMED = re.compile(rf"`((?:{'|'.join(TOP)})/[\w./-]+)`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def documents() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(set(listed.stdout.split()) - ELSEWHERE)


def missing(document: Path) -> list[str]:
    """What a document names and links to that is not there."""
    text = document.read_text()
    named = [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    return named + [link for link in LINK.findall(text) if not (document.parent / link).exists()]


@pytest.mark.parametrize("document", documents())
def test_every_path_exists(document: str) -> None:
    assert missing(ROOT / document) == []


def test_a_path_that_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`app/gone.py`, `app/errors.py`, [here](page.md), [there](gone.md#part), [web](https://x.example)")
    assert missing(page) == ["app/gone.py", "gone.md"]


def test_the_picture_of_the_house_is_of_this_one() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "house.py"))["picture"]()
    assert (ROOT / "docs" / "house.svg").read_text() == drawn, "run: python docs/house.py"
