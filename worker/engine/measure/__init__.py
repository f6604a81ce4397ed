"""Measures a delivered model against the original, on this machine, in this process."""

from worker.engine.measure.machine import describe_machine
from worker.engine.measure.target import measure_target

__all__ = ["describe_machine", "measure_target"]
