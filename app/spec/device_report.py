"""What became of an artifact on one device: a cell of the device matrix."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.spec.base import Frozen, renamed
from app.spec.devices import Device, Provenance
from app.spec.failure import Failure
from app.spec.figures import Distribution, MetricChange

NetworkFamily = Annotated[
    Literal["convolutional", "depthwise", "convolutional_int8", "depthwise_int8"],
    renamed({"convolutional, int8": "convolutional_int8", "depthwise, int8": "depthwise_int8"}),
]
"""Networks alike enough to share a rate: plain convolutions or depthwise ones, in floats or in 8-bit integers."""


class DeviceFacts(Frozen):
    """The machine that ran it, as far as it told."""

    cpu: str = ""
    cpu_flags: tuple[str, ...] = ()
    cores: int | None = None
    memory_bytes: int | None = None
    system: str = ""
    governor: str | None = Field(None, description="What sets the CPU's clock (Linux cpufreq); None: it is not told.")
    load_average: tuple[float, float] | None = Field(None, description="1-minute load at the start and the end.")
    versions: dict[str, str] = Field(default_factory=dict)


class Estimate(Frozen):
    """A latency computed from published ones, with what such computations missed by on published networks."""

    p50_ms: float = Field(gt=0)
    low_ms: float = Field(gt=0, description="The estimate, if it is too long by `range_error`.")
    high_ms: float = Field(gt=0, description="The estimate, if it is too short by `range_error`.")
    family: NetworkFamily = Field(description="The kind of network whose published latencies were fitted.")
    networks: tuple[str, ...] = Field(min_length=2, description="Of the fit; each was also estimated from the others.")
    median_error: float = Field(ge=0, description="Of those held out, as a share: 0.2 is a fifth too long or short.")
    worst_error: float = Field(ge=0)
    range_error: float = Field(ge=0, description="The worst error, or more where the networks are few.")
    bound: Literal["compute", "memory", "overhead"] = Field(description="What takes most of the time there.")
    runtime: str = Field(description="Whose latencies were published; other runtimes are faster or slower.")
    source: str = Field(description="Where they stand.")
    retrieved: str


class DeviceRun(Frozen):
    """One artifact on one device: figures, or a failure. What a device cannot tell is None, or empty."""

    device: Device
    provenance: Provenance
    runtime: str = Field("", description="What ran it there, with its version.")
    size_bytes: int | None = Field(None, description="Of the files that the device loads.")
    threads: int | None = None
    batch: int | None = Field(None, description="Of the latency or estimate.")
    latency: Distribution | None = Field(None, description="Measured on the device itself, never on an imitation.")
    estimate: Estimate | None = None
    metrics: tuple[MetricChange, ...] = Field((), description="Of the original, and of the artifact on the device.")
    rows: int = Field(0, description="Rows that the device answered.")
    agreement: float | None = Field(None, description="Share of rows answered as the artifact does on the worker.")
    agreement_original: float | None = Field(None, description="Share of rows answered as the original does.")
    bit_exact: bool | None = Field(None, description="Whether every output equals the worker's in every bit.")
    illegal_instruction: bool | None = Field(None, description="Whether the CPU lacked an instruction it was given.")
    relative_instructions: float | None = Field(
        None, gt=0, description="Instructions executed for one row, as a share of those of the original in float32."
    )
    fallback: dict[str, int] | None = Field(
        None, description="Operators left to slower kernels: floating-point products of a quantized file, say."
    )
    load_ms: float | None = None
    peak_memory_bytes: int | None = None
    temperature_c: float | None = Field(None, description="The highest while it ran.")
    throttled: bool | None = Field(None, description="Whether heat or power lowered the clock while it ran.")
    power_w: float | None = Field(None, description="Mean while it ran.")
    facts: DeviceFacts = DeviceFacts()
    notes: tuple[str, ...] = Field((), description="What was not measured, and why.")
    failure: Failure | None = Field(None, description="Why it has no figures; other devices are not affected.")

    @model_validator(mode="after")
    def _times_are_what_they_are_called(self) -> "DeviceRun":
        if self.latency is not None and self.provenance != "measured":
            raise ValueError(f"a latency is measured, this device is {self.provenance}")
        if self.estimate is not None and self.provenance != "estimated":
            raise ValueError(f"an estimate is estimated, this device is {self.provenance}")
        return self
