"""What a worker's answers about runtimes rest on: digests of what is installed, by toolchain."""

import hashlib
from importlib.metadata import version

from app import __version__
from app.spec.compatibility import OWN
from worker.engine.toolchains.environments import Environments, digest

PACKAGES = ("torch", "onnx", "onnxruntime")
"""Of the worker's own environment: whose registries are asked."""


def fingerprints_of(environments: Environments) -> dict[str, str]:
    """By name of a toolchain that is installed, and `OWN` for the worker itself: what changes when that does."""
    own = " ".join((__version__, *(version(package) for package in PACKAGES)))
    toolchains: dict[str, str] = {name: f"{__version__}-{digest(name)[:16]}" for name in environments.names()}
    return {OWN: hashlib.sha256(own.encode()).hexdigest()[:16], **toolchains}
