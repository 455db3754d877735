"""The optimizer's momentum, or another of its rates of decay."""

import dataclasses
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad.hyperparameters import groups
from keras_drmad.hyperparameters.optimizer_number import Given, OptimizerNumber
from keras_drmad.hyperparameters.place import Place
from keras_drmad.hyperparameters.transforms import Sigmoid

DECAYS = ("momentum", "beta_1", "beta_2", "rho")
# These use the number in products over steps or weights of their own.
REFUSED = (keras.optimizers.Nadam, keras.optimizers.Lion)


@keras.saving.register_keras_serializable("keras_drmad")
class Momentum(OptimizerNumber):
    """The decay of the optimizer's velocity or moments, in (0, 1).

    SGD's momentum γ in v ← γ v − α g; Adam's β_1 or β_2, and those of its
    relatives; RMSprop's ρ. The raw values are log(γ / (1 − γ)). `schedule` is
    explained in `OptimizerNumber`.

    Example:

    ```python
    kd.hyperparameters.Momentum(per="layer", schedule="piecewise", knots=4)
    kd.hyperparameters.Momentum(coefficient="beta_2")
    ```

    References: Maclaurin, Duvenaud, Adams, *Gradient-based Hyperparameter
    Optimization through Reversible Learning*, ICML 2015,
    https://arxiv.org/abs/1502.03492, section 3.1.
    """

    default_name = "momentum"
    transform = Sigmoid()
    place = Place("update", overrides=True)

    def __init__(
        self,
        per: str = "all",
        initial: float | None = None,
        *,
        schedule: str | None = None,
        steps: int | None = None,
        knots: int = 5,
        coefficient: str | None = None,
        layers: groups.Layers = None,
        bounds: tuple[float | None, float | None] | None = None,
        name: str | None = None,
    ):
        """Initializes the momenta.

        Args:
            per: as for `LearningRate`, and so are the others.
            initial: float in (0, 1), the optimizer's by default.
            schedule: `None`, `"step"` or `"piecewise"`.
            steps: int, T, with `schedule="step"`; otherwise `fit` sets it.
            knots: int, how many, with `schedule="piecewise"`.
            coefficient: `"momentum"`, `"beta_1"`, `"beta_2"` or `"rho"`: which
                of the optimizer's; by default the first that it has.
            layers: the layers whose momentum is learned, all by default.
            bounds: `(lowest, highest)` value, either may be `None`.
            name: str, that of the coefficient, or "momentum", by default.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if an argument is not valid.
        """
        arguments.choice("coefficient", coefficient, (None, *DECAYS))
        super().__init__(
            per,
            initial,
            schedule=schedule,
            steps=steps,
            knots=knots,
            layers=layers,
            bounds=bounds,
            name=name or coefficient,
        )
        self.coefficient = coefficient
        # Methods ask before the optimizer is known: it is SGD's until then.
        self.place = dataclasses.replace(
            self.place, names=(coefficient or "momentum",)
        )

    def given(self, optimizer: keras.Optimizer) -> Given:
        wanted = [self.coefficient] if self.coefficient else DECAYS
        numbers = vars(optimizer)
        found = [name for name in wanted if numbers.get(name)]
        if not found or isinstance(optimizer, REFUSED):
            raise arguments.Refused(
                f"The hyperparameter '{self.name}' needs an optimizer with "
                f"{' or '.join(map(repr, wanted))} above 0, that it can be "
                "learned for.",
                received=type(optimizer).__name__,
                advice="Use SGD(momentum=0.9) or Adam.",
            )
        return Given(found[0], float(numbers[found[0]]))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"coefficient": self.coefficient}
