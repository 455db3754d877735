"""The folder in which an experiment keeps what it found."""

import datetime
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from absl import flags


class SavedRun:
    """A folder `<save_dir>/<name>/<run_name>/` and its files.

    flags.txt, history.csv, hyperparameters.npz, figures/*.png, model.keras,
    saved_model/ and tensorboard/.

    Attributes:
        folder: `pathlib.Path` of the run.
    """

    def __init__(self, save_dir: str, name: str, run_name: str | None = None):
        """Creates the folder.

        Args:
            save_dir: str, the folder of all runs.
            name: str, the experiment's.
            run_name: str, the date and time by default.

        Raises:
            FileExistsError: if a run of this name is there.
        """
        run_name = run_name or f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
        self.folder = pathlib.Path(save_dir, name, run_name)
        if self.folder.exists():
            raise FileExistsError(
                f"Invalid value for argument `run_name`. There is a run in "
                f"{self.folder} already. Choose another name, or remove it."
            )
        (self.folder / "figures").mkdir(parents=True)

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns callbacks that write history.csv and tensorboard/."""
        return [
            keras.callbacks.CSVLogger(self.folder / "history.csv"),
            keras.callbacks.TensorBoard(
                str(self.folder / "tensorboard"), write_graph=False
            ),
        ]

    def write_flags(self, values: flags.FlagValues, one: str) -> None:
        """Writes flags.txt, which `--flagfile` reads.

        Args:
            values: absl's flags.
            one: str, the name of a flag of the program; all that are defined
                beside it are written.
        """
        module = values.find_module_defining_flag(one)
        own = sorted(values.get_key_flags_for_module(module), key=_name)
        lines = [flag.serialize() for flag in own if flag.value is not None]
        text = "\n".join(lines) + "\n"
        (self.folder / "flags.txt").write_text(text, encoding="utf-8")

    def write_hyperparameters(self, values: Mapping[str, np.ndarray]) -> None:
        """Writes hyperparameters.npz: values in each meta-iteration."""
        np.savez_compressed(
            self.folder / "hyperparameters.npz",
            allow_pickle=False,
            **dict(values),
        )

    def write_figure(self, axes: Any, name: str) -> None:
        """Writes the axes' figure to figures/<name>.png, and closes it."""
        from matplotlib import pyplot as plt

        axes.figure.savefig(self.folder / "figures" / f"{name}.png", dpi=120)
        plt.close(axes.figure)

    def write_model(self, model: keras.Model) -> None:
        """Writes model.keras and saved_model/."""
        model.save(self.folder / "model.keras")
        model.export(str(self.folder / "saved_model"), verbose=False)


def _name(flag: flags.Flag) -> str:
    return flag.name
