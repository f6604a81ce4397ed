"""What the device is: the facts that a poll carries."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pare_agent import __version__

RUNTIMES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "litert": ("ai-edge-litert",),
}
"""By the service's names: the distributions that bring each."""
ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0d": "Cortex-A77",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd4b": "Cortex-A78C",
}
"""ARM's part numbers, which its kernels give in place of a name (Main ID Register of each core's reference manual)."""
LONGEST = 200


def facts(root: Path = Path("/")) -> dict[str, Any]:
    """Describe this device; `root` is where its `/proc` is found."""
    fields = _cpuinfo(root)
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return {
        "cpu": _cpu(root, fields)[:LONGEST],
        "arch": platform.machine(),
        "cpu_flags": sorted(set(flags))[:300],
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()}"[:LONGEST],
        "runtimes": runtimes(),
        "python": platform.python_version(),
        "version": __version__,
    }


def runtimes() -> dict[str, str]:
    """The installed runtimes with their versions; none is imported, which would take seconds and memory."""
    versions = {}
    for runtime, distributions in RUNTIMES.items():
        for name in distributions:
            try:
                versions[runtime] = version(name)
                break
            except PackageNotFoundError:
                continue
    return versions


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu(root: Path, fields: dict[str, str]) -> str:
    """The board's own name where there is one (Raspberry Pi, Jetson): it says more than the processor's."""
    try:
        model = (root / "proc/device-tree/model").read_text(encoding="utf-8", errors="replace")
    except OSError:
        model = ""
    part = ARM_PARTS.get(fields.get("CPU part", "")) if fields.get("CPU implementer") == "0x41" else None
    return model.strip("\0 \n") or fields.get("model name") or fields.get("Hardware") or part or platform.machine()


def _cpuinfo(root: Path) -> dict[str, str]:
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields
