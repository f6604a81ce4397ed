"""A device that is nowhere near, whose speed on other networks has been published."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from app.spec.devices.base import AnyDevice, Provenance
from app.spec.devices.published import PublishedDevice, PublishedRun, device_of, published


class EstimatedDevice(AnyDevice):
    """A device that is not at hand: its latency is computed from published ones of similar networks.

    `GET /devices/estimated` lists them. The report shows the estimate with what such estimates missed by on networks
    that were held out, and refuses networks unlike all that were published. Accuracy is not estimated.
    """

    provenance: ClassVar[Provenance] = "estimated"

    type: Literal["estimated"] = "estimated"
    device: str = Field(max_length=64, description="An id of `GET /devices/estimated`, such as raspberry-pi-4b.")
    threads: int | None = Field(None, ge=1, description="One of the published numbers. Left out: the largest.")

    @model_validator(mode="after")
    def _is_published(self) -> "EstimatedDevice":
        device = device_of(self.device)
        if device is None:
            known = ", ".join(known.id for known in published().devices)
            raise ValueError(f"no latencies of {self.device} are known; there are {known}")
        if self.threads is not None and self.threads not in device.threads:
            counts = ", ".join(map(str, device.threads))
            raise ValueError(f"{device.title} has published latencies for {counts} threads, not for {self.threads}")
        return self

    @property
    def published(self) -> PublishedDevice:
        """What is known of it."""
        device = device_of(self.device)
        if device is None:
            raise LookupError(self.device)  # validation has looked
        return device

    @property
    def run(self) -> PublishedRun:
        """The published latencies that count."""
        wanted = self.threads or max(self.published.threads)
        return next(run for run in self.published.runs if run.threads == wanted)

    @property
    def label(self) -> str:
        return f"estimated/{self.device}/{self.run.threads}"

    @property
    def title(self) -> str:
        return self.published.title
