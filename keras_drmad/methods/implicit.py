"""Methods that look at the end of a training only."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad.core.span import up_to_moves
from keras_drmad.core.state import State
from keras_drmad.differentiation.base import Differentiation
from keras_drmad.differentiation.end import AtEnd
from keras_drmad.differentiation.implicit import ImplicitFunction
from keras_drmad.methods.base import CURVATURES, Method, Tuned, accumulated

SOLVERS = ("neumann", "cg")


class _AtTheEnd(Method):
    """What the methods have in common that look at the end of a training."""

    def check(self, optimizer: Any, hyperparameters: Sequence[Tuned]) -> None:
        blind_to = [h for h in hyperparameters if h.acts_on != "loss"]
        self.refuse(blind_to, "what moves the minimum of the training loss")


@keras.saving.register_keras_serializable("keras_drmad")
class Implicit(_AtTheEnd):
    """The hypergradient of a minimum of the training loss, by its Hessian.

    At a minimum w* of the training loss L the implicit function theorem gives

        dF/dλ = − ∂F/∂w (∂²L/∂w²)^-1 ∂²L/∂w∂λ,

    here at the last weights. `"neumann"` sums K terms of the Neumann series of
    the inverse, as a walk backward of K steps that stays at the end
    (`differentiation.end`); `"cg"` solves by K conjugate gradients with
    the mean Hessian of the last minibatches (`differentiation.implicit`).

    Approximates: training stops short of a minimum, and K is finite. Memory:
    one copy of the training's state (`"cg"`: five vectors more). Time: K
    reverse steps (`"cg"`: K + 1 Hessian products with up to 50 minibatches).
    Sees only what the training loss depends on: no learning rate, no
    schedule, no initial weights. Prefer it where trainings are long and
    converge.

    Example:

    ```python
    model.compile(..., hypergradient=kd.Implicit("cg", terms=20))
    ```

    References: Pedregosa, *Hyperparameter Optimization with Approximate
    Gradient*, ICML 2016, https://arxiv.org/abs/1602.02355. Lorraine, Vicol,
    Duvenaud, *Optimizing Millions of Hyperparameters by Implicit
    Differentiation*, AISTATS 2020, https://arxiv.org/abs/1911.02590.
    """

    def __init__(
        self,
        solver: str = "neumann",
        terms: int = 20,
        *,
        curvature: str = "hessian",
    ):
        """Initializes the method.

        Args:
            solver: `"neumann"` or `"cg"`.
            terms: K, at least 1: for `"neumann"` the terms of the series, at
                most T; for `"cg"` the iterations of the solver.
            curvature: `"hessian"` or `"gauss_newton"`, see `DrMAD`.

        Raises:
            TypeError: if `terms` is not a whole number.
            ValueError: if an argument is out of its range.
        """
        arguments.choice("solver", solver, SOLVERS)
        arguments.whole("terms", terms, 1)
        arguments.choice("curvature", curvature, list(CURVATURES))
        self.solver = solver
        self.terms = terms
        self.curvature = curvature

    def bind(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> Differentiation:
        curvature = CURVATURES[self.curvature]
        if self.solver == "cg":
            return ImplicitFunction(self.terms, curvature)
        every = accumulated(optimizer)
        terms = arguments.count_of("terms", self.terms, T)
        return AtEnd(up_to_moves(terms, T, every), curvature, every)

    def get_config(self) -> dict[str, Any]:
        return {
            "solver": self.solver,
            "terms": self.terms,
            "curvature": self.curvature,
        }


@keras.saving.register_keras_serializable("keras_drmad")
class OneStep(_AtTheEnd):
    """The hypergradient of the last training step (T1-T2).

    Takes the inverse Hessian for the identity: its direction says how the last
    step would have changed, not the whole training. Memory: one copy of the
    training's state. Time: one reverse step. Sees only what the training loss
    depends on. Prefer it where nothing else is affordable.

    Example:

    ```python
    model.compile(..., hypergradient=kd.OneStep())
    ```

    References: Luketina, Berglund, Greff, Raiko, *Scalable Gradient-Based
    Tuning of Continuous Regularization Hyperparameters*, ICML 2016,
    https://arxiv.org/abs/1511.06727.
    """

    def bind(
        self,
        T: int,
        state: State,
        hyperparameters: Sequence[Tuned] = (),
        optimizer: Any = None,
    ) -> Differentiation:
        every = accumulated(optimizer)
        return AtEnd(up_to_moves(1, T, every), every=every)
