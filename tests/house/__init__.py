"""The laws of the house, as a library, a report (`python -m tests.house`) and a test."""
