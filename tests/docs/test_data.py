"""What the page on data sets shows can be done as it is shown."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from app.admission import admit_dataset
from app.admission.image_folder import MAX_CLASS_NAMES, MAX_CLASSES, MAX_IMAGES
from app.admission.text_archive import MAX_TOKENIZER_BYTES
from app.spec.data import DatasetSpec
from app.spec.tokenize import Tokenize
from app.spec.transforms import Transform
from tests.support.root import ROOT
from worker.engine.data.text import MAX_TEXT_CHARACTERS
from worker.engine.data.transforms import MAX_ASPECT

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_files_are_admitted_as_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, known)

    def admitted(name: str, spec: dict[str, Any]) -> Any:
        return admit_dataset(tmp_path / name, DatasetSpec.model_validate(spec), max_inflated_bytes=1 << 30)

    (spec,) = map(json.loads, blocks("json"))
    assert admitted("rows.npz", {}).rows == 100
    assert admitted("pictures.zip", spec).classes == ("cats", "dogs")
    tokens = admitted("text.zip", known["text_declaration"]).arrays
    assert {name: spec.shape for name, spec in tokens.items()} == {
        "y": (100,),
        "input_ids": (100, 128),
        "attention_mask": (100, 128),
        "token_type_ids": (100, 128),
    }
    assert admitted("rows.parquet", known["declaration"]).arrays["image"].shape == (100, 3, 32, 32)


def test_every_transform_is_listed() -> None:
    for one in get_args(get_args(Transform)[0]):
        assert f"| `{one.model_fields['type'].default}` |" in PAGE


def test_every_field_of_tokenize_is_listed() -> None:
    rows = "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))
    for field in Tokenize.model_fields:
        assert f"`{field}`" in rows


def test_limits_are_those_of_the_code() -> None:
    for limit in (MAX_IMAGES, MAX_CLASSES, MAX_CLASS_NAMES):
        assert f"{limit:,}" in PAGE
    assert f"up to {MAX_ASPECT} times" in PAGE
    assert f"of {MAX_TOKENIZER_BYTES >> 20} MiB; {MAX_TEXT_CHARACTERS:,} characters" in PAGE
