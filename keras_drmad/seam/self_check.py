"""The seam checks itself: on the user's own model, before any training.

What the loops run was made of Keras's code, in ways that Keras does not know
of. Here it is put beside Keras's own step, and its derivatives beside
differences, on the first minibatch. So a layer, a loss or an optimizer that
nobody has thought of is right, or refused.
"""

import contextlib
import copy
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.rows import Rows
from keras_drmad.core.state import Batch
from keras_drmad.hyperparameters.together import Together
from keras_drmad.keras_internals import (
    computing_in,
    layers_within,
    without_rewriting,
)
from keras_drmad.seam import traits
from keras_drmad.seam.differences import Probe, Verdict, direction
from keras_drmad.seam.states import values_of

# By dtype: how far entries may be from Keras's, relative to the largest change.
TOLERANCES = {"float64": 1e-7, "float32": 1e-3}
ROUNDING = {"float64": 1e-12, "float32": 1e-5}
EXAMPLES = 8  # of a minibatch, for differences
ASIDE = 0.02  # how far from the first weights, relative to these
COARSE = 0.1  # for other dtypes, relative to the largest change
OFF = (
    "If you are sure that both should differ, `compile(self_check=False)` "
    "switches this check off."
)


class SelfCheckError(ValueError):
    """What this package computes of a model is not what Keras computes."""


# ---- one step beside Keras's


def check_step(problem: Any, batch: Batch) -> float:
    """Compares one step, without hyperparameters, with `train_step`.

    Also runs the traced step twice. Leaves every variable as it was.

    Args:
        problem: `ElementaryProblem`.
        batch: `Batch`, the first minibatch.

    Returns:
        The seconds of the gradient of a step.

    Raises:
        SelfCheckError: if weights, the optimizer's variables, others or the
            loss are not Keras's, or not the same in both runs.
    """
    batch = _tensors(batch)
    seconds = _check_repeated(problem, batch)
    # Weights of examples are ours; see `seam.model_loss`.
    batch = batch._replace(sample_weight=None)
    plain = copy.copy(problem)
    plain.hyperparameters = Together.none()
    state = plain.state()
    taken = plain.take_gradient(state, [], batch, plain.metrics_state())
    called = state._replace(params=taken.params)
    params, slots = plain.update(called, taken.gradients, [])
    buffers = taken.scope.left(plain.buffers)
    ours = dict(
        zip(
            map(id, [*plain.params, *plain.slots, *plain.buffers]),
            [*params, *slots, *buffers],
            strict=True,
        )
    )
    variables = _variables(problem)
    with _restored(variables + problem.metrics, problem.loose):
        before = [np.asarray(value) for value in values_of(variables)]
        problem.model.reset_metrics()
        try:
            logs = problem.model.train_step((batch.x, batch.y))
        except Exception:  # what Keras does not train has no witness
            return seconds
        theirs = [np.asarray(value) for value in values_of(variables)]
        their_loss = np.asarray(logs["loss"], float) if "loss" in logs else None
    dtype = _computed_in(problem.model)
    gradient = _whole(taken.gradients, state.params)
    largest = max(float(np.abs(g).max(initial=0)) for g in gradient)
    unsure = ROUNDING.get(dtype, COARSE) * largest
    is_noise = {
        id(v): np.abs(g) <= unsure
        for v, g in zip(plain.params, gradient, strict=True)
    }
    wrong = []
    for v, start, expected in zip(variables, before, theirs, strict=True):
        actual = np.asarray(ours.get(id(v), start))
        far = _far(actual, expected, start, dtype, max(unsure, unsure**2))
        # A gradient of rounding alone has any direction.
        far &= ~is_noise.get(id(v), np.zeros_like(far))
        if far.any():
            error = np.abs(actual.astype(float) - expected).max()
            moved = np.abs(expected - start.astype(float)).max()
            wrong.append(
                f"'{v.path}' is off by {error:.2g} where Keras moves it by "
                f"{moved:.2g}"
            )
    our_loss = float(taken.loss)
    if their_loss is not None and not np.isclose(
        our_loss, their_loss, rtol=10 * TOLERANCES.get(dtype, COARSE)
    ):
        wrong.insert(
            0, f"the training loss is {our_loss:.6g}, Keras's {their_loss:.6g}"
        )
    if wrong:
        raise SelfCheckError(
            f"The model '{problem.model.name}' trains otherwise here than in "
            "`keras.Model.fit`: after one step on the first minibatch "
            f"{'; '.join(wrong[:4])}. Look for a layer or loss that draws "
            "random numbers of its own (NumPy, Python), that counts its calls "
            "in Python, or that reads variables in a function compiled before, "
            f"and for a `train_step` or an optimizer of your own. {OFF}"
        )
    return seconds


def _check_repeated(problem: Any, batch: Batch) -> float:
    """Checks that the traced step gives the same numbers twice.

    Returns:
        The seconds that the second time took.
    """
    args = problem.look_args(batch)

    def numbers() -> list[np.ndarray]:
        with without_rewriting():
            found = problem.look.gradient(*args)
        return list(map(np.asarray, tf.nest.flatten(found)))

    first, begin = numbers(), time.perf_counter()
    second, seconds = numbers(), time.perf_counter() - begin
    same = [
        np.array_equal(a, b, equal_nan=True) or _close(a, b)
        for a, b in zip(first, second, strict=True)
    ]
    if not all(same):
        kinds = problem.look.operations
        calls = [k for k in kinds if "PyFunc" in k]
        whose = "A layer or the loss"
        if calls:
            whose = traits.whose(kinds[calls[0]], problem.model)
        raise SelfCheckError(
            f"{whose} gives other numbers each time it is called, from the "
            "same weights and data: walking a training backward would see "
            "another training. Draw random numbers by `keras.random` with a "
            f"`keras.random.SeedGenerator`. {OFF}"
        )
    return seconds


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Sums over threads may come in another order each time."""
    if a.dtype.kind != "f":
        return False
    scale = float(np.abs(a).max(initial=0))
    return bool(np.abs(a - b).max(initial=0) <= 1e-4 * scale)


def _far(actual, expected, start, dtype, floor) -> np.ndarray:
    """Returns which entries are not Keras's."""
    actual, expected = actual.astype(float), expected.astype(float)
    change = float(np.abs(expected - start.astype(float)).max(initial=0))
    size = float(np.abs(expected).max(initial=0))
    allowed = TOLERANCES.get(dtype, COARSE) * change + floor
    allowed += 10 * ROUNDING.get(dtype, COARSE) * min(size, change + 1e-30)
    resolution = {"float64": 1e-15, "float32": 5e-7}.get(dtype, 2e-2)
    return np.abs(actual - expected) > allowed + resolution * size


def _variables(problem: Any) -> list:
    """Returns all Keras variables that a step may touch, each once."""
    variables = [
        *problem.model.variables,
        *problem.optimizer.variables,
        *problem.buffers,
        *problem.fixed,
    ]
    metrics = {id(v) for v in problem.metrics}
    found = {id(v): v for v in variables if id(v) not in metrics}
    return list(found.values())


@contextlib.contextmanager
def _restored(variables: list, loose: list) -> Iterator[None]:
    """Gives variables, and generators of random numbers, back their values."""
    values = [np.array(value) for value in values_of(variables)]
    others = [v.read_value() for v in loose]
    python, arrays = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        for v, value in zip(
            [*variables, *loose], [*values, *others], strict=True
        ):
            v.assign(value)
        random.setstate(python)
        np.random.set_state(arrays)


def _tensors(batch: Batch) -> Batch:
    return tf.nest.map_structure(
        lambda a: None if a is None else tf.convert_to_tensor(a), batch
    )


def _whole(gradients: list, params: list) -> list[np.ndarray]:
    return [
        np.asarray(
            tf.math.unsorted_segment_sum(tf.abs(g.values), g.indices, len(w))
            if isinstance(g, Rows)
            else g
        ).astype(float)
        for g, w in zip(gradients, params, strict=True)
    ]


# ---- derivatives beside differences


def check_slopes(problem: Any, batch: Batch, held_out: Batch) -> None:
    """Compares derivatives of a step and of validation with differences.

    And the validation loss with `test_step`. Leaves every variable as it was.

    Args:
        problem: `ElementaryProblem`.
        batch: `Batch`, the first minibatch.
        held_out: `Batch`, the first one whose loss is differentiated.

    Raises:
        ValueError: if an operation has no second derivative.
        SelfCheckError: if a derivative is wrong, or the validation loss is
            not that of `evaluate`.
    """
    batch, held_out = (
        _few(problem.model, _tensors(one)) for one in (batch, held_out)
    )
    traits.check_second_derivatives(problem.look.operations, problem.model)
    state, hparams = problem.state(), problem.hparams()
    metrics = problem.metrics_state()
    # First biases of 0 put whole images on the kink of a ReLU: a little away.
    aside = [
        w + tf.constant(ASIDE * d, w.dtype)
        for w, d in zip(state.params, direction(state.params, 7), strict=True)
    ]
    others = nested.float_leaves([state.slots, state.buffers])
    at = [*aside, *others, *hparams]

    def placed(at):
        """Returns the state and λ with other floating numbers."""
        numbers = iter(at)
        leaves = [
            next(numbers) if x.dtype.is_floating else x
            for x in tf.nest.flatten(state)
        ]
        return tf.nest.pack_sequence_as(state, leaves), list(numbers)

    def gradient(at, batch):
        here, hparams = placed(at)
        return nested.float_leaves(problem.gradient(here, hparams, batch)[0])

    def validation(at, batch):
        here, hparams = placed(at)
        return [problem.validation_loss(here, hparams, batch, metrics)[0]]

    _check_slope(
        problem, gradient, at, batch, "the gradient of the training loss"
    )
    _check_slope(problem, validation, at, held_out, "the validation loss")
    _check_validation(problem, state, hparams, held_out)


def _few(model: Any, batch: Batch) -> Batch:
    """Returns the first examples, if a model takes any number of these."""
    if not getattr(model, "inputs", None) or traits.fixes_batch_size(model):
        return batch
    return tf.nest.map_structure(
        lambda a: None if a is None else a[:EXAMPLES], batch
    )


def _check_slope(problem, function, at, batch, what: str) -> None:
    verdicts = []
    try:
        probe, dtype = _probe(problem, function, at, batch)
        for seed in range(3):
            verdict = probe.compare(direction(at, seed), dtype)
            if verdict.agrees:
                return
            verdicts.append(verdict)
    except (LookupError, tf.errors.NotFoundError) as error:
        # The second: of a loop, which is built when it runs.
        raise _no_derivative(problem, error) from error
    raise _wrong_slope(problem, probe, at, min(verdicts), dtype, what)


def _probe(problem, function, at, batch) -> tuple[Probe, str]:
    """Returns the function with its derivative, in float64 if it can be."""
    exact = [tf.cast(x, tf.float64) for x in at]
    try:
        with computing_in(problem.model, "float64"):
            probe = Probe(function, exact, [batch])
        probe.numbers(exact, np.ones(0))
        return probe, "float64"
    except (TypeError, ValueError, tf.errors.OpError):
        # Something casts to a dtype of its own, or has no kernel for this one.
        return Probe(function, at, [batch]), "other"


def _no_derivative(problem, error: Exception) -> ValueError:
    """Returns the error that names the operation and its layer."""
    kinds = problem.look.operations
    words = str(error)
    named = [k for k in kinds if f"(op type: {k})" in words]
    name = kinds[named[0]] if named else words
    if not named:
        node = re.search(r"node (\S+)", words)
        name = node.group(1) if node else words
    return traits.no_second_derivative(
        named[0] if named else name, traits.whose(name, problem.model)
    )


def _wrong_slope(
    problem, probe, at, verdict: Verdict, dtype, what
) -> Exception:
    """Returns the error, with the layers whose weights show it."""
    names = [
        v.path
        for variables in (problem.params, problem.slots, problem.buffers)
        for v in variables
        if "float" in v.dtype
    ] + problem.hyperparameters.names
    d = direction(at, 0)
    shown = []
    for k, name in enumerate(names):
        alone = [x if j == k else 0 * x for j, x in enumerate(d)]
        if not probe.compare(alone, dtype).agrees:
            shown.append(name)
    by = (
        "is not finite"
        if np.isinf(verdict.error)
        else (
            f"gives {verdict.product:.4g} where differences give "
            f"{verdict.difference:.4g}"
        )
    )
    return SelfCheckError(
        f"The derivative of {what} {by}, along a random direction at the first "
        f"minibatch. It shows in {shown[:6] or names[:6]}. Look there, and in "
        "the loss, for an operation whose gradient TensorFlow has wrong or "
        "infinite (a norm or root at 0), or for a gradient of its own, "
        "`stop_gradient` or normalization in a compiled function, a loop or a "
        "branch (an RNN can take `unroll=True`). The hypergradient would be "
        "wrong. Use another layer or loss, or freeze what comes before it. "
        f"{OFF}"
    )


def _check_validation(problem, state, hparams, batch: Batch) -> None:
    """Compares the validation loss with Keras's, on one batch."""
    batch = batch._replace(sample_weight=None)
    ours, _, _ = problem.validation_loss(
        state, hparams, batch, problem.metrics_state()
    )
    model = problem.model
    with _restored(_variables(problem) + problem.metrics, problem.loose):
        model.reset_metrics()
        problem.assign(state, hparams)
        try:
            logs = model.test_step((batch.x, batch.y))
        except Exception:  # as above
            return
        theirs = logs.get("loss")
    if theirs is None:
        return
    tolerance = 10 * TOLERANCES.get(_computed_in(model), COARSE)
    if not np.isclose(float(ours), float(theirs), rtol=tolerance):
        raise SelfCheckError(
            f"The validation loss of the model '{model.name}' is "
            f"{float(ours):.6g} here, and {float(theirs):.6g} in `evaluate`, "
            "on the same batch. A `test_step` of the model's own is not what "
            "is differentiated: put what it computes into the loss. "
            f"{OFF}"
        )


def _computed_in(model: Any) -> str:
    """Returns the coarsest dtype that a model computes in."""
    dtypes = {layer.compute_dtype for layer in layers_within(model)}
    coarse = sorted(d for d in dtypes if d and "float" in d)
    order = ("float16", "bfloat16", "float32", "float64")
    return next((d for d in order if d in coarse), "float32")
