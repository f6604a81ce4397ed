"""A worker looks at each uploaded model, unasked."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.installation.client import Client
from tests.support.installation.waiting import until

SECONDS = 120


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_model_shows_what_was_found_in_it(client: Client, digits: Path, form: str) -> None:
    model = client.upload_model((digits / f"digits.{form}").read_bytes(), "digits")

    def looked_at() -> dict[str, Any] | None:
        shown = client.get(f"/models/{model}")["inspection"]
        return None if shown["status"] == "pending" else shown

    found = until(looked_at, "the model to be looked at", SECONDS)

    assert found["status"] == "ready", found
    assert found["macs"] > 10_000
    assert found["steps"]["prune.channels"]["applicable"], "a program is made of an ONNX file"
    assert found["groups"]
    assert "inspection" not in client.get("/models")["data"][0]
