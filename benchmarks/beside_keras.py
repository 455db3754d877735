"""Steps, and the wait for the first training, beside `keras.Model.fit`.

    python -m benchmarks.beside_keras
    python -m benchmarks.beside_keras --nets=mnist --nets=gru --tables=first

The first table: milliseconds of a step of the best `fit` of four (1 and 50
steps per execution, with XLA and without), of a step forward and of one
backward with XLA and without, and ratios of the faster ones. The second:
seconds from `compile` to the end of the first training of T steps, checks,
tracing and compiling included, beside `fit` as Keras comes (1 step per
execution, `jit_compile="auto"`) and beside the best of the four. The third:
milliseconds of a step of a hypergradient, forward and backward, of arrays, of a
`tf.data.Dataset` and of a `keras.utils.PyDataset`, which hold the same batches
in memory, and how much longer streams take `fit` as Keras comes; by the
processor and by the clock, as threads read streams while loops run.
New models are timed in one process, in turn; else by seconds of the processor,
as machines do other work.
"""

import itertools
import logging
import os
import statistics
import time
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.nets import TASKS, Task, ends

FLAGS = flags.FLAGS
NETS = ("mnist", "cnn", "gru", "attention")
flags.DEFINE_multi_enum("nets", NETS, [*TASKS], "Which nets; once for each.")
TABLES = ("steps", "first", "streams")
flags.DEFINE_multi_enum("tables", TABLES, TABLES, "Which; once for each.")
flags.DEFINE_multi_integer("lengths", [10, 100, 2000], "T of first trainings.")
flags.DEFINE_integer("steps", 200, "Steps whose time is taken.", 20)
flags.DEFINE_integer("rounds", 3, "How often each is timed.", 1)
flags.DEFINE_integer("threads", 1, "Of each operation; 0 for all.", 0)
FITS = tuple(itertools.product((1, 50), ("auto", False)))
PASS = 100  # steps, at most


def arguments(task: Task, T: int) -> dict[str, Any]:
    """Returns arguments of `fit` for T steps."""
    batches = min(T, PASS)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batches * task.batch_size, *task.shape))
    return {
        "x": x.astype("float32"),
        "y": generator.integers(0, 10, len(x)),
        "batch_size": task.batch_size,
        "epochs": -(-T // batches),
        "verbose": 0,
    }


def compiled(model: Any, **options: Any) -> Any:
    """Returns a model, compiled as all are."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, loss, metrics=["accuracy"], **options)
    return model


def by_keras(task: Task, steps_per_execution: int, jit_compile: Any) -> Any:
    """Returns a `keras.Model`."""
    import keras

    return compiled(
        keras.Model(*ends(task)),
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )


def by_us(task: Task, jit_compile: Any, method: Any = "auto") -> Any:
    """Returns a `DrMADModel` with a penalty for each layer."""
    import keras_drmad as kd

    return compiled(
        kd.DrMADModel(*ends(task)),
        hyperparameters=[kd.hyperparameters.L2("layer")],
        hypergradient=method,
        jit_compile=jit_compile,
    )


def seconds(function: Any, *args: Any, **kwargs: Any) -> float:
    """Returns the processor's seconds of a call."""
    return by_both(function, *args, **kwargs)[0]


def by_both(function: Any, *args: Any, **kwargs: Any) -> tuple[float, float]:
    """Returns the processor's seconds of a call, and those of the clock."""
    begin = time.process_time(), time.perf_counter()
    function(*args, **kwargs)
    return time.process_time() - begin[0], time.perf_counter() - begin[1]


# ---- steps


def steps(task: Task) -> dict[str, float]:
    """Returns milliseconds of a step, by what takes it."""
    import keras_drmad as kd

    T = FLAGS.steps
    given = arguments(task, T)
    fits = {key: by_keras(task, *key) for key in FITS}
    method = kd.DrMAD(1.0)  # as many steps backward as forward
    ours = {jit: by_us(task, jit, method) for jit in (True, False)}
    batch = task.batch_size
    asked = {key: given[key] for key in ("x", "y", "batch_size", "epochs")}
    asked["validation_data"] = given["x"][:batch], given["y"][:batch]
    times: dict[Any, list[float]] = {}
    for number in range(-2, FLAGS.rounds):  # the first ones compile
        for key, model in fits.items():
            took = seconds(model.fit, **given)
            if number >= 0:
                times.setdefault(key, []).append(took / T)
        for jit, model in ours.items():
            begin, clock = time.perf_counter(), time.process_time()
            found = model.hypergradient(**asked).diagnostics
            # Diagnostics are by the clock on the wall.
            share = (time.process_time() - clock) / (
                time.perf_counter() - begin
            )
            if number >= 0:
                for name in ("forward", "backward"):
                    took = share * found[f"seconds_{name}"] / T
                    times.setdefault((name, jit), []).append(took)
    found = {key: 1e3 * statistics.median(each) for key, each in times.items()}
    return {
        "fit": min(found[key] for key in FITS),
        "forward": found["forward", False],
        "forward, XLA": found["forward", True],
        "backward": found["backward", False],
        "backward, XLA": found["backward", True],
    }


def print_steps() -> None:
    """Prints the table of steps."""
    print("| a step, ms | best fit | forward | XLA | backward | XLA |", end="")
    print(" forward / best fit | backward / forward |")
    print("| --- " + "| ---: " * 7 + "|")
    for name in FLAGS.nets:
        fit, *ours = steps(TASKS[name]).values()
        forward, backward = min(ours[:2]), min(ours[2:])
        cells = [f"{x:.3f}" for x in (fit, *ours)]
        cells += [f"{forward / fit:.2f}", f"{backward / forward:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


# ---- the first training


def until_trained(task: Task, T: int) -> float:
    """Returns seconds from `compile` to the end of our first training."""
    import keras

    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.process_time())
    )
    given = arguments(task, T)
    batch = task.batch_size
    begin = time.process_time()
    by_us(task, "auto").fit(
        **given,
        validation_data=(given["x"][:batch], given["y"][:batch]),
        meta_iterations=1,
        keep="last",
        callbacks=[clock],
    )
    return ends[-1] - begin


def first_training(task: Task, T: int) -> tuple[float, float, float]:
    """Returns medians: ours, of Keras as it comes, of the best `fit`."""
    given = arguments(task, T)

    def once(key: Any) -> float:
        return seconds(lambda: by_keras(task, *key).fit(**given))

    def median(function: Any, *args: Any) -> float:
        rounds = [function(*args) for _ in range(FLAGS.rounds)]
        return statistics.median(rounds)

    fits = {key: median(once, key) for key in FITS}
    ours = median(until_trained, task, T)
    return ours, fits[FITS[0]], min(fits.values())


def print_first_trainings() -> None:
    """Prints the table of first trainings."""
    print("\n| first training, s | T | ours | fit | best fit |", end="")
    print(" ours / fit | ours / best fit |")
    print("| --- " + "| ---: " * 6 + "|")
    for name, T in itertools.product(FLAGS.nets, FLAGS.lengths):
        ours, fit, best = first_training(TASKS[name], T)
        cells = [f"{x:.2f}" for x in (ours, fit, best, ours / fit, ours / best)]
        print(f"| {name} | {T:,} | {' | '.join(cells)} |", flush=True)


# ---- streams


def sources(given: dict[str, Any]) -> dict[str, Any]:
    """Returns data sets of the batches of arrays, by name."""
    import keras
    import tensorflow as tf

    x, y, size = given["x"], given["y"], given["batch_size"]
    batches = [
        (x[k : k + size], y[k : k + size]) for k in range(0, len(x), size)
    ]

    class InMemory(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, k):
            return batches[k]

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(size)
    return {
        "arrays": {"x": x, "y": y, "batch_size": size},
        "tf.data": {"x": dataset.cache().prefetch(2)},
        "PyDataset": {"x": InMemory()},
    }


def of_streams(task: Task) -> dict[tuple[str, str], np.ndarray]:
    """Returns milliseconds of a step, by who takes it and from what.

    Those of the processor, and those of the clock.
    """
    import keras_drmad as kd

    T = FLAGS.steps
    given = arguments(task, T)
    epochs, steps = given["epochs"], min(T, PASS)
    held_out = given["x"][:50], given["y"][:50]
    times: dict[Any, list[tuple[float, float]]] = {}
    kinds = sources(given)
    models = {
        name: (by_us(task, False, kd.DrMAD(1.0)), by_keras(task, *FITS[0]))
        for name in kinds
    }
    for number in range(-2, FLAGS.rounds):  # the first ones trace
        for name, source in kinds.items():
            ours, plain = models[name]
            took = {
                "ours": by_both(
                    ours.hypergradient,
                    **source,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    validation_data=held_out,
                ),
                "fit": by_both(plain.fit, **source, epochs=epochs, verbose=0),
            }
            for who, both in took.items():
                if number >= 0:
                    times.setdefault((who, name), []).append(both)
    return {
        key: 1e3 / T * np.median(each, axis=0) for key, each in times.items()
    }


def print_streams() -> None:
    """Prints the table of streams."""
    print("\n| a step, ms | by | arrays | tf.data | PyDataset |", end="")
    print(" tf.data / arrays | PyDataset / arrays |", end="")
    print(" fit: tf.data / arrays | PyDataset / arrays |")
    print("| --- | --- " + "| ---: " * 7 + "|")
    for name in FLAGS.nets:
        found = of_streams(TASKS[name])
        for k, clock in enumerate(("processor", "clock")):
            arrays, *streams = (
                found["ours", kind][k]
                for kind in ("arrays", "tf.data", "PyDataset")
            )
            cells = [f"{x:.3f}" for x in (arrays, *streams)]
            cells += [f"{x / arrays:.2f}" for x in streams]
            cells += [
                f"{found['fit', kind][k] / found['fit', 'arrays'][k]:.2f}"
                for kind in ("tf.data", "PyDataset")
            ]
            print(f"| {name} | {clock} | {' | '.join(cells)} |", flush=True)


def main(_) -> None:
    """Prints the tables."""
    if FLAGS.threads:
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(FLAGS.threads)
        os.environ["TF_NUM_INTEROP_THREADS"] = str(FLAGS.threads)
    if "steps" in FLAGS.tables:
        print_steps()
    logging.getLogger("tensorflow").setLevel("ERROR")  # frequent traces
    if "first" in FLAGS.tables:
        print_first_trainings()
    if "streams" in FLAGS.tables:
        print_streams()


if __name__ == "__main__":
    app.run(main)
