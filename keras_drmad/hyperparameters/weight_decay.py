"""The optimizer's decoupled weight decay."""

import keras

from keras_drmad.hyperparameters.optimizer_number import OptimizerNumber
from keras_drmad.hyperparameters.place import Place
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
    default_name = "weight_decay"
    place = Place("update", ("weight_decay",), overrides=True)

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
