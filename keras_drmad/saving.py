"""How a `DrMADModel` leaves: in files, and as plain Keras."""

import copy
import inspect
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

import h5py
import keras
import numpy as np

from keras_drmad import arguments, keras_internals, layer_places
from keras_drmad.export.plain_builder import exported
from keras_drmad.export.plain_keras import PlainKeras
from keras_drmad.layers.in_layers import InLayer
from keras_drmad.remembering import Remembering
from keras_drmad.seam.traits import check_trainable
from keras_drmad.training import fingerprints
from keras_drmad.training.kept import Left, Resumed
from keras_drmad.training.tuning import POLICIES
from keras_drmad.training.tuning_record import TuningRecord
from keras_drmad.wrapper import COMPILE_ARGUMENTS

CHANGED = (
    "The model '{name}' was changed after `compile` (layers were frozen, "
    "replaced, quantized or given LoRA weights), and can't be compiled as it "
    "was. So the file has the weights, but no optimizer, loss and "
    "hyperparameters. To keep these, save before the change, or compile again."
)
NOT_COMPILED = (
    "The `compile` of the class {name} takes {lacks}, which the file does not "
    "have. Let `get_compile_config` of the class return them too, before you "
    "save. Or load the model by `load_model(..., compile=False)`, compile it, "
    "and call its `load_weights` with the file, which has the hyperparameters."
)
NOT_COMPARED = ("callbacks", "verbose")  # by a backup
OWN = "keras_drmad"  # the group of what a plain model does not have
OF_ONE_PATH = (
    "These hyperparameters were tuned with `initial_weights='same'`: they are "
    "fitted to one draw of initial weights and batches, and may be worse than "
    "untuned ones for another draw. Ask `model.check_hyperparameters`, or tune "
    "with `initial_weights='resample'`."
)


class Saved(Remembering):
    """A model that is saved with hyperparameters and what `fit` needs."""

    meta_optimizer: Any
    _given_meta_optimizer: Any
    _jit_choice: Any

    # ---- plain Keras

    def to_keras(self) -> PlainKeras:
        """Returns what plain Keras needs to train with what was learned.

        Regularizers, the optimizer with its learning rate or a schedule of it,
        the loss, weights of losses and examples, training data and initial
        weights: in classes of Keras alone, and exact: the same training in
        plain Keras gives the same weights, but for rounding. (With
        `ScheduleFreeAdamW` it does not: Keras steps otherwise on TensorFlow,
        and loses the first weights unless
        `plain.optimizer.build(other.trainable_variables)` goes before `fit`.)
        What Keras has no place for is left out, with a warning that names it
        and says what to do. Values that were tuned with
        `initial_weights="same"` are good for these weights and this order of
        the data, and another warning says so.

        Example:

        ```python
        plain = model.to_keras()
        for v in other.trainable_variables:  # a plain model of the same layers
            v.regularizer = plain.regularizers[v.path]
        other.compile(plain.optimizer, plain.loss, plain.loss_weights)
        other.fit(x, y, sample_weight=plain.sample_weight)
        plain.save("tuned")  # a folder for Keras, json and NumPy
        ```

        Returns:
            `PlainKeras`.

        Raises:
            ValueError: if the model is not compiled, has other weights by now,
                or was compiled by itself since, or two of its weights have the
                same path.
        """
        self.check_compiled()
        self._assembly.as_compiled.check_weights()
        self._assembly.as_compiled.check_compiled()
        self._assembly.hyperparameters.check_bound(self.elementary_model)
        self.follow_weights()
        if self.tuned_from == "same":
            warnings.warn(OF_ONE_PATH, RuntimeWarning, stacklevel=2)
        with keras_internals.outside_of_scopes():
            return exported(
                self.elementary_model, self.optimizer, self.hyperparameters
            )

    # ---- saving

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments.

        Raises:
            ValueError: if they are asked for by the old format of Keras.
        """
        if keras_internals.is_saving_as_hdf5():
            arguments.keras_file("filepath", "model.h5")
        return super().get_config()

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns the arguments of `compile`, serialized.

        `None`, with a warning, where a model that is loaded could not be
        compiled with these, for layers have changed since.
        """
        if not self.compiled:
            return None
        if not self._compiles_again():
            text = CHANGED.format(name=self.name)
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return None
        config = dict(self.elementary_model.get_compile_config())
        serialize = keras.saving.serialize_keras_object
        return config | {
            "places": {
                **keras_internals.paths(self.elementary_model),
                "chosen": layer_places.chosen(
                    self.elementary_model, self.hyperparameters
                ),
            },
            "hyperparameters": [
                serialize(h)
                for h in self.hyperparameters
                if not isinstance(h, InLayer)  # its layer has it
            ],
            "hypergradient": serialize(self.method),
            "meta_optimizer": serialize(self._given_meta_optimizer),
            "jit_compile": self._jit_choice,
            "self_check": self._assembly.self_check,
        }

    def _compiles_again(self) -> bool:
        """Returns whether the hyperparameters still fit the layers."""
        try:
            self.check_trainable()
            return True
        except ValueError:
            model = self.elementary_model
        kinds = [h for h in self.hyperparameters if not isinstance(h, InLayer)]
        again = [copy.copy(h) for h in kinds]
        try:
            check_trainable(model)
            for h in again:
                h.bind(model, self.optimizer)
        except ValueError:
            return False
        return all(
            a.raw.shape == h.raw.shape
            for a, h in zip(again, kinds, strict=True)
        )

    def in_words(self, x: Any, y: Any, given: dict[str, Any]) -> dict[str, str]:
        """Returns in words what `compile` and `fit` were given, to compare.

        Args:
            x: as for `fit`.
            y: as for `fit`.
            given: its other arguments by name.
        """
        if not self._compiled_with:  # numbers in there may change within `fit`
            model = self.elementary_model
            given_to_compile = {
                "optimizer": self.optimizer,
                "loss": model.loss,
                "loss_weights": keras_internals.given_loss_weights(model),
                "hyperparameters": self.hyperparameters,
                "hypergradient": self.method,
                "meta_optimizer": self._given_meta_optimizer,
                "jit_compile": self._jit_choice,
            }
            self._compiled_with = fingerprints.of_model(model, given_to_compile)
        told = {k: v for k, v in given.items() if k not in NOT_COMPARED}
        told = fingerprints.of_arguments({"x": x, "y": y, **told})
        return told | self._compiled_with

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles with the arguments that `get_compile_config` returned.

        Raises:
            ValueError: if the `compile` of a subclass takes others.
        """
        parameters = inspect.signature(self.compile).parameters.values()
        lacks = [
            p.name
            for p in parameters
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            and p.name not in (*config, *COMPILE_ARGUMENTS)
        ]
        if lacks:
            name = type(self).__name__
            raise ValueError(NOT_COMPILED.format(name=name, lacks=lacks))
        config = dict(config)
        places = config.pop("places", {})
        keras_internals.set_paths(self.elementary_model, places)
        given = keras.saving.deserialize_keras_object(config)
        layer_places.choose(
            self.elementary_model, given, places.get("chosen", {})
        )
        self.compile(**given)
        self.optimizer.build(self.trainable_variables)

    @keras_internals.outside
    def save(
        self, filepath: Any, overwrite: bool = True, zipped: Any = None, **rest
    ) -> None:
        """Saves the model, as `keras.Model`, in a `.keras` file.

        Raises:
            ValueError: if the file is another one; HDF5 has no place for
                hyperparameters.
        """
        arguments.keras_file("filepath", filepath)
        super().save(filepath, overwrite, zipped, **rest)

    @keras_internals.outside
    def save_weights(
        self, filepath: Any, overwrite: bool = True, **options: Any
    ) -> None:
        """Saves weights and hyperparameters, as `keras.Model`.

        The elementary model can load the file, and a plain model like it.
        """
        if not str(filepath).endswith(".h5"):  # in parts
            super().save_weights(filepath, overwrite, **options)
            return
        self.elementary_model.save_weights(filepath, overwrite, **options)
        with h5py.File(filepath, "a") as file:
            group = file.require_group(OWN)
            group.clear()
            self.save_own_variables(group)
            if hasattr(self, "meta_optimizer"):
                moves = group.create_group("meta_optimizer")
                self.meta_optimizer.save_own_variables(moves)

    def load_weights(self, filepath: Any, **options: Any) -> None:
        """Loads weights, as `keras.Model`, also those of a plain model.

        Hyperparameters, and what is known of their tuning, stay as they are
        where the file has none; with `skip_mismatch=True` also where it has
        others, with a warning.

        Raises:
            ValueError: if the file has other weights or hyperparameters.
        """
        if not keras_internals.is_plain_file(filepath, "elementary_model"):
            super().load_weights(filepath, **options)
            return
        self.elementary_model.load_weights(filepath, **options)
        if not str(filepath).endswith(".h5"):
            return
        with h5py.File(filepath, "r") as file:
            group = file.get(OWN, {})
            moves = group.get("meta_optimizer", {})
            try:
                self.load_own_variables(group)
            except ValueError as error:
                if not options.get("skip_mismatch"):
                    raise
                text = f"Hyperparameters stay as they are. {error}"
                warnings.warn(text, UserWarning, stacklevel=2)
                return
            if len(moves) and hasattr(self, "meta_optimizer"):
                self.meta_optimizer.load_own_variables(moves)

    def save_own_variables(self, store) -> None:
        """Saves hyperparameters and, within `fit`, what resuming it needs."""
        if self.compiled:
            self.follow_weights()
        for h in getattr(self, "hyperparameters", []):
            store[f"hyperparameter_{h.name}"] = h.raw.numpy()
        kept: dict[str, list] = {"untuned": self.untuned}
        if names := [h.name for h in getattr(self, "hyperparameters", [])]:
            kept["names"] = [_letters(json.dumps(names))]
        units = [h.units_at_first for h in getattr(self, "hyperparameters", [])]
        if any(one is not None for one in units):
            kept["units"] = [() if one is None else one for one in units]
        if self.tuning_record.rows:
            text = json.dumps(self.tuning_record.tree())
            kept["record"] = [_letters(text)]
        if self.tuned_from:
            kept["policy"] = [POLICIES.index(self.tuned_from)]
        if self.progress is not None:
            kept |= self.progress.values()
        elif self.has_left():
            origin = self.origin_of_trainings()
            if origin.is_complete:  # others could not be resumed
                kept["origin"] = origin.values()
        if self.progress is None and self.left.pending:
            raws = [h.raw for h in self.hyperparameters]
            kept["pending"] = self.left.at(raws, self.meta_optimizer)
        if self.progress is None and ("origin" in kept or not self.has_left()):
            # Elsewhere the model has trained weights, which none are to follow.
            follows = [h.follows for h in getattr(self, "hyperparameters", [])]
            kept["follows"] = follows if any(follows) else []
        for name, values in kept.items():
            for k, value in enumerate(values):
                store[f"{name}_{k}"] = np.asarray(value)

    def load_own_variables(self, store) -> None:
        """Loads what `save_own_variables` saved.

        A file without hyperparameters leaves these, and what is known of
        their tuning, as they are.

        Raises:
            ValueError: if these are other hyperparameters than the model's.
        """
        saved = {
            key: np.asarray(store[key])
            for key in store.keys()  # noqa: SIM118
            if key != "meta_optimizer"
        }
        kinds = list(getattr(self, "hyperparameters", []))
        there = {k for k in saved if k.startswith("hyperparameter_")}
        own = {f"hyperparameter_{h.name}": h for h in kinds}
        if not there:
            return

        def listed(name: str) -> list[np.ndarray]:
            count = sum(key.startswith(f"{name}_") for key in saved)
            return [saved[f"{name}_{k}"] for k in range(count)]

        names = [json.loads(text.tobytes()) for text in listed("names")]
        if names and there != set(own):  # of layers that Keras has counted
            first = [f"hyperparameter_{name}" for name in names[0]]
            if _are_alike(names[0], [saved[k] for k in first], kinds):
                there, own = set(first), dict(zip(first, kinds, strict=True))
        if there and own and there != set(own):
            received = [
                k.removeprefix("hyperparameter_") for k in sorted(there)
            ]
            raise ValueError(
                "Expected a file with the hyperparameters of this model, "
                f"{[h.name for h in kinds]}. Received: {received}. Compile the "
                "model with these before you load the file, or load it into "
                "`model.elementary_model`."
            )
        for key in there & set(own):
            before, now = saved[key].shape, tuple(own[key].raw.shape)
            if before != now:
                raise ValueError(
                    f"Expected a file with values of the shape {now} for the "
                    f"hyperparameter '{own[key].name}'. Received: {before}. "
                    "Compile the model as the one that was saved, or load the "
                    "file into `model.elementary_model`."
                )
        for key in there & set(own):
            own[key].raw.assign(saved[key])

        self.resumed = Resumed(*map(listed, Resumed._fields))
        self.untuned = listed("untuned")
        for h, units in zip(kinds, listed("units"), strict=False):
            h.units_at_first = units if units.size else None
        for h, follows in zip(kinds, listed("follows"), strict=False):
            h.followed = h.raw.numpy() if follows else None
        trees = [json.loads(text.tobytes()) for text in listed("record")]
        self.tuning_record = TuningRecord(*trees)
        self.tuning_record.follow(kinds)
        for policy in listed("policy"):
            self.tuned_from = POLICIES[int(policy)]
        if self.resumed.origin:
            self._origin, self._saved_origin = None, self.resumed.origin
        raws = [h.raw.numpy() for h in kinds]
        self.left = Left(self.resumed.pending, raws)


def _letters(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _are_alike(
    names: Sequence[str], raws: Sequence[np.ndarray], kinds: Sequence[Any]
) -> bool:
    """Returns whether saved values are those of kinds, in the order of both.

    Those in layers go by the attribute: where Keras has named the layer, it
    has counted those of the process.

    Args:
        names: the names of the saved ones.
        raws: their raw values.
        kinds: the hyperparameters of a model.
    """
    if len(names) != len(kinds):
        return False

    def attribute(name: str) -> str:
        return re.sub(r"_\d+$", "", name.rpartition(".")[2])

    return all(
        kind.raw.shape == raw.shape
        and (
            kind.name == name
            or isinstance(kind, InLayer)
            and attribute(kind.name) == attribute(name)
        )
        for name, raw, kind in zip(names, raws, kinds, strict=True)
    )
