"""The laws of the tests' own layout: what they share, what they mirror, what they import."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.imports import REPOSITORY, Module

TESTS = REPOSITORY / "tests"
MIRRORED = ("app", "worker")


def modules_below(*folders: str) -> Iterator[Module]:
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield Module.read(path, REPOSITORY)


def is_test_module(name: str) -> bool:
    """Whether the dotted name is of a test file or a conftest, or of something in one."""
    return name.startswith("tests.") and any(part.startswith("test_") or part == "conftest" for part in name.split("."))


def room(name: str) -> str:
    """`tests.house` of `tests.house.imports.circles`."""
    return ".".join(name.split(".")[:2])


def test_what_tests_share_is_in_support() -> None:
    """No test imports another; a folder's own modules may be imported within the folder."""
    wrong = [
        f"{module.path.relative_to(REPOSITORY)}: {imported}"
        for module in modules_below("tests", "bench")
        for imported in sorted(module.imports)
        if is_test_module(imported)
        or (imported.startswith("tests.") and room(imported) not in ("tests.support", room(module.name)))
    ]

    assert wrong == []


def test_the_bench_and_the_tests_are_apart() -> None:
    """Only tests/bench imports the bench, as it tests it; of the tests, the bench takes only what lies in support."""
    wrong = [
        f"{module.path.relative_to(REPOSITORY)}: {imported}"
        for module in modules_below("tests", "bench")
        for imported in sorted(module.imports)
        if (imported.startswith("bench.") and not module.name.startswith(("bench", "tests.bench")))
        or (module.name.startswith("bench") and imported.startswith("tests.") and room(imported) != "tests.support")
    ]

    assert wrong == []


def test_every_folder_of_tests_has_a_test() -> None:
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("*.py")}
    empty = [
        str(folder)
        for folder in sorted(folders)
        if not folder.is_relative_to("support") and not any((TESTS / folder).rglob("test_*.py"))
    ]

    assert empty == []


@pytest.mark.parametrize("package", MIRRORED)
def test_tests_mirror_the_sources(package: str) -> None:
    """The tests of `worker/engine/plan/` are in `tests/worker/engine/plan/`."""
    folders = {file.parent.relative_to(TESTS) for file in (TESTS / package).rglob("test_*.py")}

    assert [str(folder) for folder in sorted(folders) if not mirrored(folder)] == []


def mirrored(folder: Path) -> bool:
    return (REPOSITORY / folder).is_dir() or (REPOSITORY / folder).with_suffix(".py").is_file()
