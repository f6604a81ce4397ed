"""The error page lists every code the code has, and every class says cause and cure."""

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "errors.py"


@pytest.fixture(scope="module")
def docs():
    spec = importlib.util.spec_from_file_location("docs_errors", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_code_says(docs) -> None:
    assert docs.PAGE.read_text() == docs.page(), "run: python docs/errors.py"


def test_every_code_has_a_cause_a_remedy_and_a_status(docs) -> None:
    for code, error in docs.every_error().items():
        assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", code)
        assert (error.__doc__ or "").strip().split("\n")[0].endswith((".", ",", ":")) or "\n" in (error.__doc__ or "")
        assert error.remedy.strip().endswith((".", "?")), code
        assert 400 <= error.status <= 599, code
