"""Measurements: `python -m benchmarks.NAME` prints them, side by side."""
