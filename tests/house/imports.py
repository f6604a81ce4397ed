"""The graph of all imports of our packages, those inside functions and under `TYPE_CHECKING` included."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("app", "worker", "agent/pare_agent", "bench")
"""The folder of each package; the last part is the name that it is imported by."""

Graph = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Module:
    """A file by the name that it is imported by, and every dotted name that it imports."""

    name: str
    path: Path
    imports: frozenset[str]

    @classmethod
    def read(cls, path: Path, root: Path) -> "Module":
        """The module of the file at `path`, whose package lies in the folder `root`."""
        parts = path.relative_to(root).with_suffix("").parts
        package = parts[:-1]
        name = ".".join(package if parts[-1] == "__init__" else parts)
        return cls(name, path, frozenset(_imports(ast.parse(path.read_bytes()), package)))


def all_modules(repository: Path = REPOSITORY) -> dict[str, Module]:
    """Every module of ours by its name."""
    folders = [repository / folder for folder in PACKAGES]
    files = [(path, folder.parent) for folder in folders for path in sorted(folder.rglob("*.py"))]
    return {module.name: module for module in (Module.read(path, root) for path, root in files)}


def graph_of(modules: Mapping[str, Module]) -> dict[str, frozenset[str]]:
    """Which modules of ours each one imports.

    `from a.b import c` imports `a.b.c` if that is a module, and `a.b` otherwise.
    """
    return {
        name: frozenset(filter(None, (_nearest(imported, modules) for imported in module.imports))) - {name}
        for name, module in modules.items()
    }


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected groups of more than one node, each sorted (Kosaraju's two walks)."""
    finished: list[str] = []
    seen: set[str] = set()
    for node in graph:
        finished += _walk(node, graph, seen)
    importers: dict[str, set[str]] = {node: set() for node in graph}
    for node, imported in graph.items():
        for other in imported:
            importers[other].add(node)
    seen.clear()
    groups = [_walk(node, importers, seen) for node in reversed(finished)]
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _nearest(imported: str, modules: Mapping[str, Module]) -> str | None:
    if imported in modules:
        return imported
    parent = imported.rpartition(".")[0]
    return parent if parent in modules else None


def _walk(start: str, graph: Mapping[str, frozenset[str] | set[str]], seen: set[str]) -> list[str]:
    """The nodes that `start` reaches and that were not seen, each after those that it reaches."""
    if start in seen:
        return []
    seen.add(start)
    finished: list[str] = []
    path = [(start, iter(sorted(graph[start])))]
    while path:
        node, following = path[-1]
        if (other := next((other for other in following if other not in seen), None)) is not None:
            seen.add(other)
            path.append((other, iter(sorted(graph[other]))))
        else:
            path.pop()
            finished.append(node)
    return finished
