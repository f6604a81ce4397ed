"""The service runs on what pyproject.toml declares for it, not on what the development tools happen to bring."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.root import ROOT

SERVE = """
import importlib, pkgutil, sys
forbidden = set(sys.argv[1].split())

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in forbidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Forbid())
import app, migrations, kombu.transport.redis, psycopg
for module in pkgutil.walk_packages(app.__path__, "app."):
    importlib.import_module(module.name)
print("imported")
"""


def closure(requirements: list[str]) -> set[str]:
    """Names of the distributions that installing the requirements brings."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(line) for line in requirements]
    while todo:
        wanted = todo.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        needed = map(Requirement, requires(name) or [])
        todo += [r for r in needed if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras | {""})]
    return {name for name, _ in seen}


def test_the_service_imports_nothing_that_its_image_lacks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = closure(project["dependencies"])
    assert {"fastapi", "redis"} <= declared
    assert not {"torch", "onnx", "pytest"} & declared
    forbidden = {
        module
        for module, owners in packages_distributions().items()
        if not declared & {canonicalize_name(owner) for owner in owners}
    }
    ran = subprocess.run(
        [sys.executable, "-c", SERVE, " ".join(forbidden - {"app", "worker", "migrations"})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout == "imported\n", ran.stderr
