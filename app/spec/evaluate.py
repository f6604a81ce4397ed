"""What is measured, and what must hold."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from app.spec.base import Frozen
from app.spec.devices import Device
from app.spec.metrics import DEFAULT_METRICS, METRICS, MetricName


class OutputLimits(Frozen):
    """Conditions on one output, in place of those on all of them."""

    min_sqnr_db: float | None = Field(None, description="Signal to quantization noise, at least.")
    min_agreement: float | None = Field(None, gt=0, le=1, description="Share of answers that stay the same, at least.")


class Limits(Frozen):
    """Conditions a result must meet; a missed one fails the job, which keeps its artifacts for inspection."""

    max_drop: dict[MetricName, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="Largest loss of a metric. Of a share, 0.01 is one point; of an error, the largest increase.",
    )
    max_size_ratio: float | None = Field(None, gt=0, description="Size after / size before, at most.")
    min_speedup: float | None = Field(None, gt=0, description="p50 before / p50 after, at least, for every batch.")
    min_sqnr_db: float | None = Field(None, description="Signal to quantization noise of every output, at least.")
    min_agreement: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of answers (rows, tokens or pixels of the same class) that stay the same, at least, in "
        "every output that has answers.",
    )
    outputs: dict[Annotated[str, Field(min_length=1, max_length=200)], OutputLimits] = Field(
        default_factory=dict,
        max_length=64,
        description="Conditions on single outputs, by name; what one says replaces what is said of all.",
    )

    @model_validator(mode="after")
    def _drops_are_possible(self) -> "Limits":
        for name, drop in self.max_drop.items():
            largest = METRICS[name].largest_loss
            if largest is not None and drop > largest:
                raise ValueError(f"max_drop.{name} is {largest:g} at most: 0.01 is one point")
        return self


class Latency(Frozen):
    """How speed is measured: both models in one process, taking turns."""

    batch: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field((1,), min_length=1, max_length=8)
    threads: int = Field(1, ge=1, le=256)
    runs: int = Field(200, ge=20, le=10_000, description="Timed runs of each model, at most; `budget_s` may end it.")
    budget_s: float = Field(20.0, gt=0, le=600, description="Seconds spent on one batch size, at most.")


class Evaluate(Frozen):
    """What the report measures."""

    metrics: tuple[MetricName, ...] = Field(
        DEFAULT_METRICS, description="Needs labels in the test data.", max_length=16
    )
    output: str | None = Field(
        None, min_length=1, max_length=200, description="The output that metrics judge. Left out: the first."
    )
    limits: Limits = Limits()
    latency: Latency = Latency()
    devices: tuple[Device, ...] = Field(
        (), max_length=16, description="Where every artifact is tried besides; the report has a matrix of both."
    )

    @field_validator("devices")
    @classmethod
    def _each_device_once(cls, devices: tuple[Device, ...]) -> tuple[Device, ...]:
        if len({device.label for device in devices}) != len(devices):
            raise ValueError("a device is listed twice")
        return devices

    @model_validator(mode="after")
    def _limits_are_measured(self) -> "Evaluate":
        for name in self.limits.max_drop:
            if name not in self.metrics:
                raise ValueError(f"limits.max_drop names {name}, which is not in metrics; add it there")
        return self
