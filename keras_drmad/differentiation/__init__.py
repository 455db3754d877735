"""Differentiations: one way to dF/dλ a file, each two functions over a span."""
