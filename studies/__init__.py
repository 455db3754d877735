"""Experiments behind the documentation; see docs/results.md."""
