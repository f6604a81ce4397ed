"""Extensions of instruction sets are recognised by the bytes that assemblers write."""

import pytest

from worker.toolchains.emulated_cpus import Machine
from worker.toolchains.instructions import feature_of

A64 = [
    (0x4E829400, "asimddp", "sdot v0.4s, v0.16b, v2.16b"),
    (0x6F81E841, "asimddp", "udot v1.4s, v2.16b, v1.4b[2]"),
    (0x4E82A420, "i8mm", "smmla v0.4s, v1.16b, v2.16b"),
    (0x4E829C20, "i8mm", "usdot v0.4s, v1.16b, v2.16b"),
    (0x6E42EC20, "bf16", "bfmmla v0.4s, v1.8h, v2.8h"),
    (0x0EA16820, "bf16", "bfcvtn v0.4h, v1.4s"),
    (0x1EE22820, "fphp", "fadd h0, h1, h2"),
    (0x4E420C20, "asimdhp", "fmla v0.8h, v1.8h, v2.8h"),
    (0xB8E10002, "atomics", "ldaddal w1, w2, [x0]"),
    (0x04A00020, "sve", "add z0.s, z1.s, z0.s"),
    (0x4E22D420, None, "fadd v0.4s, v1.4s, v2.4s"),
    (0x4EA29420, None, "mla v0.4s, v1.4s, v2.4s"),
    (0xD65F03C0, None, "ret"),
]
X86 = [
    ("62f2754850c2", "avx512_vnni", "vpdpbusd zmm0, zmm1, zmm2"),
    ("62f17448 58c2".replace(" ", ""), "avx512f", "vaddps zmm0, zmm1, zmm2"),
    ("c4e27550c2", "avx_vnni", "{vex} vpdpbusd ymm0, ymm1, ymm2"),
    ("c5f458c2", None, "vaddps ymm0, ymm1, ymm2"),
]


@pytest.mark.parametrize(("word", "feature", "assembler"), A64, ids=[assembler for *_, assembler in A64])
def test_a64(word: int, feature: str | None, assembler: str) -> None:
    assert feature_of(word.to_bytes(4, "little"), "arm64") == feature, assembler


@pytest.mark.parametrize(("code", "feature", "assembler"), X86, ids=[assembler for *_, assembler in X86])
def test_x86(code: str, feature: str | None, assembler: str) -> None:
    machine: Machine = "amd64"
    assert feature_of(bytes.fromhex(code), machine) == feature, assembler
