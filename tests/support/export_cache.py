"""Models that tests export, kept below `.pytest_cache`: an export takes seconds, and many tests want the same one.

The key is all that an export depends on: the versions of the exporters, the sources of the network's classes and of the
function that exports it, weights, examples. Two processes that want the same export at the same time make it once.
"""

import fcntl
import hashlib
import inspect
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from tests.support.root import ROOT

CACHE = ROOT / ".pytest_cache" / "exports"
EXPORTERS = ("torch", "torchvision", "onnx", "onnxscript", "onnx-ir")
SETTINGS = (bool, int, float, str, tuple)
"""Attributes of a module that its forward may read."""


def cached(key: str, make: Callable[[Path], object]) -> Path:
    """Return the folder that `make` filled for this key, now or in an earlier run; copy what may be changed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kept, fresh = CACHE / key, CACHE / f"{key}.fresh"
    with _alone(CACHE / f"{key}.lock"):
        if not kept.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            make(fresh)
            fresh.rename(kept)
    return kept


def key_of(*parts: object) -> str:
    """Return a key: functions count by their sources, modules by their files, networks by all that is in them."""
    digest = hashlib.sha256()
    for part in (sys.version, *map(version, EXPORTERS), *parts):
        for piece in _pieces(part):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(part: object) -> Iterator[bytes]:
    if isinstance(part, nn.Module):
        yield from _network(part)
    elif isinstance(part, torch.Tensor):
        yield f"{part.dtype} {tuple(part.shape)}".encode()
        yield part.detach().contiguous().numpy().tobytes()
    else:
        yield (inspect.getsource(part) if callable(part) or inspect.ismodule(part) else repr(part)).encode()


def _network(network: nn.Module) -> Iterator[bytes]:
    """Structure, settings, the sources of classes that are not torch's own, and weights."""
    yield repr(network).encode()
    for module in network.modules():
        kind = type(module)
        yield repr({name: value for name, value in vars(module).items() if isinstance(value, SETTINGS)}).encode()
        if not kind.__module__.startswith(("torch.", "torchvision.")):
            yield inspect.getsource(kind).encode()
    for name, tensor in network.state_dict().items():
        yield name.encode()
        yield from _pieces(tensor)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
