"""Names the extension that an instruction belongs to: those that kernels of neural networks choose by.

Sources: Arm Architecture Reference Manual, C4 "A64 instruction set encoding"; Intel SDM volume 2, chapter 2.
"""

from .emulated_cpus import Machine

A64 = {
    "asimddp": [(0x9FE0FC00, 0x0E809400), (0x9FC0F400, 0x0F80E000)],
    "i8mm": [(0xFFE0F400, 0x4E80A400), (0xFFE0FC00, 0x6E80A400), (0xBFE0FC00, 0x0E809C00), (0xBF40F400, 0x0F00F000)],
    "bf16": [(0xBF60FC00, 0x2E40FC00), (0xFFE0FC00, 0x6E40EC00), (0xBFFFFC00, 0x0EA16800), (0xBF40F400, 0x0F40F000)],
    "fphp": [(0xFFE00000, 0x1EE00000)],
    "asimdhp": [(0x9F60C400, 0x0E400400), (0x9F7E0C00, 0x0E780800), (0xBFC07400, 0x0F001000)],
    "atomics": [(0x3F200C00, 0x38200000), (0x3FA07C00, 0x08A07C00)],
    "sve": [(0x1E000000, 0x04000000)],
}
"""Masks and values of instruction words."""

EVEX = 0x62
VEX3 = 0xC4
MAP_0F38 = 2
VNNI_CODES = range(0x50, 0x54)
"""VPDPBUSD, VPDPBUSDS, VPDPWSSD, VPDPWSSDS."""


def feature_of(code: bytes, machine: Machine) -> str | None:
    """The extension, as /proc/cpuinfo or its kernel's documentation spells it; None if it is none of those here."""
    if machine == "arm64":
        word = int.from_bytes(code[:4], "little")
        named = (name for name, forms in A64.items() if any(word & mask == value for mask, value in forms))
        return next(named, None)
    if code[:1] == bytes([EVEX]):
        vnni = code[1] & 7 == MAP_0F38 and code[4] in VNNI_CODES
        return "avx512_vnni" if vnni else "avx512f"
    if code[:1] == bytes([VEX3]) and code[1] & 31 == MAP_0F38 and code[3] in VNNI_CODES:
        return "avx_vnni"
    return None
