"""Forward mode: tangents beside the training, and no walk backward."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested, tangents
from keras_drmad.core.records import Recorder
from keras_drmad.core.span import Span
from keras_drmad.core.state import State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked
from keras_drmad.differentiation.base import Differentiation

# Bytes of tangents, times steps, from which on it saves more time in some ten
# trainings to let tangents wait than it takes to trace the loop for other
# numbers of tangents.
WAITS_FROM = 2**34


@dataclasses.dataclass(frozen=True)
class Forward(Differentiation):
    """Tangents Z = ∂s/∂λ, which go forward with the training.

        Z_0 = ∂s_0/∂λ,    Z_{t+1} = ∂step/∂s Z_t + ∂step/∂λ,
        dF/dλ = ∂F/∂s_T Z_T + ∂F/∂λ

    Exact. Memory: a state for each of P hyperparameters, whatever T; while a
    step is taken, what P steps of the adjoint take. Time: that of the training
    and, for each tangent, 0.6 to 4 times that again, least under XLA.
    Differentiates every kind of hyperparameter. Prefer it for a handful of
    hyperparameters of long trainings.

    A tangent that leaves the finite numbers begins again from zero, with all
    others: like a walk backward that ends early, the derivative then leaves
    out what hyperparameters did before.

    Before a hyperparameter acts its tangent is zero. In long trainings such
    tangents wait: a knot of a schedule costs nothing until the training comes
    near the knot before.

    Attributes:
        count: P, the number of hyperparameters.
        begins: the iteration from which on each acts, by the optimizer's count;
            empty if all act from the first one on.

    References: Franceschi, Donini, Frasconi, Pontil, *Forward and Reverse
    Gradient-Based Hyperparameter Optimization*, ICML 2017,
    https://arxiv.org/abs/1703.01785, Algorithm 2.
    """

    count: int
    begins: tuple[int, ...] = ()

    def iterations(self, span: Span) -> np.ndarray:
        return np.arange(0)

    def nbytes(self, T: int, state: State) -> float:
        return self.count * nested.nbytes(nested.float_leaves(state))

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        if span.first and not walk.is_window:
            raise ValueError(
                "Tangents begin where the training does. Received: a span from "
                f"iteration {span.first}. Walk through the whole training, or "
                "use `keras_drmad.ReverseMode()`."
            )
        z = tangents.none(s, hparams)
        if walk.d_start is not None:
            first = walk.d_start()
            z[: len(first)] = first
        order = self._order(span, s)
        if order:
            z = [tf.gather(rows, order) for rows in z]
        memory = {"beside": Beside(z, tf.constant(0))}
        ahead = _count(s) - span.first

        def beside(iterations: np.ndarray) -> Beside:
            held = memory["beside"]
            if not order:
                return held
            many = self._many(ahead + int(iterations[-1]))
            return held._replace(
                tangents=[_resized(rows, many) for rows in held.tangents]
            )

        walking = walk.forward(
            s, hparams, span, Tangents(order), notes=beside, memory=memory
        )
        for part in walking:
            memory["beside"] = part.notes
        return walking.end(memory["beside"])

    def _order(self, span: Span, state: State) -> tuple[int, ...]:
        """Returns the hyperparameters in the order in which they begin to act.

        Empty where none is to wait.
        """
        moved = self.nbytes(span.steps, state) * span.steps
        if not any(self.begins) or moved < WAITS_FROM:
            return ()
        return tuple(np.argsort(self.begins, kind="stable").tolist())

    def _many(self, t: int) -> int:
        """Returns how many tangents go with a chunk that ends with iteration t.

        Whole quarters of all of them: the loop is traced anew for each number.
        """
        acting = int(np.sum(np.array(self.begins) <= t))
        quarter = -(-self.count // 4)
        return min(max(-(-acting // quarter), 1) * quarter, self.count)

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        z, steps = walked.memory
        order = self._order(walked.span, walked.state)
        if order:
            places = np.argsort(order)
            z = [tf.gather(_resized(rows, self.count), places) for rows in z]
        hparams = walked.hparams
        of_leaves = [
            tf.reduce_sum(
                tf.reshape(
                    tf.math.multiply_no_nan(rows, a), [rows.shape[0], -1]
                ),
                axis=1,
            )
            for rows, a in zip(z, adjoint, strict=True)
        ]
        # Leaves may have several dtypes.
        d_lambda = tf.add_n([tf.cast(d, hparams[0].dtype) for d in of_leaves])
        is_finite = tf.reduce_all(tf.math.is_finite(d_lambda))
        if not bool(is_finite):
            d_lambda, steps = tf.zeros_like(d_lambda), 0
        sizes = [h.shape.num_elements() for h in hparams]
        d_hparams = [
            tf.reshape(tf.cast(d, h.dtype), h.shape)
            for d, h in zip(tf.split(d_lambda, sizes), hparams, strict=True)
        ]
        # Tangents begin at the start: no adjoint of the first state is left.
        return Derivative(
            d_hparams,
            nested.zeros_like(adjoint),
            False,
            {
                "adjoint_growth": 1.0,
                "reverse_steps": float(walked.span.steps),
                "reverse_steps_used": float(steps),
            },
        )


class Beside(NamedTuple):
    """What goes forward beside a state.

    Attributes:
        tangents: list of tensors Z, see `tangents.none`.
        steps: int32 scalar, the steps that the tangents hold.
    """

    tangents: list[tf.Tensor]
    steps: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Tangents(Recorder):
    """Tangents, which follow the steps.

    Attributes:
        order: as for `tangents.step`.
    """

    order: tuple[int, ...] = ()
    follows = True

    def follow(self, notes, problem, state, hparams, batch):
        z = tangents.step(
            problem, state, hparams, batch, notes.tangents, self.order
        )
        # What is not finite elsewhere comes to the parameters.
        sums = [tf.reduce_sum(rows) for rows in z[: len(state.params)]]
        is_finite = tf.reduce_all([tf.math.is_finite(x) for x in sums])
        # `tf.where` would write all of them anew.
        z = tf.cond(is_finite, lambda: z, lambda: nested.zeros_like(z))
        return Beside(z, tf.where(is_finite, notes.steps + 1, 0))


def _count(state: State) -> int:
    """Returns the optimizer's count of iterations, or a larger number.

    That of several optimizers, or of other things that optimizers count.
    """
    counts = [
        int(x) for x in state.slots if x.dtype.is_integer and x.shape.rank == 0
    ]
    return max(counts, default=0)


def _resized(rows: tf.Tensor, many: int) -> tf.Tensor:
    """Returns the first rows of a tensor, with rows of zeros if it has less."""
    more = many - rows.shape[0]
    if more <= 0:
        return rows[:many]
    zeros = tf.zeros([more, *rows.shape[1:]], rows.dtype)
    return tf.concat([rows, zeros], axis=0)
