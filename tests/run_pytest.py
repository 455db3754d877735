"""What `bazel test` runs: pytest, on the file that the rule names.

Run as a program, a file of pytest tests would only define its functions, and
pass without having tested anything.
"""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
