"""How long users wait for the first line, beside plain Keras.

    python -m benchmarks.first_line

Three small programs in plain Keras (`tests/keras_programs`), each as it is and
converted by a few lines, in turn, each in a process of its own: the seconds
until the first words are printed, until the first training (or epoch) begins,
until the first training (or epoch) is through, and until the program ends. One
training of a converted program has as many epochs as the plain one.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from tests.keras_programs.changes import CHANGES, converted

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum(
    "programs", list(CHANGES), list(CHANGES), "Which; once for each."
)
flags.DEFINE_integer("rounds", 3, "Runs of each; medians are printed.", 1)
ROOT = pathlib.Path(__file__).parents[1]
COLUMNS = ("first words", "training begins", "is through", "end")


def seconds(source: str) -> list[float]:
    """Runs a program; returns the seconds until each of `COLUMNS`."""
    settings = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "program.py"
        path.write_text(source, "utf-8")
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-u", str(path)],
            cwd=folder,
            env=os.environ | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        found: dict[str, float] = {}
        assert process.stdout is not None
        first = process.stdout.read(1)
        found["first words"] = time.perf_counter() - begin
        for line in process.stdout:
            now = time.perf_counter() - begin
            line, first = first + line, ""
            if line.startswith(("Epoch 1/", "Training 1/")):
                found["training begins"] = now
            if "val_loss" in line:
                found.setdefault("is through", now)
        if process.wait():
            raise RuntimeError(f"The program failed: {source}")
        found["end"] = time.perf_counter() - begin
    return [found[name] for name in COLUMNS]


def median(rows: list[list[float]]) -> list[float]:
    """Returns the medians of columns."""
    return [
        sorted(column)[len(column) // 2] for column in zip(*rows, strict=True)
    ]


def main(argv: list[str]) -> None:
    del argv
    print(f"{'program':<20}" + "".join(f"{name:>17}" for name in COLUMNS))
    for name in FLAGS.programs:
        plain, tuned = converted(name)
        one = "epochs=2,\n    meta_iterations=1,\n    keep='last',\n"
        tuned = tuned.replace("epochs=2,\n", one)
        rows: dict[str, list[list[float]]] = {"Keras": [], "keras_drmad": []}
        for _ in range(FLAGS.rounds):
            rows["Keras"].append(seconds(plain))
            rows["keras_drmad"].append(seconds(tuned))
        for kind, each in rows.items():
            cells = "".join(f"{x:>15.1f} s" for x in median(each))
            print(f"{name + ', ' + kind:<20}{cells}", flush=True)


if __name__ == "__main__":
    app.run(main)
