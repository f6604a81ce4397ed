"""The error page lists every code the code has, and every class says cause and cure."""

import re
import runpy

from tests.support.root import ROOT

FOLDER = ROOT / "docs"
DOCS = runpy.run_path(str(FOLDER / "errors.py"))


def test_the_page_is_what_the_code_says() -> None:
    assert (FOLDER / "errors.md").read_text() == DOCS["page"](), "run: python docs/errors.py"


def test_every_code_has_a_cause_a_remedy_and_a_status() -> None:
    for code, error in DOCS["every_error"]().items():
        assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", code)
        assert (error.__doc__ or "").strip().split("\n")[0].endswith((".", ",", ":")) or "\n" in (error.__doc__ or "")
        assert error.remedy.strip().endswith((".", "?")), code
        assert 400 <= error.status <= 599, code
