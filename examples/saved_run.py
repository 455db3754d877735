"""The folder in which an experiment keeps what it found."""

from __future__ import annotations  # TensorFlow waits for good flags

import csv
import datetime
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from absl import flags, logging

if TYPE_CHECKING:
    import keras

    import keras_drmad as kd

# Flags that say where files are and how many processes work.
PLACES = ("data_dir", "processes", "run_name", "save_dir")
flags.disclaim_key_flags()  # they belong to the program that asks for them


def define_flags(data: bool = True) -> None:
    """Defines the flags that say where data and runs are.

    Args:
        data: bool, whether the program reads data from a folder.
    """
    if data:
        flags.DEFINE_string(
            "data_dir",
            None,
            "Folder with the data's file or TFDS's; KERAS_DRMAD_DATA by "
            "default.",
        )
    flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
    flags.DEFINE_string(
        "run_name", None, "Folder of this run; the time if unset."
    )


def begin(name: str, resume: bool = False) -> SavedRun:
    """Returns the run that the program's flags name, with its flags.txt.

    Pictures are drawn to files from here on, and TensorFlow keeps to itself
    which files of a SavedModel it writes.

    Args:
        name: str, the program's.
        resume: bool, see `SavedRun`.
    """
    mpl.use("Agg")
    logging.set_verbosity(logging.ERROR)
    values = flags.FLAGS
    run = SavedRun(values.save_dir, name, values.run_name, resume)
    run.write_flags(values, "run_name")
    return run


class SavedRun:
    """A folder `<save_dir>/<name>/<run_name>/` and its files.

    flags.txt, history.csv, hyperparameters.npz, figures/*.png, model.keras,
    saved_model/, tensorboard/ and, of some, report.html; for a study of many
    trainings, what each one gave in results/*.npz.

    Attributes:
        folder: `pathlib.Path` of the run.
    """

    def __init__(
        self,
        save_dir: str,
        name: str,
        run_name: str | None = None,
        resume: bool = False,
    ):
        """Creates the folder.

        Args:
            save_dir: str, the folder of all runs.
            name: str, the experiment's.
            run_name: str, the date and time by default.
            resume: bool, whether an existing run of this name is continued;
                see `result`.

        Raises:
            FileExistsError: if a run of this name exists, without `resume`.
        """
        run_name = run_name or f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
        self.folder = pathlib.Path(save_dir, name, run_name)
        if self.folder.exists() and not resume:
            raise FileExistsError(
                f"Invalid value for argument `run_name`. There is a run in "
                f"{self.folder} already. Choose another name, or remove it."
            )
        (self.folder / "figures").mkdir(parents=True, exist_ok=True)

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns callbacks that write history.csv and tensorboard/."""
        import keras

        import keras_drmad as kd

        board = str(self.folder / "tensorboard")
        return [
            keras.callbacks.CSVLogger(self.folder / "history.csv"),
            keras.callbacks.TensorBoard(board, write_graph=False),
            kd.callbacks.TensorBoard(board),
        ]

    def write_flags(self, values: flags.FlagValues, one: str) -> None:
        """Writes flags.txt, which `--flagfile` reads.

        Args:
            values: absl's flags.
            one: str, the name of a flag of the program; all that are defined
                beside it are written, but for those in `PLACES`, which change
                nothing that is found.

        Raises:
            ValueError: if the existing run was begun with other flags.
        """
        module = values.find_module_defining_flag(one)
        own = sorted(values.get_key_flags_for_module(module), key=_name)
        lines = [
            flag.serialize()
            for flag in own
            if flag.value is not None and flag.name not in PLACES
        ]
        text = "\n".join(lines) + "\n"
        path = self.folder / "flags.txt"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            before = set(path.read_text(encoding="utf-8").splitlines())
            raise ValueError(
                f"The run in {self.folder} was begun with other flags. "
                f"Expected: {sorted(before - set(lines))}. Received: "
                f"{sorted(set(lines) - before)}. Give the same flags, or "
                "another `--run_name`."
            )
        path.write_text(text, encoding="utf-8")

    def has_result(self, name: str) -> bool:
        """Returns whether `result` has this one."""
        return self._result_path(name).exists()

    def result(self, name: str) -> dict[str, np.ndarray]:
        """Returns what `write_result` kept."""
        with np.load(self._result_path(name), allow_pickle=False) as arrays:
            return dict(arrays)

    def write_result(self, name: str, values: Mapping[str, Any]) -> None:
        """Writes results/<name>.npz: the whole file, or nothing if killed.

        Args:
            name: str, of the training for instance.
            values: dict of arrays and numbers.
        """
        path = self._result_path(name)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            arrays: dict[str, Any] = dict(values)
            np.savez_compressed(file, **arrays)
        os.replace(partial, path)

    def _result_path(self, name: str) -> pathlib.Path:
        return self.folder / "results" / f"{name}.npz"

    def write_table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Writes <name>.csv.

        Args:
            rows: list of dicts with the same keys, the columns.
            name: str.
        """
        path = self.folder / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def write_hyperparameters(self, values: Mapping[str, np.ndarray]) -> None:
        """Writes hyperparameters.npz: values in each meta-iteration."""
        arrays: dict[str, Any] = dict(values)
        np.savez_compressed(self.folder / "hyperparameters.npz", **arrays)

    def write_figure(self, axes: Any, name: str) -> None:
        """Writes the axes' figure to figures/<name>.png, and closes it."""
        from matplotlib import pyplot as plt

        axes.figure.savefig(self.folder / "figures" / f"{name}.png", dpi=120)
        plt.close(axes.figure)

    def write_report(self, model: kd.DrMADModel, **options: Any) -> None:
        """Prints what a tuning found, and writes report.html.

        Args:
            model: the model.
            **options: arguments of `keras_drmad.plots.report`.
        """
        from keras_drmad import plots

        model.results_summary()
        plots.report(model, self.folder, **options)

    def write_model(self, model: keras.Model) -> None:
        """Writes model.keras and saved_model/."""
        model.save(self.folder / "model.keras")
        model.export(str(self.folder / "saved_model"), verbose=False)


def _name(flag: flags.Flag) -> str:
    return flag.name
