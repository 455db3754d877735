"""A `fit` that is killed at random moments, each time in a new process.

`python -m tests.killed_program` kills nine cases twenty times each.
"""

import pytest

import killed_program


def test_killed_twice_it_ends_with_the_same_bits(tmp_path):
    assert_loses_a_chunk_at_most("arrays, checkpoints", 2, tmp_path)


@pytest.mark.slow
def test_killed_three_times_it_ends_with_the_same_bits(tmp_path):
    assert_loses_a_chunk_at_most("stream, every state", 3, tmp_path)


def assert_loses_a_chunk_at_most(case, times, folder):
    whole = killed_program.started(
        case, f"{folder}/whole_backups", f"{folder}/whole"
    )
    whole.join()
    assert whole.exitcode == 0
    log, twice = killed_program.killed_and_resumed(case, times, folder)
    assert len(twice) >= times
    assert max(map(len, twice)) <= 1
    killed_program.assert_same_end(f"{folder}/whole.npz", f"{log}.npz")
