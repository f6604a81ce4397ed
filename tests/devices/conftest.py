"""The jobs of tests/targets, in the same jail."""

from tests.targets.conftest import digits_folder, done, workshop

__all__ = ["digits_folder", "done", "workshop"]
