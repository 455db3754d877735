"""What a tuning does, for TensorBoard."""

import pathlib
import re
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.training.tuning_record import QUANTILES, by_layer

NAME = "tuning"  # of the run, beside Keras's "train" and "validation"
ROW = "fit"  # the runs of the HParams tab, with their numbers
MEDIAN = QUANTILES.index(0.5)
COLUMNS = 50  # of the HParams tab, at most
SETTINGS = ("steps", "initial_weights", "keep", "draws", "seed")
DIAGNOSTICS = ("hypergradient_norm", "adjoint_growth", "reverse_steps_used")


class TensorBoard(keras.callbacks.Callback):
    """Writes hyperparameters and diagnostics for TensorBoard.

    Beside `keras.callbacks.TensorBoard`, which writes losses and metrics; both
    may have the same folder. For each meta-iteration: a histogram of the values
    of each hyperparameter with which the meta-iteration trained; scalars with
    medians of the layers' values, the norm of the hypergradient and the growth
    of the adjoint. At the end of each `fit`, a row for the HParams tab: medians
    of the values that the model ends with (50 columns at most), and the lowest
    and the last `val_loss`. A further `fit` goes on with the numbers of the one
    before; after a new `compile`, or with another model in the same folder,
    there is a new run, `tuning_2`.

    Needs tensorboard: `pip install keras_drmad[tensorboard]`. Example:

    ```python
    model.fit(..., callbacks=[
        keras.callbacks.TensorBoard("logs/run_1"),
        kd.callbacks.TensorBoard("logs/run_1"),
    ])
    # tensorboard --logdir logs
    ```
    """

    def __init__(self, log_dir: Any = "logs", *, histograms: bool = True):
        """Initializes the callback.

        Args:
            log_dir: path of the folder of the run.
            histograms: bool, whether to write histograms of all values.

        Raises:
            ImportError: if there is no tensorboard.
        """
        super().__init__()
        _plugin()
        self.log_dir = str(log_dir)
        self.histograms = histograms
        self._writer: Any = None
        self._seen = 0
        self._of: Any = None  # the record of which the run tells
        self._run = ""

    def on_train_begin(self, logs: Any = None) -> None:
        self._seen = len(self.model.tuning_record.rows)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        record = self.model.tuning_record
        is_chief = getattr(self.model, "is_chief", True)
        if not is_chief or len(record.rows) == self._seen:
            return  # or nothing is tuned
        self._seen = len(record.rows)
        step, row = len(record.rows) - 1, record.rows[-1]
        if self._writer is None:
            self._writer = self._begun(record, step)
        with self._writer.as_default(step):
            for name in DIAGNOSTICS:
                if name in row:
                    tf.summary.scalar(f"diagnostics/{name}", row[name])
            for h in self.model.hyperparameters:
                if self.histograms:
                    tf.summary.histogram(f"hyperparameters/{h.name}", h.value())
                for layer, rows in record.spreads[h.name].items():
                    tf.summary.scalar(
                        f"medians/{_label(h.name, layer)}", rows[-1][MEDIAN]
                    )
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        if self._writer is None:
            return  # not the chief, or nothing was tuned
        self._writer.close()
        self._writer = None
        self._write_row(self.model.tuning_record)

    def _begun(self, record: Any, step: int) -> Any:
        """Returns the writer of a run, which goes on or is a new one."""
        if record is not self._of:
            last = self._last(NAME)
            number = last + 1 if step == 0 else max(last, 1)
            self._run = NAME if number == 1 else f"{NAME}_{number}"
            self._of = record
        folder = pathlib.Path(self.log_dir) / self._run
        return tf.summary.create_file_writer(str(folder))

    def _last(self, name: str) -> int:
        """Returns the highest number among the runs of a name, 0 for none."""
        pattern = re.compile(rf"{name}(?:_([0-9]+))?")
        folders = pathlib.Path(self.log_dir).glob(f"{name}*")
        found = (pattern.fullmatch(folder.name) for folder in folders)
        return max((int(one[1] or 1) for one in found if one), default=0)

    def _write_row(self, record: Any) -> None:
        """Writes a row of the HParams tab, a run of its own."""
        plugin, number = _plugin(), self._last(ROW) + 1
        losses = record.series("val_loss")[record.fits[-1]["first"] :]
        metrics = {
            "tuning/best_val_loss": np.nanmin(losses),
            "tuning/last_val_loss": record.final.get("val_loss", losses[-1]),
        }
        shown = self._columns(record)
        folder = pathlib.Path(self.log_dir) / f"{ROW}_{number}"
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default(len(record.rows)):
            plugin.hparams_config(
                hparams=[plugin.HParam(name) for name in shown],
                metrics=[plugin.Metric(name) for name in metrics],
            )
            plugin.hparams(shown, trial_id=str(folder))
            for name, loss in metrics.items():
                tf.summary.scalar(name, loss)
        writer.close()

    def _columns(self, record: Any) -> dict[str, Any]:
        """Returns settings, and medians of the values now, by layer."""
        fit = record.fits[-1]
        shown = {name: fit[name] for name in SETTINGS}
        for h in self.model.hyperparameters:
            value = h.value().numpy()
            for layer, own in by_layer(h, value).items():
                shown[_label(h.name, layer)] = float(np.median(own))
        return dict(list(shown.items())[:COLUMNS])


def _label(name: str, layer: str) -> str:
    return f"{name}/{layer}" if layer else name


def _plugin() -> Any:
    """Returns TensorBoard's plugin for hyperparameters.

    Raises:
        ImportError: if there is no tensorboard.
    """
    try:
        from tensorboard.plugins.hparams import api
    except ImportError as error:
        raise ImportError(
            "`keras_drmad.callbacks.TensorBoard` needs tensorboard. Run "
            "`pip install keras_drmad[tensorboard]`."
        ) from error
    return api
