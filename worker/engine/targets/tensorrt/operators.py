"""Which ONNX operators TensorRT reads, since which release, and of which types: the table that NVIDIA keeps."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from onnx import TensorProto

Version = tuple[int, int]

TYPES: dict[str, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int4": TensorProto.INT4,
    "float8e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float4e2m1": TensorProto.FLOAT4E2M1,
}


@dataclass(frozen=True)
class Operator:
    """One operator of the default domain."""

    types: frozenset[int]
    """Of its first input, as ONNX numbers them."""
    since: Version
    """The first release of TensorRT 10 known to read it; (10, 0) for older ones, too."""


@dataclass(frozen=True)
class Table:
    """One reading of the operator list."""

    version: str
    """The release whose list it is."""
    source: str
    operators: dict[str, Operator]


@cache
def table() -> Table:
    """The list in `operators.json`."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("operators.json").read_text(encoding="utf-8"))
    types = {group: frozenset(TYPES[name] for name in names) for group, names in content["types"].items()}
    operators = {
        name: Operator(types[entry["types"]], parsed(entry.get("since", "10.0")))
        for name, entry in content["operators"].items()
    }
    return Table(content["version"], content["source"], operators)


def parsed(version: str) -> Version:
    """A release as numbers that can be compared: (10, 4) for "10.4"."""
    major, minor = version.split(".")
    return int(major), int(minor)
