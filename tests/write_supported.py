"""Writes `docs/supported.md` from the tables in `tests/conformance/`.

python tests/write_supported.py
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main():
    """Writes the page."""
    from conformance import page

    page.PATH.write_text(page.page(), encoding="utf-8")
    print(f"wrote {page.PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
