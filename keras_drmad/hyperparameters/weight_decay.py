"""The optimizer's decoupled weight decay."""

import keras

from keras_drmad import arguments
from keras_drmad.hyperparameters.optimizer_number import Given, OptimizerNumber
from keras_drmad.hyperparameters.place import Place
from keras_drmad.hyperparameters.transforms import Log


@keras.saving.register_keras_serializable("keras_drmad")
class WeightDecay(OptimizerNumber):
    """The decay δ in w ← w − α δ w, apart from the gradient's step.

    The decay of AdamW, and of any Keras optimizer with `weight_decay`; α is the
    learning rate. Weights that the optimizer excludes from decay stay
    excluded. The raw values are logarithms. `OptimizerNumber` explains
    `schedule`.

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
    default_name = "weight_decay"
    place = Place("update", ("weight_decay",), overrides=True)

    def given(self, optimizer: keras.Optimizer) -> Given:
        decay = optimizer.weight_decay
        name = type(optimizer).__name__
        if not decay:
            raise arguments.Refused(
                f"The hyperparameter '{self.name}' needs an optimizer with "
                "decoupled weight decay.",
                received=f"{name} with weight_decay={decay}",
                advice="Use AdamW, or pass `weight_decay=0.004` to the "
                "optimizer.",
            )
        return Given("weight_decay", float(decay))
