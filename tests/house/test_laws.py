"""The laws of the house: no circle, no arrow upward, nothing of `app` but what is written down, no retired name."""

import ast
import re

import pytest

from tests.house import names, taken_of_app
from tests.house.imports import REPOSITORY, Graph, Module, all_modules, circles, graph_of
from tests.house.rooms import arrows_that_run_upward, floors, room_of, rooms_of


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(all_modules())


def test_no_modules_import_each_other_in_a_circle(graph):
    assert circles(graph) == []


def test_no_rooms_of_the_engine_import_each_other_in_a_circle(graph):
    assert circles(rooms_of(graph)) == []


def test_every_room_of_the_engine_stands_on_one_floor(graph):
    standing = [room for floor in floors() for room in floor]

    assert sorted(standing) == sorted(rooms_of(graph))


def test_no_arrow_between_rooms_runs_upward(graph):
    assert arrows_that_run_upward(graph, floors()) == []


def test_the_engine_takes_of_app_what_is_written_down_and_no_more(graph):
    assert set(taken_of_app.taken(graph)) == taken_of_app.allowed()


def test_the_agent_is_a_package_of_its_own(graph):
    agents = {name for name in graph if name.partition(".")[0] == "pare_agent"}

    assert agents
    assert set().union(*(graph[name] for name in agents)) <= agents
    assert not [name for name in graph if name not in agents and graph[name] & agents]


@pytest.mark.parametrize(("retired", "now"), names.RETIRED.items())
def test_no_retired_name_is_used(retired, now):
    assert names.uses(retired) == [], f"it is called {now}"


def test_variables_say_their_type():
    assert names.untyped() == []


@pytest.mark.parametrize("file", sorted((REPOSITORY / "app" / "spec").rglob("*.py")), ids=lambda file: file.stem)
def test_values_of_the_contract_are_identifiers_and_not_sentences(file):
    literals = [node for node in ast.walk(ast.parse(file.read_bytes())) if is_literal(node)]
    values = [entry.value for node in literals for entry in ast.walk(node.slice) if isinstance(entry, ast.Constant)]

    assert [value for value in values if isinstance(value, str) and not re.fullmatch(r"[\w.-]+", value)] == []


def is_literal(node):
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal"


def test_late_and_relative_imports_are_counted(tmp_path):
    package = tmp_path / "app" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "app" / "top.py").write_text("def late():\n    from app.inner.first import a\n")
    (package / "first.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .second import b\n"
    )
    (package / "second.py").write_text("from ..top import late\nimport app.inner.third\n")
    (package / "third.py").write_text("import json\n")

    graph = graph_of(all_modules(tmp_path))

    assert graph == {
        "app.top": {"app.inner.first"},
        "app.inner.first": {"app.inner.second"},
        "app.inner.second": {"app.top", "app.inner.third"},
        "app.inner.third": set(),
    }
    assert circles(graph) == [["app.inner.first", "app.inner.second", "app.top"]]


def test_a_package_is_imported_by_its_own_name(tmp_path):
    init = tmp_path / "pare_agent" / "__init__.py"
    init.parent.mkdir()
    init.write_text("from .lease import Lease\n")

    assert Module.read(init, tmp_path).name == "pare_agent"
    assert Module.read(init, tmp_path).imports == {"pare_agent.lease.Lease"}


def test_an_arrow_upward_or_between_neighbours_is_found():
    graph = {
        "worker.engine.low.a": frozenset({"worker.engine.high"}),
        "worker.engine.high": frozenset({"worker.engine.low.a", "worker.engine.beside.b"}),
        "worker.engine.beside.b": frozenset({"worker.runtime.other"}),
    }

    upward = arrows_that_run_upward(graph, [("high", "beside"), ("low",)])

    assert upward == [
        ("worker.engine.high", "worker.engine.beside.b"),
        ("worker.engine.low.a", "worker.engine.high"),
    ]


def test_a_room_is_a_folder_or_a_file_in_the_engine():
    assert [room_of(name) for name in ("worker.engine.data.rows", "worker.engine.job", "worker.runtime.child")] == [
        "data",
        "job",
        None,
    ]


def test_a_reader_of_app_that_is_not_written_down_is_found():
    graph = {"worker.engine.job": frozenset({"app.spec.job", "app.admission.zip", "app.errors"})}

    assert list(taken_of_app.taken(graph)) == [("worker.engine.job", "app.admission.zip")]
