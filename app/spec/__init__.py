"""The contract between clients, service and worker, not tests: frozen pydantic models of whatever they exchange.

API bodies, OpenAPI, the worker's orders and reports, and the command line all come from here.
"""
