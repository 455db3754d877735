"""Walks all kinds of faults, and prints right, refused or wrong.

python tests/walk_faults.py [--only=WORD]
"""

import collections
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

ONLY = flags.DEFINE_string("only", "", "Walk kinds with this word alone.")


def main(argv):
    """Prints a line for each member; exits with 1 if one is wrong."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
    import pytest

    import conftest
    import faults

    counts = collections.Counter()
    conftest.set_precision("float64")
    for member in sum(map(faults.members_of, faults.PARTS), []):
        if ONLY.value not in member.kind:
            continue
        conftest.reseed()
        try:
            outcome, why = member.run(), ""
        except (Exception, pytest.fail.Exception) as error:
            outcome = "wrong"
            why = f"  {type(error).__name__}: {' '.join(str(error).split())}"
        counts[outcome] += 1
        print(f"{outcome:8}{member.kind}: {member.name}{why[:200]}", flush=True)
    print(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    app.run(main)
