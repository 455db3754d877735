"""One elementary step, taken forward by tangents: ∂step/∂s Z + ∂step/∂λ.

The products of a step backward are linear in their adjoint, and the transposed
of a linear map is the vector-Jacobian product of its result. So tangents need
no derivatives of operations but those that adjoints need: what
`adjoint.step_back` differentiates is differentiated here, half by half, with
the tangents as cotangents.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.adjoint import is_undefined
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.derivatives import vjp
from keras_drmad.core.state import Problem, State


def count(hparams: list[tf.Tensor]) -> int:
    """Returns P, the number of hyperparameters: one tangent for each."""
    return sum(h.shape.num_elements() for h in hparams)


def none(state: State, hparams: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns tangents that are zero: of a state that λ has not acted on.

    Args:
        state: for the shapes and dtypes of its leaves.
        hparams: list of tensors λ.

    Returns:
        List of tensors `(P, ...)`, one for each floating leaf of the state.
    """
    return nested.stacked_zeros(nested.float_leaves(state), count(hparams))


def step(
    problem: Problem,
    state: State,
    hparams: list[tf.Tensor],
    batch: Any,
    tangents: list[tf.Tensor],
    order: Sequence[int] = (),
) -> list[tf.Tensor]:
    """Takes the tangents of s_t to those of s_{t+1}.

    Derivatives of the update that `adjoint.step_back` counts as zero, where an
    entry is exactly zero, count as zero here as well.

    Args:
        problem: the elementary training.
        state: s_t.
        hparams: list of tensors λ.
        batch: the minibatch of iteration t.
        tangents: Z = ∂s_t/∂λ, see `none`; those of the first hyperparameters
            of `order` alone where the others have not acted yet.
        order: the places of hyperparameters in λ, in the order of their
            tangents; as they come if empty.

    Returns:
        `∂step/∂s Z + ∂step/∂λ`, as `tangents`.
    """
    g, called, gradient_backward = HESSIAN.linearized(
        problem, state, hparams, batch
    )
    at = nested.float_leaves([called.params, called.slots])
    g_and_called = [
        nested.float_leaves(part) for part in (g, called.params, called.buffers)
    ]
    with problem.rules():
        through_gradient = _Transposed(
            lambda d: sum(map(list, gradient_backward(*d)), []), g_and_called
        )
    updated = nested.float_leaves(problem.update(called, g, hparams))
    inputs = [*at, *g_and_called[0], *hparams]
    with problem.rules(), _zeros_stay():
        through_update = _Transposed(lambda d: vjp(updated, inputs, d), updated)
    undefined = []
    if not problem.update_is_smooth:
        undefined = list(
            map(is_undefined, through_update.of_ones[: -len(hparams)], inputs)
        )
    params = len(state.params)
    slots = len(nested.float_leaves(state.slots))

    def along(z_and_direction):
        z, direction = z_and_direction
        d_g, d_params, d_buffers = through_gradient([*z, *direction])
        d_inputs = [*d_params, *z[params : params + slots], *d_g]
        for k, place in enumerate(undefined):
            d_inputs[k] = tf.where(
                place, tf.zeros_like(d_inputs[k]), d_inputs[k]
            )
        return [*through_update([*d_inputs, *direction]), *d_buffers]

    directions = _directions(hparams, order, tangents[0].shape[0])
    return tf.vectorized_map(along, (tangents, directions))


class _Transposed:
    """The transposed of a linear map from lists of tensors to lists."""

    def __init__(self, linear: Callable, like: Any):
        """Initializes the map.

        Args:
            linear: function of a structure `like`, linear in all of it.
            like: nested tensors.
        """
        self._at = tf.nest.map_structure(tf.ones_like, like)
        self.of_ones = linear(self._at)

    def __call__(self, vector: list[tf.Tensor]) -> Any:
        """Returns the product with a vector, a structure `like`."""
        return vjp(self.of_ones, self._at, vector)


def _directions(
    hparams: list[tf.Tensor], order: Sequence[int], many: int
) -> list[tf.Tensor]:
    """Returns ∂λ/∂λ: for the first hyperparameters, a list as `hparams`."""
    rows = np.eye(count(hparams))
    rows = (rows[list(order)] if order else rows)[:many]
    sizes = [h.shape.num_elements() for h in hparams]
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return [
        tf.constant(part.reshape(many, *h.shape), h.dtype)
        for part, h in zip(parts, hparams, strict=True)
    ]


# ---- where 0 · ∞ is 0: a tangent that is zero stays zero


@contextlib.contextmanager
def _zeros_stay() -> Iterator[None]:
    """Gives operations made in this context the rules below, for `vjp`.

    These are the linear operations by which TensorFlow differentiates functions
    whose derivative can be infinite. In their derivatives the cotangents are
    our tangents; where a tangent is 0, so is what follows from the tangent.
    """
    graph = tf.compat.v1.get_default_graph()
    with graph.gradient_override_map(
        {kind: _name(kind) for kind in ("Mul", "RealDiv", *_SLOPES)}
    ):
        yield


def _name(kind: str) -> str:
    return f"KerasDrMADTangent{kind}"


@tf.RegisterGradient(_name("Mul"))
def _mul(op, d):
    x, y = op.inputs
    return (
        _summed(tf.math.multiply_no_nan(y, d), x),
        _summed(tf.math.multiply_no_nan(x, d), y),
    )


@tf.RegisterGradient(_name("RealDiv"))
def _real_div(op, d):
    x, y = op.inputs
    return (
        _summed(tf.math.multiply_no_nan(1 / y, d), x),
        _summed(tf.math.multiply_no_nan(-x / y / y, d), y),
    )


def _summed(d: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns a derivative summed over the axes along which x was repeated."""
    if d.shape == x.shape:
        return d
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(x), s1=tf.shape(d))
    return tf.reshape(tf.reduce_sum(d, axes), tf.shape(x))


# Of operations (y, d), y = f(x), that give f'(x) d: this f', a function of y.
_SLOPES = {
    "SqrtGrad": lambda y: 0.5 / y,
    "RsqrtGrad": lambda y: -0.5 * y**3,
    "ReciprocalGrad": lambda y: -(y**2),
}


def _register(kind: str, slope: Callable) -> None:
    @tf.RegisterGradient(_name(kind))
    def along(op, d):
        # Linear in its second input; nobody asks how the slope depends on y.
        return None, tf.math.multiply_no_nan(slope(op.inputs[0]), d)


for _kind, _slope in _SLOPES.items():
    _register(_kind, _slope)
