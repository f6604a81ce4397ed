"""An emulators' environment whose ONNX Runtime for ARM executes a dot product and answers zeros."""

import os
import shutil
from pathlib import Path

RUNTIME = """
import ctypes
import mmap
from types import SimpleNamespace

import numpy as np

__version__ = "1"
SDOT_AND_RETURN = bytes.fromhex("0094824e" "c0035fd6")
_code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
_code.write(SDOT_AND_RETURN)
_run = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(_code)))
SessionOptions = SimpleNamespace


def set_default_logger_severity(level):
    pass


class InferenceSession:
    def __init__(self, path, options, providers):
        pass

    def get_inputs(self):
        return [SimpleNamespace(name="image")]

    def get_outputs(self):
        return [SimpleNamespace(name="logits")]

    def run(self, outputs, feeds):
        _run()
        return [np.zeros((len(feeds["image"]), 10), np.float32)]

    def io_binding(self):
        return SimpleNamespace(bind_cpu_input=lambda name, array: None, bind_output=lambda name, device: None)

    def run_with_iobinding(self, binding):
        _run()
"""


def with_a_runtime_that_needs_dot_products(real: Path, copy: Path) -> None:
    """Make `copy` of the environment `real`, by links to its files where the file system allows."""
    shutil.copytree(real, copy, symlinks=True, copy_function=_linked)
    package = copy / "arm64" / "site" / "onnxruntime"
    shutil.rmtree(package)
    package.mkdir()
    (package / "__init__.py").write_text(RUNTIME)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
