"""What backups within a training cost: milliseconds and bytes of each.

    python -m benchmarks.backups
    python -m benchmarks.backups --save_freq=500 --backup_dir=/path/on/a/disk

For the 784-50-50-50-10 net with one L2 penalty an input, and each method: the
seconds of a meta-iteration without backups and with backups at `save_freq`
(steps; 1 is after each chunk), the backups that a meta-iteration wrote, the
milliseconds of one, and the megabytes of all. The data are random numbers; the
fastest of some meta-iterations counts.
"""

import tempfile
import time
from typing import Any
from unittest import mock

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
METHODS = ("drmad", "checkpointed", "stored")
flags.DEFINE_multi_enum("methods", METHODS, METHODS, "Which; once for each.")
flags.DEFINE_integer("steps", 2000, "T of a training.", 1)
flags.DEFINE_integer("rounds", 4, "Meta-iterations timed.", 2)
flags.DEFINE_integer("save_freq", 1, "As for `BackupAndRestore`.", 1)
flags.DEFINE_string("backup_dir", "", "A folder; temporary by default.")


def model_of(method: str) -> Any:
    """Returns the compiled net."""
    import keras

    import keras_drmad as kd

    inputs = h = keras.Input((784,))
    for _ in range(3):
        h = keras.layers.Dense(50, activation="tanh")(h)
    model = kd.DrMADModel(inputs, keras.layers.Dense(10)(h))
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[kd.hyperparameters.L2(per="input", initial=1e-4)],
        hypergradient=kd.DrMAD()
        if method == "drmad"
        else kd.ReverseMode(method),
        jit_compile=False,
        self_check=False,
    )
    return model


def seconds_of(model: Any, backups: list) -> tuple[float, list]:
    """Returns the seconds of a meta-iteration, and what each backup took.

    Args:
        model: compiled.
        backups: list with a `BackupAndRestore`, or an empty one.

    Returns:
        The seconds of the fastest meta-iteration after the first one, and a
        list of pairs for its backups: seconds and bytes.
    """
    import keras

    from keras_drmad.training.backup_files import BackupFiles

    generator = np.random.default_rng(0)
    x = generator.normal(size=(2000, 784)).astype("float32")
    y = generator.integers(0, 10, 2000)
    rounds: list[tuple[float, list]] = []
    begun, taken = 0.0, []
    save = BackupFiles.save

    def timed(self, tree):
        begin = time.perf_counter()
        size = save(self, tree)
        taken.append((time.perf_counter() - begin, size))
        return size

    def begin(epoch, logs):
        nonlocal begun
        taken.clear()
        begun = time.perf_counter()

    def end(epoch, logs):
        rounds.append((time.perf_counter() - begun, list(taken)))

    with mock.patch.object(BackupFiles, "save", timed):
        model.fit(
            x,
            y,
            batch_size=50,
            steps_per_epoch=FLAGS.steps,
            validation_data=(x[:500], y[:500]),
            meta_iterations=FLAGS.rounds + 1,
            keep="best",
            seed=0,
            verbose=0,
            callbacks=[
                *backups,
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=begin, on_epoch_end=end
                ),
            ],
        )
    return min(rounds[1:], key=lambda one: one[0])


def main(args: list[str]) -> None:
    del args
    import keras

    print("| method | s without | s with | backups | ms each | MB in all |")
    print("| --- | --- | --- | --- | --- | --- |")
    for method in FLAGS.methods:
        model = model_of(method)
        without, _ = seconds_of(model, [])
        with tempfile.TemporaryDirectory() as folder:
            backup = keras.callbacks.BackupAndRestore(
                FLAGS.backup_dir or f"{folder}/backups", FLAGS.save_freq
            )
            seconds, taken = seconds_of(model, [backup])
        cells = [
            f"{without:.2f}",
            f"{seconds:.2f}",
            str(len(taken)),
            f"{1e3 * np.median([s for s, _ in taken]):.1f}",
            f"{sum(size for _, size in taken) / 1e6:.1f}",
        ]
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
