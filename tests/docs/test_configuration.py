"""The configuration page is what the settings class says, and every setting says what it means."""

import runpy

from app.settings import Settings
from tests.support.root import ROOT

FOLDER = ROOT / "docs"


def test_the_page_is_what_the_settings_say() -> None:
    page = runpy.run_path(str(FOLDER / "configuration.py"))["page"]()

    assert (FOLDER / "configuration.md").read_text() == page, "run: python docs/configuration.py"


def test_every_setting_says_what_it_means() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]

    assert silent == []
