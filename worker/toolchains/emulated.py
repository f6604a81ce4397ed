"""Runs on the emulated CPU: `python emulated.py SITE ORDER`, in a folder with the files that ORDER (JSON) names.

It loads the artifact, runs it a few times on few rows, between two marks for the plugin that counts instructions, and
then on all rows. An illegal instruction is told on standard error before the process ends: "illegal 4f82e020".
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = 0x70617265
"""What the plugin waits for."""
ILLEGAL = "illegal "
LONGEST_INSTRUCTION = 15
FATAL = (signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGALRM)
"""glibc's abort() ends in SIGTRAP on ARM where it may not send a signal, and in SIGSEGV on x86."""
LEAVE = "_exit"
"""The C library's function, which as a handler is given the signal's number."""
SA_SIGINFO = 4
SI_ADDR = 16
"""Offset of the faulting address in siginfo_t, on 64-bit Linux."""

Arrays = dict[str, Any]


def main(site: str, order: str) -> None:
    """Run the artifact as the order says, and write outputs and counts beside it."""
    sys.path.insert(0, site)
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    exit_by_signals()
    asked = json.loads(Path(order).read_text(encoding="utf-8"))
    artifact = asked["artifact"]
    model = tflite(artifact) if artifact.endswith(".tflite") else Onnx(artifact)
    once = model.bind(arrays(asked["few"]))
    once()  # what happens only once, such as packing of weights, is no cost of a run
    mark()
    for _ in range(asked["runs"]):
        once()
    mark()
    for feeds, into in zip(asked["feeds"], asked["into"], strict=True):
        save(into, model(arrays(feeds)))


def tflite(path: str) -> Any:
    """LiteRT and XNNPACK, as the `litert` toolchain uses them."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    return importlib.import_module("toolchains.litert").Opened(Path(path), 1)


class Onnx:
    """ONNX Runtime, configured as `worker.engine.onnx_graph.sessions` does it."""

    def __init__(self, path: str) -> None:
        """Load an ONNX file for one thread."""
        import onnxruntime as ort

        ort.set_default_logger_severity(3)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]

    def __call__(self, feeds: Arrays) -> Arrays:
        """Outputs by name, for the rows of `feeds`."""
        values = self._session.run(self._outputs, {name: feeds[name] for name in self._inputs})
        return dict(zip(self._outputs, values, strict=True))

    def bind(self, feeds: Arrays) -> Callable[[], object]:
        """A run on inputs that were handed over once, as the engine times it."""
        binding = self._session.io_binding()
        for name in self._inputs:
            binding.bind_cpu_input(name, feeds[name])
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        return lambda: self._session.run_with_iobinding(binding)


def mark() -> None:
    """Have the instructions counted up to here; without the plugin, nothing."""
    with contextlib.suppress(OSError):
        os.close(MARK)


def arrays(name: str) -> Arrays:
    """The arrays of an `.npz` file."""
    import numpy as np

    with np.load(name, allow_pickle=False) as file:
        return {key: np.ascontiguousarray(file[key]) for key in file.files}


def save(name: str, outputs: Arrays) -> None:
    """Write arrays as an `.npz` file, which is whole when it is there."""
    import numpy as np

    part = Path(f"{name}.part")
    with part.open("wb") as file:
        np.savez(file, **outputs)
    part.replace(name)


def _tell_illegal(number: int, info: int, _: int) -> None:
    address = ctypes.c_size_t.from_address(info + SI_ADDR).value
    os.write(2, f"\n{ILLEGAL}{ctypes.string_at(address, LONGEST_INSTRUCTION).hex()}\n".encode())
    os._exit(number)


_illegal = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(_tell_illegal)


class _Action(ctypes.Structure):
    """struct sigaction of the C library, the same on x86-64 and aarch64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_byte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def exit_by_signals() -> None:
    """A fatal signal ends the program with its number as the status, and SIGILL tells the instruction before.

    QEMU would end itself by a signal, which the jail forbids it to send, and wait forever.
    """
    libc = ctypes.CDLL(None)
    leave = ctypes.cast(getattr(libc, LEAVE), ctypes.c_void_p).value
    for number in FATAL:
        handler = ctypes.cast(_illegal, ctypes.c_void_p).value if number == signal.SIGILL else leave
        action = _Action(handler, (ctypes.c_byte * 128)(), SA_SIGINFO, None)
        libc.sigaction(number, ctypes.byref(action), None)


if __name__ == "__main__":
    main(*sys.argv[1:])
