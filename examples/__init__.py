"""Six short programs: `python -m examples.NAME --help` tells their flags."""
