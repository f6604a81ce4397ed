"""Measures every figure that the documentation publishes: one file per story."""
