"""Implicit differentiation at the end of a training: solving, not walking.

q:   H q = ∂F/∂w_T         H the mean Hessian of some minibatches, at w_T
dλ = − (∂²L/∂w∂λ)ᵀ q
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.curvature import HESSIAN
from keras_drmad.core.solve import solve
from keras_drmad.core.span import Span
from keras_drmad.core.state import Curvature, State
from keras_drmad.core.walk import Walk
from keras_drmad.core.walked import Derivative, Walked
from keras_drmad.differentiation.base import Differentiation

CG_BATCHES = 50  # the minibatches whose mean Hessian counts, at most


@dataclasses.dataclass(frozen=True)
class ImplicitFunction(Differentiation):
    """The implicit function theorem at the last parameters, by a solver.

    Exact where training has come to a minimum of the mean loss of the last
    minibatches, and the solver to the solution. Memory: five copies of the
    parameters. Time: K + 1 Hessian-vector products with up to 50 minibatches.
    Sees only what the training loss depends on: no learning rate, no initial
    weights.

    Attributes:
        solves: K, the number of conjugate gradient iterations, at most.
        curvature: the second derivative.

    References: Pedregosa, *Hyperparameter Optimization with Approximate
    Gradient*, ICML 2016, https://arxiv.org/abs/1602.02355, Algorithm 1.
    """

    solves: int
    curvature: Curvature = HESSIAN

    def iterations(self, span: Span) -> np.ndarray:
        batches = min(span.steps, CG_BATCHES)
        return np.arange(span.last - batches, span.last)

    def visits(self, span: Span) -> int:
        return (self.solves + 1) * len(self.iterations(span))

    def nbytes(self, T: int, state: State) -> float:
        return 5 * nested.nbytes(state.params)

    def forward(
        self, walk: Walk, s: State, hparams: list[tf.Tensor], span: Span
    ) -> Walked:
        return walk.through(s, hparams, span, self.iterations(span))

    def backward(
        self, walk: Walk, walked: Walked, adjoint: list[tf.Tensor]
    ) -> Derivative:
        iterations = self.iterations(walked.span)
        products = walk.products(walked, iterations, self.curvature)
        d_params = adjoint[: len(walked.state.params)]
        solved = solve(lambda p: products(p)[0], d_params, self.solves)
        d_hparams = nested.scale(-1.0, products(solved.q)[1])
        if not np.isfinite(nested.norm(d_hparams)):
            d_hparams = nested.zeros_like(d_hparams)
            solved = solved._replace(iterations=0, residual=1.0)
        asked = solved.iterations if solved.is_solved else self.solves
        # What is solved at the end knows no first state.
        return Derivative(
            d_hparams,
            nested.zeros_like(adjoint),
            False,
            {
                "adjoint_growth": 1.0,
                "reverse_steps": float(asked),
                "reverse_steps_used": float(solved.iterations),
                "residual": solved.residual,
            },
        )
