"""Writes `docs/configuration.md` from the settings class: `python docs/configuration.py`."""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from app.settings import Settings

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Configuration

Environment variables, read once at start; an unset one takes its default. Durations are seconds, sizes are bytes.
This page is written by `python docs/configuration.py` from the settings class, and a test compares the two.

| variable | default | meaning |
|---|---|---|
"""


def page() -> str:
    """Write the whole page."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    return f"| `PARE_{name.upper()}` | {_default(field.default)} | {field.description or ''} |\n"


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, frozenset):
        return "`[]`"
    shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return f"`{shown}`"


if __name__ == "__main__":
    PAGE.write_text(page())
