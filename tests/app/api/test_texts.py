"""Text goes from upload to an accepted job, and what a model does not take is refused with what to declare instead."""

import json
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest

from tests.support.api import OCTETS, uploaded
from tests.support.texts import archive, words

INT64, INT32, FLOAT = onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.FLOAT


def model(client: httpx.Client, shape: list[Any], dtype: int = INT64) -> str:
    inputs = [onnx.helper.make_tensor_value_info("input_ids", dtype, shape)]
    outputs = [onnx.helper.make_tensor_value_info("y", dtype, shape)]
    return uploaded(client, inputs=inputs, outputs=outputs)


def sent(client: httpx.Client, folder: Path, tokenizer: Any = None, **tokenize: Any) -> httpx.Response:
    path = archive(folder / "rows.zip", {"text": ["a", "b a"]}, tokenizer or words("a", "b"))
    spec = json.dumps({"tokenize": {"text": ["text"], "max_length": 8} | tokenize})
    return client.post("/datasets", params={"name": "d", "spec": spec}, content=path.read_bytes(), headers=OCTETS)


@pytest.mark.parametrize("shape", [["n", 8], ["n", "tokens"]])
def test_tokens_feed_a_model_of_their_length_or_of_any(client: httpx.Client, shape: list[Any], tmp_path: Path) -> None:
    data = sent(client, tmp_path).json()
    assert data["info"]["tokenizer"] == {"kind": "WordLevel", "pad_token": "[PAD]"}
    answer = client.post("/jobs/validate", json={"model": model(client, shape), "data": {"test": data["id"]}})

    assert (answer.status_code, answer.json()["valid"]) == (200, True)
    warnings = [warning for warning in answer.json()["warnings"] if "is no input" in warning]
    assert warnings == ["test: the array 'attention_mask' is no input of the model and is not used."]


@pytest.mark.parametrize(
    ("shape", "dtype", "tokenize", "sentence", "remedy"),
    [
        (["n", 16], INT64, {}, "takes 16 tokens, the data set is tokenized to 8", "tokenize.max_length"),
        (["n", 8], INT32, {}, "takes int32, tokens are int64", "`tokenize.dtype` set to 'int32'"),
        (["n", 8], FLOAT, {}, "takes float32, tokens are int64", "to_float"),
        (["n", 8, 3], INT64, {}, "takes samples of shape [8, 3]", "[batch, tokens]"),
        (["n", 8], INT64, {"ids": "tokens"}, "needs an input 'input_ids'", ""),
    ],
)
def test_a_model_that_takes_other_tokens_is_refused(
    client: httpx.Client, shape: list[Any], dtype: int, tokenize: Any, sentence: str, remedy: str, tmp_path: Path
) -> None:
    data = sent(client, tmp_path, **tokenize).json()["id"]
    answer = client.post("/jobs/validate", json={"model": model(client, shape, dtype), "data": {"test": data}})

    assert (answer.status_code, answer.json()["code"]) == (422, "data.mismatch")
    assert sentence in answer.json()["detail"]
    assert remedy in json.dumps(answer.json(), ensure_ascii=False)
    assert answer.json()["errors"][0]["pointer"] == "/data/test"


def test_a_tokenizer_that_is_none_is_refused_at_upload(client: httpx.Client, tmp_path: Path) -> None:
    answer = sent(client, tmp_path, b"none")
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset.tokenizer_unfit")
