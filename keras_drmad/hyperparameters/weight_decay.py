"""The optimizer's decoupled weight decay."""

import keras

from keras_drmad.hyperparameters import groups
from keras_drmad.hyperparameters.optimizer_number import OptimizerNumber
from keras_drmad.hyperparameters.transforms import Log


@keras.saving.register_keras_serializable("keras_drmad")
class WeightDecay(OptimizerNumber):
    """The decay δ in w ← w − α δ w, apart from the gradient's step.

    That of AdamW, and of any Keras optimizer with `weight_decay`; α is the
    learning rate. Weights that the optimizer excludes from decay stay
    excluded. The raw values are logarithms. `schedule` is explained in
    `OptimizerNumber`.

    Example:

    ```python
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.01),
        hyperparameters=[kd.hyperparameters.WeightDecay(per="layer")], ...
    )
    ```

    References: Loshchilov, Hutter, *Decoupled Weight Decay Regularization*,
    ICLR 2019, https://arxiv.org/abs/1711.05101.
    """

    transform = Log()
    numbers = ("weight_decay",)

    def __init__(
        self,
        per: str = "all",
        initial: float | None = None,
        schedule: str | None = None,
        steps: int | None = None,
        knots: int = 5,
        layers: groups.Layers = None,
        bounds: tuple[float | None, float | None] | None = None,
        name: str = "weight_decay",
    ):
        """Initializes the decays.

        Args:
            per: as for `LearningRate`, and so are the others.
            initial: positive float, the optimizer's by default.
            schedule: `None`, `"step"` or `"piecewise"`.
            steps: int, T, with `schedule="step"`; otherwise `fit` sets it.
            knots: int, how many, with `schedule="piecewise"`.
            layers: the layers whose decay is learned, all by default.
            bounds: `(lowest, highest)` value, either may be `None`.
            name: str, unique among the hyperparameters of a model.

        Raises:
            TypeError: if `initial` is not a number.
            ValueError: if an argument is not valid.
        """
        super().__init__(
            per, initial, schedule, steps, knots, layers, bounds, name
        )

    def _given(self, optimizer: keras.Optimizer) -> float:
        if not optimizer.weight_decay:
            raise ValueError(
                f"The hyperparameter '{self.name}' needs an optimizer with "
                "decoupled weight decay. Received: "
                f"{type(optimizer).__name__} with "
                f"weight_decay={optimizer.weight_decay}. Use AdamW, or pass "
                "`weight_decay=0.004` to the optimizer."
            )
        return float(optimizer.weight_decay)
