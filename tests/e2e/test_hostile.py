"""Every hostile file of the corpus goes to a service that runs, and a job is asked of those that get in."""

from pathlib import Path

import httpx
import pytest

from tests.support.hostile.corpus import HostileFile, executed, write_corpus
from tests.support.installation.client import OCTETS, Client
from tests.support.installation.jobs import BRIEF, recipe
from tests.support.installation.serving import Stack

FOLDERS = {"model": "/models", "dataset": "/datasets"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stack", ["embedded"], indirect=True)
def test_each_hostile_file_gets_a_documented_answer(
    stack: Stack, tiny_model: str, tiny_data: str, tmp_path: Path
) -> None:
    files = write_corpus(tmp_path / "corpus")
    answers = {file.name: _uploaded(stack.client, file) for file in files}
    jobs: dict[str, httpx.Response] = {}
    for file in files:
        if answers[file.name].status_code == httpx.codes.CREATED:
            jobs[file.name] = stack.client.http.post("/jobs", json=_spec(answers[file.name].json()["id"], tiny_model))
    wrong = []
    for file in files:
        codes = _codes(stack.client, answers[file.name], jobs.get(file.name))
        if not codes & file.codes:
            wrong.append((file.name, codes, set(file.codes)))

    assert wrong == []
    assert len(jobs) < len(files) / 2
    assert executed(tmp_path / "corpus") == []
    assert stack.installation.services[-1].is_running
    assert stack.client.wait(stack.client.submit(recipe(tiny_model, tiny_data)))["status"] == "succeeded"


def _uploaded(client: Client, file: HostileFile) -> httpx.Response:
    content = file.path.read_bytes()
    params = {"name": "../../x"} | ({} if file.architecture is None else {"architecture": file.architecture})
    return client.http.post(FOLDERS[file.kind], params=params, content=content, headers=OCTETS)


def _spec(resource: str, tiny_model: str) -> dict:
    quick = {"evaluate": {"latency": BRIEF}, "timeout_s": 20, "max_attempts": 1}
    if resource.startswith("mdl_"):
        return quick | {"model": resource}  # no steps: loaded, run and measured as it is
    return quick | {"model": tiny_model, "data": {"test": resource}}


def _codes(client: Client, uploaded: httpx.Response, submitted: httpx.Response | None) -> set[str]:
    """Return what may be said of the file: the refusal's code, or its job's; "ok" for one that was let in."""
    assert uploaded.status_code < httpx.codes.INTERNAL_SERVER_ERROR, uploaded.text
    if submitted is None:
        return {uploaded.json()["code"]}
    assert submitted.status_code < httpx.codes.INTERNAL_SERVER_ERROR, submitted.text
    if submitted.is_client_error:
        return {"ok", submitted.json()["code"]}
    ended = client.wait(submitted.json()["id"])
    if ended["status"] == "succeeded":
        return {"ok"}
    code = ended["error"]["code"]
    return {code} if code.startswith("worker.") else {"ok", code}
