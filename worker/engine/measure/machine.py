"""Where figures are taken: the parts of a machine that decide how fast a model runs on it."""

import ctypes
import ctypes.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from app.spec.report import Machine

RELEVANT_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "amx_tile",
    "asimd",
    "asimddp",
    "asimdhp",
    "fphp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "sme",
)
"""The instruction sets that ONNX Runtime's kernels are chosen by, as Linux spells them."""
DARWIN_FLAGS = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512vnni": "avx512_vnni",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
}
PACKAGES = ("onnxruntime", "onnx", "torch", "numpy")
SYSINFO_LOAD_SCALE = 1 << 16


def describe_machine() -> Machine:
    """This machine: CPU, the flags that matter, the cores this process may use, memory, versions."""
    cpu, flags = _darwin_cpu() if platform.system() == "Darwin" else _linux_cpu(Path("/proc/cpuinfo"))
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        cpu_flags=tuple(flag for flag in RELEVANT_FLAGS if flag in flags),
        cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions={"python": platform.python_version()} | _versions(),
    )


def usable_cores() -> int:
    """Cores this process may run on, which containers and task sets limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float:
    """The 1-minute load. The C library's `getloadavg` opens a file a jailed process may not see; `sysinfo` does not."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return _sysinfo_load()


def _sysinfo_load() -> float:
    words = (ctypes.c_ulong * 64)()  # struct sysinfo: uptime, then three loads as fixed point numbers
    if ctypes.CDLL(None).sysinfo(words) != 0:
        return 0.0
    return int(words[1]) / SYSINFO_LOAD_SCALE


def _memory_bytes() -> int:
    try:
        return psutil.virtual_memory().total
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _linux_cpu(cpuinfo: Path) -> tuple[str, frozenset[str]]:
    """Model name and flags of the first CPU; ARM kernels write `Features` and often no model name."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", frozenset()
    fields: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or fields.get("Hardware") or _arm_name(fields)
    return name, frozenset((fields.get("flags") or fields.get("Features") or "").split())


def _arm_name(fields: dict[str, str]) -> str:
    if "CPU part" not in fields:
        return ""
    return f"{platform.machine()} implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"


def _darwin_cpu() -> tuple[str, frozenset[str]]:
    flags = {flag for key, flag in DARWIN_FLAGS.items() if int.from_bytes(_sysctl(key), "little")}
    return _sysctl("machdep.cpu.brand_string").rstrip(b"\0").decode(errors="replace"), frozenset(flags)


def _sysctl(key: str) -> bytes:
    """The raw value of a sysctl, empty where the system has none of that name."""
    library = ctypes.CDLL(None)
    length = ctypes.c_size_t(256)
    buffer = ctypes.create_string_buffer(256)
    failed = library.sysctlbyname(key.encode(), buffer, ctypes.byref(length), None, ctypes.c_size_t(0))
    return b"" if failed else buffer.raw[: length.value]
