"""Conjugate gradients against NumPy, and where they end early."""

import numpy as np
import pytest
import tensorflow as tf

from checks import flat
from keras_drmad.core.solve import solve

SIZE = 6


def parts(vector):
    return [tf.constant(vector[:2]), tf.constant(vector[2:].reshape(2, 2))]


def product(matrix):
    return lambda p: parts(matrix @ flat(p))


@pytest.fixture
def problem():
    """Returns a positive definite matrix, and a right-hand side."""
    generator = np.random.default_rng(0)
    root, b = generator.normal(size=(SIZE, SIZE)), generator.normal(size=SIZE)
    return root @ root.T + np.eye(SIZE), b


def test_solves_in_as_many_iterations_as_unknowns(problem):
    H, b = problem
    solved = solve(product(H), parts(b), SIZE)
    np.testing.assert_allclose(flat(solved.q), np.linalg.solve(H, b), rtol=1e-9)
    assert solved.iterations == SIZE
    assert solved.residual < 1e-9


@pytest.mark.parametrize("k", [1, 2, 4])
def test_is_the_best_of_its_subspace(problem, k):
    # Of all q in span(b, Hb, ..., H^(k-1) b), the one of least ½ qᵀHq − bᵀq.
    H, b = problem
    basis = np.stack([np.linalg.matrix_power(H, i) @ b for i in range(k)], 1)
    basis, _ = np.linalg.qr(basis)
    best = basis @ np.linalg.solve(basis.T @ H @ basis, basis.T @ b)
    solved = solve(product(H), parts(b), k)
    np.testing.assert_allclose(flat(solved.q), best, rtol=1e-8)
    off = np.linalg.norm(b - H @ best) / np.linalg.norm(b)
    assert solved.residual == pytest.approx(off)


def test_stops_asking_once_solved(problem):
    _, b = problem
    asked = []

    def twice(p):
        asked.append(p)
        return [2.0 * x for x in p]

    solved = solve(twice, parts(b), 20)
    np.testing.assert_allclose(flat(solved.q), b / 2)
    assert len(asked) == 1
    assert solved.iterations == 1
    assert solved.is_solved  # not cut short: there was nothing to do


def test_nothing_to_solve():
    solved = solve(product(np.eye(SIZE)), parts(np.zeros(SIZE)), 3)
    assert solved.residual == 0
    np.testing.assert_array_equal(flat(solved.q), np.zeros(SIZE))


def test_ends_at_negative_curvature():
    H, b = np.diag([2.0, 2, 2, 2, 2, -1]), np.ones(SIZE)
    solved = solve(product(H), parts(b), 5)
    assert solved.iterations == 1
    # b itself has positive curvature, 9: one step along it, of 6 / 9.
    np.testing.assert_allclose(flat(solved.q), b * 6 / 9)


@pytest.mark.parametrize("curvature", [-1.0, 0.0, float("nan")])
def test_no_curvature_at_all_leaves_b(curvature):
    b = np.arange(1.0, SIZE + 1)
    solved = solve(product(curvature * np.eye(SIZE)), parts(b), 5)
    assert solved.iterations == 0
    np.testing.assert_array_equal(flat(solved.q), b)
