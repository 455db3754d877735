"""Batches of arrays: a function of the seed and the iteration."""

import numpy as np
import pytest

from keras_drmad.core.span import CHUNK_SIZE, Span, divide
from keras_drmad.training.arrays import ArrayBatches
from small_models import assert_same_batches, visited

NOTHING = np.zeros(0, int)
LONG = 2 * CHUNK_SIZE + 50


def array_batches(size=10, batch_size=3, shuffle=True, seed=0):
    x = np.arange(size)
    return ArrayBatches((x, x**2, None), batch_size, shuffle, seed)


# ---- divide


@pytest.mark.parametrize(
    "iterations, size, cuts, expected",
    [
        (range(5), 10, [], [[0, 1, 2, 3, 4]]),
        (range(5), 2, [], [[0, 1], [2, 3], [4]]),
        (range(6), 3, [4], [[0, 1, 2], [3], [4, 5]]),
        (range(3), 3, [0, 3, 9], [[0, 1, 2]]),  # cuts at and past the ends
        ([1, 4, 7, 9], 9, [5, 6], [[1, 4], [7, 9]]),  # cuts between them
        ([], 3, [1], []),
    ],
)
def test_divides(iterations, size, cuts, expected):
    parts = divide(np.array(list(iterations), int), size, cuts)
    assert [part.tolist() for part in parts] == expected


# ---- arrays


def test_each_pass_is_a_permutation_cut_into_batches():
    seen = visited(array_batches().forward(Span(0, 8), (), NOTHING))
    passes = [[seen[t][0] for t in range(k, k + 4)] for k in (0, 4)]
    for one in passes:
        assert [len(batch) for batch in one] == [3, 3, 3, 1]
        np.testing.assert_array_equal(np.sort(np.concatenate(one)), range(10))
    assert np.any(np.concatenate(passes[0]) != np.concatenate(passes[1]))


def test_without_shuffle_the_order_is_the_one_given():
    seen = visited(
        array_batches(shuffle=False).forward(Span(0, 5), (), NOTHING)
    )
    lists = [seen[t][0].tolist() for t in range(5)]
    assert lists == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9], [0, 1, 2]]


def test_examples_keep_their_targets():
    for x, y in visited(
        array_batches().forward(Span(0, 8), (), NOTHING)
    ).values():
        np.testing.assert_array_equal(y, x**2)


def test_a_batch_is_a_function_of_seed_and_iteration():
    long = visited(array_batches().forward(Span(0, LONG), (), NOTHING))
    short = visited(array_batches().forward(Span(0, 7), (2, 3), NOTHING))
    assert_same_batches({t: long[t] for t in range(7)}, short)
    other = visited(
        array_batches().with_seed(1).forward(Span(0, 7), (), NOTHING)
    )
    assert any(np.any(short[t][0] != other[t][0]) for t in range(7))
    again = array_batches(seed=1).with_seed(0)
    assert_same_batches(visited(again.forward(Span(0, 7), (), NOTHING)), short)


@pytest.mark.parametrize("batch_size", [3, 5, 10])
def test_the_walk_backward_sees_the_arrays_of_the_walk_forward(batch_size):
    source = array_batches(batch_size=batch_size)
    there = visited(source.forward(Span(0, LONG), (200,), NOTHING))
    revisited = np.arange(3, LONG, 7)
    walk = list(source.backward(Span(0, LONG), (200,), revisited))
    assert [t for chunk, _ in walk[::-1] for t in chunk] == revisited.tolist()
    assert_same_batches(visited(walk), {t: there[t] for t in revisited})


def test_chunks_of_arrays_have_one_shape_and_begin_at_cuts():
    walk = list(
        array_batches().forward(Span(0, LONG), (CHUNK_SIZE + 20,), NOTHING)
    )
    first = [int(iterations[0]) for iterations, _ in walk]
    assert first == [0, *(CHUNK_SIZE + np.array([0, 20, CHUNK_SIZE + 20]))]
    shapes = {(tuple(c.indices.shape), c.is_short.shape[0]) for _, c in walk}
    assert len(shapes) == 1


def test_first_is_the_first_batch_in_the_order_given():
    np.testing.assert_array_equal(array_batches().first()[0], [0, 1, 2])
