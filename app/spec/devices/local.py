"""The worker that does the job."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.devices.base import AnyDevice, Provenance


class LocalDevice(AnyDevice):
    """The worker that does the job: its CPU, governor and load are recorded beside the latency."""

    provenance: ClassVar[Provenance] = "measured"

    type: Literal["local"] = "local"
    threads: int | None = Field(
        None, ge=1, le=256, description="Left out: `evaluate.latency.threads`. No more than the worker has cores."
    )

    @property
    def label(self) -> str:
        return "local" if self.threads is None else f"local/{self.threads}"

    @property
    def title(self) -> str:
        return "This worker"
