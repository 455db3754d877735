"""The optimizer's momentum, or another of its rates of decay."""

import dataclasses
from typing import Any

import keras

from keras_drmad import arguments
from keras_drmad.hyperparameters import layer_choice
from keras_drmad.hyperparameters.optimizer_number import Given, OptimizerNumber
from keras_drmad.hyperparameters.place import Place
from keras_drmad.hyperparameters.transforms import Sigmoid

DECAYS = ("momentum", "beta_1", "beta_2", "rho")
# These use the number in products over steps, or in weights of their own.
REFUSED = (keras.optimizers.Nadam, keras.optimizers.Lion)


@keras.saving.register_keras_serializable("keras_drmad")
class Momentum(OptimizerNumber):
    """The decay of the optimizer's velocity or moments, in (0, 1).

    SGD's momentum γ in v ← γ v − α g; β_1 or β_2 of Adam and its relatives;
    RMSprop's ρ. The raw values are log(γ / (1 − γ)). `OptimizerNumber` explains
    `schedule`.

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
        layers: layer_choice.Layers = None,
        bounds: tuple[float | None, float | None] | None = None,
        name: str | None = None,
    ):
        """Initializes the momenta.

        Args:
            per: which weights share a momentum; see `LearningRate`.
            initial: float in (0, 1), the optimizer's momentum by default.
            schedule: `None`, `"step"` or `"piecewise"`; see `LearningRate`.
            steps: int, T, with `schedule="step"`; otherwise `fit` sets it.
            knots: int, the number of knots, with `schedule="piecewise"`.
            coefficient: `"momentum"`, `"beta_1"`, `"beta_2"` or `"rho"`, the
                number of the optimizer; by default the first of these that the
                optimizer has.
            layers: the layers whose momentum is learned, all by default.
            bounds: `(lowest, highest)` value, either may be `None`.
            name: str, unique among the hyperparameters of a model; by default
                the coefficient's name, or "momentum".

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if an argument is out of its range.
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
                f"{' or '.join(map(repr, wanted))} above 0, other than Nadam "
                "and Lion.",
                received=type(optimizer).__name__,
                advice="Use SGD(momentum=0.9) or Adam.",
            )
        return Given(found[0], float(numbers[found[0]]))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"coefficient": self.coefficient}
