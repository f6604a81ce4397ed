"""Dockerfile, .dockerignore and the metadata the images are built from, as far as they can be read."""

import json
import re
import tomllib

import pytest

from tests.support.root import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
TENSOR_LIBRARIES = {"torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "scikit-learn"}


def stages() -> dict[str, list[str]]:
    """Instructions of each build stage."""
    made: dict[str, list[str]] = {}
    name = ""
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if started := re.match(r"FROM (\S+) AS (\S+)", line):
            name = started[2]
            made[name] = [f"FROM {started[1]}"]
        elif name and line and not line.startswith("#"):
            made[name].append(line)
    return made


def distribution(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_the_api_image_installs_no_tensor_library() -> None:
    installed = "\n".join(stages()["api-build"] + stages()["api"])
    assert "[worker]" not in installed
    assert "torch" not in installed
    assert not TENSOR_LIBRARIES & {distribution(requirement) for requirement in PROJECT["dependencies"]}


def test_the_worker_image_installs_torch_before_anything_could_choose_another() -> None:
    pips = [line for line in stages()["worker-build"] if "pip install" in line]
    assert "torch==" in pips[0]
    assert "'.[worker]'" in pips[1]


@pytest.mark.parametrize("target", ["api", "worker", "demo"])
def test_images_end_as_a_user_without_rights_and_start_in_exec_form(target: str) -> None:
    built = stages()
    lines = list(built[target])
    while (parent := lines[0].removeprefix("FROM ")) in built:
        lines[:1] = built[parent]
    assert [line for line in lines if line.startswith("USER")][-1] == "USER pare"
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    command = [line for line in lines if line.startswith("CMD")][-1]
    assert json.loads(command.removeprefix("CMD "))[0] == "python"


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    ignored, *kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored == "*"
    allowed = {line[1:] for line in kept if line.startswith("!")}
    copies = [line.split()[1:-1] for lines in stages().values() for line in lines if line.startswith("COPY ")]
    copied = {source for sources in copies if not sources[0].startswith("--from") for source in sources}
    assert {source if source in allowed else source.partition("/")[0] for source in copied} == allowed


def test_every_direct_dependency_is_pinned() -> None:
    extras = PROJECT["optional-dependencies"].values()
    wanted = {distribution(requirement) for part in (PROJECT["dependencies"], *extras) for requirement in part}
    pinned = {distribution(line) for line in CONSTRAINTS.splitlines() if "==" in line}
    assert wanted - {"pare"} <= pinned


def test_pins_hold_for_every_build_of_torch() -> None:
    lines = [line for line in CONSTRAINTS.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert not [line for line in lines if re.match("(?i)nvidia|cuda|triton", line)]


def test_torch_has_one_pin() -> None:
    torch = next(line for line in CONSTRAINTS.splitlines() if line.startswith("torch=="))
    assert torch in PROJECT["optional-dependencies"]["worker"]
