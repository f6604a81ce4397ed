"""The contract: a job as frozen pydantic models. API bodies, OpenAPI and the worker's payload come from here."""
