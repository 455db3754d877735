"""What a model was at `compile`, which settles what is trained."""

import keras

from keras_drmad import keras_internals


class AsCompiled:
    """A model as it was compiled; says what has changed since."""

    def __init__(self, model: keras.Model):
        """Notes what the model is now.

        Args:
            model: the elementary model, built and compiled.
        """
        self._model = model
        self._trainable = _trainable(model)
        self._trained = list(model.trainable_variables)
        self._compiled = keras_internals.compiled_parts(model)

    def check_weights(self) -> None:
        """Checks that the weights that are trained are still the model's.

        Raises:
            ValueError: if one is not.
        """
        there = {id(v) for v in self._model.weights}
        gone = [v.path for v in self._trained if id(v) not in there]
        if not gone:
            return
        raise ValueError(
            "Layers were replaced or quantized after `compile`: "
            f"{', '.join(map(repr, gone))} of the model '{self._model.name}' "
            "are no longer there. What is trained, and what hyperparameters "
            "act on, is settled by `compile`. Call `compile` again, with a new "
            "optimizer."
        )

    def check_trainable(self) -> None:
        """Checks that layers are trainable or not as they were at `compile`.

        Raises:
            ValueError: if they are not, or have other weights by now.
        """
        self.check_weights()
        before, now = self._trainable, _trainable(self._model)
        changed = [
            path
            for key, (path, is_trained) in (before | now).items()
            if key in before and before[key][1] != is_trained
        ]
        trained = self._model.trainable_variables
        new = [v.path for v in trained if id(v) not in before]
        if not changed and not new:
            return
        names = ", ".join(map(repr, dict.fromkeys(changed or new)))
        if not changed:
            raise ValueError(
                f"Layers were added after `compile`: {names} of the model "
                f"'{self._model.name}' are new. What is trained, and what "
                "hyperparameters act on, is settled by `compile`. Call "
                "`compile` again, with a new optimizer."
            )
        raise ValueError(
            f"`trainable` was changed after `compile`, of {names}. What is "
            "trained, and what hyperparameters act on, is settled by "
            "`compile`. Call `compile` again, with a new optimizer, before the "
            "next `fit`; for phases with other layers, use one `fit` for each."
        )

    def check_compiled(self) -> None:
        """Checks that the elementary model was not compiled by itself since.

        Raises:
            ValueError: if it was.
        """
        now = keras_internals.compiled_parts(self._model)
        names = [k for k, one in self._compiled.items() if now[k] is not one]
        if names:
            raise ValueError(
                f"The model '{self._model.name}' was compiled again, by itself "
                "or in another `DrMADModel`, after the `compile` of this one: "
                f"other objects are its {', '.join(names)}. Call `compile` of "
                "this `DrMADModel` again, with a new optimizer, before the "
                "next training; to compile the model for Keras alone, take a "
                "copy of it, `keras.models.clone_model`."
            )


def _trainable(model: keras.Model) -> dict[int, tuple[str, bool]]:
    """Returns path and whether it is trained of each layer and weight."""
    layers = keras_internals.layers_within(model, with_itself=False)
    trained = {id(v) for v in model.trainable_variables}
    return {id(x): (x.path or x.name, x.trainable) for x in layers} | {
        id(v): (v.path, id(v) in trained) for v in model.weights
    }
