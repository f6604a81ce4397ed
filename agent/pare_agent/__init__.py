"""Measures models on the device it runs on, for a Pare service."""

__version__ = "0.1.0"
