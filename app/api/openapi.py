"""Pieces of the OpenAPI document that FastAPI cannot read from signatures."""

from typing import Any

BINARY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
BINARY_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {
        "description": "The range asked for.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "The file is the one the client has."},
    307: {"description": "Fetch it from the storage server."},
    416: {"description": "`request.range_not_satisfiable`"},
}
EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
REPORT_FORMS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}, "text/markdown": {}}}}
JOB_EXAMPLE: dict[str, Any] = {
    "name": "edge build 12",
    "labels": {"team": "edge"},
    "model": "mdl_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f",
    "data": {
        "calibration": "ds_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f",
        "test": "ds_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f",
    },
    "steps": [{"type": "quantize.static", "observer": "percentile"}],
    "targets": [{"format": "onnx", "profile": "x86"}],
    "evaluate": {"limits": {"max_drop": {"top1": 0.01}}, "latency": {"batch": [1, 16]}},
}
