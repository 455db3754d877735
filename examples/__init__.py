"""Experiments: `python -m examples.NAME --help` tells their flags."""
