"""Pieces of the OpenAPI document that FastAPI cannot read from signatures."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.api.problems import MEDIA_TYPE, Problem
from app.spec.architecture import NamedWeights
from app.spec.metrics import TOP1

REF = "#/components/schemas/{model}"

BINARY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
MODEL_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **BINARY_BODY["requestBody"]["content"],
            "application/json": {"schema": {"$ref": REF.format(model="NamedWeights")}},
        },
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
    "evaluate": {"limits": {"max_drop": {TOP1.name: 0.01}}, "latency": {"batch": [1, 16]}},
}


def document(app: FastAPI) -> dict[str, Any]:
    """Make the OpenAPI document: FastAPI's, with every error described as the problem document it is."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = made["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= models_json_schema([(Problem, "serialization")], ref_template=REF)[1]["$defs"]
    named = models_json_schema([(NamedWeights, "validation")], ref_template=REF)[1]["$defs"]
    schemas |= {name: schema for name, schema in named.items() if name not in schemas}
    problem = {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}}
    for methods in made["paths"].values():
        for operation in methods.values():
            responses = operation["responses"]
            for status, response in responses.items():
                if status.startswith(("4", "5")) and not _is_our_own(response):
                    response["content"] = problem
            responses["default"] = {"description": "Any other error, in the same form.", "content": problem}
    app.openapi_schema = made
    return made


def _is_our_own(response: dict[str, Any]) -> bool:
    # /readyz answers 503 with its checks, not with a problem.
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return "$ref" in schema and not schema["$ref"].endswith(("/Problem", "/HTTPValidationError"))
