"""The jobs of tests/targets, in the same jail."""

from tests.targets.conftest import digits_folder, done, job_sandbox

__all__ = ["digits_folder", "done", "job_sandbox"]
