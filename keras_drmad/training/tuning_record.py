"""What `fit`s did, in a few numbers for each meta-iteration."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters.base import Hyperparameter

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
ALL = ""  # all entries of a hyperparameter, in the place of a layer


class TuningRecord:
    """What the `fit`s since `compile` did, a row for each meta-iteration.

    The memory does not depend on how many entries a hyperparameter has: of the
    values the record keeps quantiles, of all entries and of each layer's. A
    backup and a saved model have the record, so that a `fit` that goes on goes
    on with the record too. A second `fit` adds rows; `compile` begins anew.

    Attributes:
        rows: list of dict from a name to a number: the logs of each completed
            meta-iteration (of each epoch, with `tune_every`), the diagnostics,
            and the numbers that callbacks added.
        spreads: dict from a hyperparameter's name to a dict from a layer (`""`
            for all entries) to a list: for each row the `QUANTILES` of the
            values with which that meta-iteration trained.
        fits: list of dict, a `fit` each: the number of its `first` row, its
            settings, how it `ended` ("" for while it runs, or was killed), and
            the logs of its last training, `final`, if there was one.
        check: the `HyperparameterCheck` of what the last `fit` left, or `None`;
            not saved.
    """

    def __init__(self, tree: Mapping[str, Any] | None = None):
        """Initializes the record.

        Args:
            tree: what `tree` returned; `None` for a new beginning.
        """
        tree = tree or {"rows": [], "spreads": {}, "fits": []}
        self.rows: list[dict[str, float]] = [dict(x) for x in tree["rows"]]
        self.spreads: dict[str, dict[str, list[list[float]]]] = {
            name: {layer: list(rows) for layer, rows in layers.items()}
            for name, layers in tree["spreads"].items()
        }
        self.fits: list[dict[str, Any]] = [dict(x) for x in tree["fits"]]
        self.check: Any = None

    def tree(self) -> dict[str, Any]:
        """Returns all but the check, in dicts, lists, numbers and strings."""
        return {
            "rows": [dict(row) for row in self.rows],
            "spreads": {
                name: {layer: list(rows) for layer, rows in layers.items()}
                for name, layers in self.spreads.items()
            },
            "fits": [dict(one) for one in self.fits],
        }

    # ---- what `fit` tells

    def begin(self, **settings: Any) -> None:
        """Is told that a `fit` begins, and its settings."""
        self.check = None
        first = {"first": len(self.rows), "ended": "", "final": {}}
        self.fits.append(settings | first)

    def add(
        self,
        kinds: Sequence[Hyperparameter],
        hparams: Sequence[tf.Tensor],
        logs: Mapping[str, Any],
    ) -> None:
        """Is told of a completed meta-iteration.

        Args:
            kinds: the hyperparameters.
            hparams: list of tensors λ, with which it trained.
            logs: its logs.
        """
        for kind, raw in zip(kinds, hparams, strict=True):
            values = kind.transform.value(raw).numpy()
            layers = {ALL: values, **by_layer(kind, values)}
            own = self.spreads.setdefault(kind.name, {})
            for layer, entries in layers.items():
                found = np.quantile(np.ravel(entries), QUANTILES)
                own.setdefault(layer, []).append(found.tolist())
        self.rows.append({})
        self.amend(logs)

    def amend(self, logs: Mapping[str, Any]) -> None:
        """Is told of further logs of the last meta-iteration."""
        self.rows[-1] |= _numbers(logs)

    def end(self, how: str) -> None:
        """Is told how the `fit` ends, in words, unless that was told."""
        self.fits[-1]["ended"] = self.fits[-1]["ended"] or how

    def break_off(self, error: BaseException) -> None:
        """Is told what ends the `fit`, unless its end was told."""
        is_asked = isinstance(error, KeyboardInterrupt)
        self.end("interrupted" if is_asked else f"broken off: {error!r}")

    def finish(self, logs: Mapping[str, Any]) -> None:
        """Is told the logs of the last training of a `fit`."""
        self.fits[-1]["final"] = _numbers(logs)

    def follow(self, kinds: Sequence[Hyperparameter]) -> None:
        """Takes over the names that kinds and their layers have by now.

        Keras counts the layers of a process in the names that it gives, so
        those of a model that was built again are others.

        Args:
            kinds: the hyperparameters, as many and in the order of the record.
        """
        if len(self.spreads) != len(kinds):
            return
        names = {}
        spreads: dict[str, dict[str, list[list[float]]]] = {}
        for kind, old in zip(kinds, self.spreads, strict=True):
            rows = self.spreads[old]
            values = kind.value().numpy()
            layers = {ALL: values, **by_layer(kind, values)}
            if len(layers) == len(rows):
                rows = dict(zip(layers, rows.values(), strict=True))
            names[old], spreads[kind.name] = kind.name, rows
        self.spreads = spreads
        self.rows = [renamed(row, names) for row in self.rows]
        for one in self.fits:
            one["final"] = renamed(one["final"], names)

    # ---- for readers

    def series(self, name: str) -> np.ndarray:
        """Returns a number of each row, nan where a row lacks it."""
        return np.array([row.get(name, np.nan) for row in self.rows])

    @property
    def losses(self) -> list[str]:
        """The names of the losses that any row has.

        A callback adds its own to a row after others have saved the model.
        """
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [name for name in names if name.endswith("loss")]

    @property
    def best(self) -> int:
        """The number of the row with the lowest `val_loss`, from 0.

        Of the rows of the last `fit` that has any: what it leaves is its own
        best, and others may have had other validation data.
        """
        begins = [one["first"] for one in self.fits]
        first = max(k for k in begins if k < len(self.rows))
        return first + int(np.nanargmin(self.series("val_loss")[first:]))

    @property
    def final(self) -> dict[str, float]:
        """The logs of the last training of the last `fit`, {} without one."""
        return self.fits[-1]["final"] if self.fits else {}


def by_layer(kind: Hyperparameter, values: np.ndarray) -> dict[str, np.ndarray]:
    """Returns values by their layers; under `ALL` where there are no layers."""
    layers = kind.by_layer(values[np.newaxis])
    return {ALL: values} if list(layers) == [kind.name] else layers


def renamed(logs: Mapping[str, Any], names: Mapping[str, str]) -> dict:
    """Returns logs under other names of hyperparameters.

    Args:
        logs: dict from a name, such as "dropout.rate/mean", to what was logged.
        names: dict from a hyperparameter's name to another one.
    """
    pairs = ((key.partition("/"), log) for key, log in logs.items())
    return {
        f"{names.get(name, name) if rest else name}{slash}{rest}": log
        for (name, slash, rest), log in pairs
    }


def counts(callbacks: Any) -> dict[str, int]:
    """Returns how many entries each name has in the history."""
    return {name: len(row) for name, row in _history(callbacks).items()}


def new_logs(callbacks: Any, before: Mapping[str, int]) -> dict[str, Any]:
    """Returns the logs of an epoch, with what callbacks have added to them.

    Args:
        callbacks: Keras's list.
        before: what `counts` returned before the epoch's end.
    """
    return {
        name: row[-1]
        for name, row in _history(callbacks).items()
        if len(row) > before.get(name, 0)
    }


def _history(callbacks: Any) -> dict[str, list]:
    for one in callbacks.callbacks:
        if isinstance(one, keras.callbacks.History):
            return one.history
    return {}


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """Returns the logs that are numbers; a metric may return an array."""
    arrays = {name: np.asarray(log) for name, log in logs.items()}
    return {
        name: float(array)
        for name, array in arrays.items()
        if array.ndim == 0 and array.dtype.kind in "biuf"
    }
