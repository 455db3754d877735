"""A `fit` that is killed at random moments, each time in a new process.

`python -m tests.killed_program` kills nine cases twenty times each.
"""

import pytest

import killed_program


@pytest.mark.parametrize(
    "case",
    [
        "arrays, checkpoints",
        pytest.param("stream, every state", marks=pytest.mark.slow),
    ],
)
def test_killed_twice_it_ends_with_the_same_bits(case, tmp_path):
    whole = killed_program.started(
        case, f"{tmp_path}/whole_backups", f"{tmp_path}/whole"
    )
    whole.join()
    assert whole.exitcode == 0
    log, twice = killed_program.killed_and_resumed(case, 2, tmp_path)
    assert len(twice) >= 2
    assert max(map(len, twice)) <= 1
    killed_program.assert_same_end(f"{tmp_path}/whole.npz", f"{log}.npz")
