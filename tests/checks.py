"""Checkers: a derivative against differences, tensors against tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.training.initial_weights import InitialState


def flat(structure: Any) -> np.ndarray:
    """Returns all numbers of a nested structure in one vector."""
    leaves = [np.ravel(np.asarray(x)) for x in tf.nest.flatten(structure)]
    return np.concatenate(leaves)


def relative_error(actual: Any, expected: Any) -> float:
    """Returns ‖actual − expected‖ / ‖expected‖, over all leaves together."""
    expected = flat(expected)
    difference = np.linalg.norm(flat(actual) - expected)
    return float(difference / np.linalg.norm(expected))


def cosine(a: Any, b: Any) -> float:
    """Returns the cosine of the angle between two nested structures."""
    a, b = flat(a), flat(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def central_difference(f: Callable[[float], float], step: float) -> float:
    """Returns f′(0) from five points.

    The error is f⁽⁵⁾ step⁴ / 30 from the truncation, and about 1e-16 f / step
    from the rounding: with step = 1e-4 both are about 1e-12 for an f of size 1.
    """
    near, far = f(step) - f(-step), f(2 * step) - f(-2 * step)
    return (8 * near - far) / (12 * step)


def differences(
    f: Callable[[], float],
    variables: Sequence[Any],
    directions: Sequence[Sequence[np.ndarray]],
    step: float,
) -> np.ndarray:
    """Returns the derivatives of f along directions, and restores variables.

    Args:
        f: function of the values of the variables.
        variables: Keras or TensorFlow variables.
        directions: for each derivative, an array for each variable.
        step: float.
    """
    values = [np.array(v) for v in variables]

    def moved(direction, s):
        _assign(
            variables,
            [x + s * d for x, d in zip(values, direction, strict=True)],
        )
        return f()

    try:
        return np.array(
            [
                central_difference(lambda s, d=d: moved(d, s), step)
                for d in directions
            ]
        )
    finally:
        _assign(variables, values)


def assert_derivative(
    f: Callable[[], float],
    variables: Sequence[Any],
    gradients: Sequence[Any],
    *,
    rtol: float = 1e-6,
    step: float = 1e-4,
) -> None:
    """Asserts that gradients are those of f, along a random direction.

    It moves each number of all variables: one that is wrong shows, whichever it
    is. Of two directions it is the one along which the gradients, if they are
    right, cancel each other less.
    """
    generator = np.random.default_rng(7)
    directions = [
        [generator.normal(size=tuple(v.shape)) for v in variables]
        for _ in range(2)
    ]
    claims = [flat(gradients) @ flat(d) for d in directions]
    k = int(np.argmax(np.abs(claims)))
    (expected,) = differences(f, variables, directions[k : k + 1], step)
    # A derivative of 0 would agree with a gradient that never arrives.
    assert abs(expected) > 1e-7, expected
    error = relative_error(claims[k], expected)
    assert error < rtol, f"{error:.1e}: {claims[k]}, expected {expected}"


def assert_exact_hypergradient(
    model: Any,
    *data: Any,
    rtol: float = 1e-6,
    step: float = 1e-4,
    together: bool = False,
    **training,
) -> None:
    """Asserts that `hypergradient` is that of the validation loss.

    Args:
        model: a compiled `DrMADModel`; each of its kinds is checked alone.
        *data: those of `hypergradient`.
        rtol: float.
        step: float, of the differences.
        together: bool, whether all kinds are checked at once, for trainings
            that take long, where each is checked alone in shorter ones.
        **training: the other arguments of `hypergradient`.
    """
    record = model.hypergradient(*data, **training)
    loss = loss_after(model, *data, **training)
    np.testing.assert_allclose(record.validation_loss, loss(), rtol=1e-12)
    if together:
        kinds = model.hyperparameters
        gradients = [record.gradients[h.name] for h in kinds]
        raws = [h.raw for h in kinds]
        assert_derivative(loss, raws, gradients, rtol=rtol, step=step)
        return
    for h in model.hyperparameters:
        gradient = [record.gradients[h.name]]
        assert_derivative(loss, [h.raw], gradient, rtol=rtol, step=step)


def loss_after(
    model: Any,
    x: Any,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    seed: int = 0,
    **training,
) -> Callable[[], float]:
    """Returns the validation loss after a training as a function.

    Of the hyperparameters, from the weights as they are now. Data are checked
    and converted once, and the loops are those of `hypergradient`: nothing else
    is traced.
    """
    walks, plan = model.prepared(
        x, y, batch_size=batch_size, epochs=epochs, seed=seed, **training
    )
    s_0 = InitialState(walks.problem, "same", plan.seed).of(0)

    def loss():
        trained = walks.forward(s_0, walks.hparams(), plan)
        return walks.differentiate(trained, plan.hyper)[0]["loss"]

    return loss


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


# ---- what a model compiled: no other place in the tests knows where that is


def problem_of(model: Any) -> Any:
    """Returns the pure functions of a model that was trained before."""
    return model._assembly.problem


def loops_of(model: Any) -> Any:
    """Returns the compiled loops of a model that was trained before."""
    return model._assembly.loops


def traces(model: Any) -> dict[str, int]:
    """Returns how often each compiled loop of a model was traced, by name."""
    return loops_of(model).traces()
