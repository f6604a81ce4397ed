"""What the integer kernels of each place want. The plan is the same for all of them."""

from dataclasses import dataclass, field
from typing import Any

from onnxruntime.quantization import QuantType

from app.spec.targets import OnnxProfile


@dataclass(frozen=True)
class Profile:
    """How a plan becomes QuantizeLinear and DequantizeLinear nodes."""

    activations: QuantType
    weights: QuantType = QuantType.QInt8
    reduce_range: bool = False
    """7-bit weights."""
    symmetric_activations: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of ONNX Runtime's quantizer."""
    operators: frozenset[str] | None = None
    """The only operators to quantize; None: all that the plan names."""


WEIGHTED = ["Conv", "ConvTranspose", "Gemm", "MatMul"]

PROFILES: dict[OnnxProfile, Profile] = {
    # Unsigned activations times signed weights is what VPDPBUSD multiplies; every other pairing runs in float kernels
    # on x86 or is shifted first (measured: u8s8 900-1300 GOPS a core, s8s8 through ONNX Runtime 16).
    "x86": Profile(QuantType.QUInt8),
    # Without VNNI, VPMADDUBSW adds two u8s8 products into 16 bits and saturates: 255 * 127 * 2 > 32767. With 7-bit
    # weights the sum fits; the same model went from .94 to .99 top-1 under an emulated Haswell.
    "x86-legacy": Profile(QuantType.QUInt8, reduce_range=True),
    # SDOT multiplies signed by signed. Activations keep a zero-point: it costs these kernels one addition for each
    # output, and a ReLU's output uses all 256 codes instead of half of them.
    "arm": Profile(QuantType.QInt8),
    # Explicit quantization in TensorRT: signed, zero-points 0, biases in float. A Q/DQ pair for each reader, and none
    # behind a weighted operator, so that it fuses with the activation and the addition that follow it.
    "tensorrt": Profile(
        QuantType.QInt8,
        symmetric_activations=True,
        options={
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "DedicatedQDQPair": True,
            "OpTypesToExcludeOutputQuantization": WEIGHTED,
            "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
        },
        operators=frozenset(WEIGHTED),
    ),
}
