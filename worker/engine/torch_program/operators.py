"""What the operators of an exported graph and their parameters are called."""

from collections.abc import Sequence
from typing import Any

from torch import fx


def operator_name(node: fx.Node) -> str:
    """ATen's operators by their plain name, whether they work in place or not ("add"); others with their namespace."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    namespace, _, name = schema.name.partition("::")
    base = name if name.startswith("_") else name.rstrip("_")
    return base if namespace == "aten" else f"{namespace}::{base}"


def parameters_of(node: fx.Node) -> Sequence[Any]:
    """The parameters in the schema of the operator that a node calls, in order: each has a name and a default."""
    arguments: Sequence[Any] = node.target._schema.arguments  # type: ignore[union-attr]  # noqa: SLF001  # the only way
    return arguments
