"""A `fit` to be killed: a program that keeps a log of the chunks it did.

`python -m tests.killed_program` kills each case twenty times and prints what
each resume did twice; `killed_fit_test.py` does so more briefly.
"""

import json
import os
import pathlib
import random
import sys
import tempfile
import time
import warnings

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_drmad as kd  # noqa: E402
import running  # noqa: E402
from keras_drmad.training import course  # noqa: E402
from keras_drmad.training.backup_files import HALF  # noqa: E402

FEATURES, CLASSES = 6, 3
CASES = {
    "arrays": dict(hypergradient="line", keep="mean"),
    "arrays, every state": dict(hypergradient="stored", keep="mean", draws=2),
    "arrays, checkpoints": dict(hypergradient="checkpointed", policy="same"),
    "arrays, anchors": dict(hypergradient="lines", policy="continue"),
    "arrays, undone": dict(hypergradient="reversible", keep="last"),
    "arrays, XLA": dict(hypergradient="line", jit_compile=True),
    "arrays, plain": dict(hypergradient="line", meta_iterations=0),
    "stream": dict(hypergradient="line", keep="mean", stream=True),
    "stream, every state": dict(
        hypergradient="stored", keep="best", stream=True
    ),
}
METHODS = {
    "line": lambda: kd.DrMAD(),
    "lines": lambda: kd.DrMAD(anchors=5),
    "stored": lambda: kd.ReverseMode("stored"),
    "checkpointed": lambda: kd.ReverseMode("checkpointed"),
    "reversible": lambda: kd.ReverseMode("reversible"),
}


def data(size, seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(size, FEATURES)).astype("float32")
    return x, (x[:, :CLASSES] + x[:, CLASSES:]).argmax(axis=1)


def built(hypergradient, jit_compile):
    """Returns a model with state of every kind, where the method takes it."""
    is_plain = hypergradient == "reversible"
    keras.utils.set_random_seed(0)
    inputs = keras.Input((FEATURES,))
    h = keras.layers.Dense(8, activation="tanh")(inputs)
    if not is_plain:
        h = keras.layers.BatchNormalization()(h)
        h = keras.layers.Dropout(0.2)(h)
    model = kd.DrMADModel(inputs, keras.layers.Dense(CLASSES)(h))
    rate = keras.optimizers.schedules.ExponentialDecay(0.02, 50, 0.8)
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.5)
        if is_plain
        else keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[
            kd.hyperparameters.L2(per="input", initial=1e-3),
        ],
        hypergradient=METHODS[hypergradient](),
        jit_compile=jit_compile,
        self_check=False,
    )
    return model


def fitted(
    folder,
    *,
    hypergradient,
    keep=None,
    policy="resample",
    draws=1,
    meta_iterations=3,
    stream=False,
    jit_compile=False,
    epochs=10,
    save_freq=1,
):
    """Returns model and history of a `fit` with backups in a folder."""
    (x, y), batch = data(96, 0), {"batch_size": 8}
    if stream:
        x = tf.data.Dataset.from_tensor_slices((x, y))
        x, y, batch = x.shuffle(96, seed=1).batch(8), None, {}
    model = built(hypergradient, jit_compile)
    backup = keras.callbacks.BackupAndRestore(folder, save_freq=save_freq)
    history = model.fit(
        x,
        y,
        **batch,
        epochs=epochs,
        validation_data=data(64, 1),
        validation_batch_size=16,
        meta_iterations=meta_iterations,
        initial_weights=policy,
        keep=keep,
        draws=draws,
        seed=3,
        verbose=0,
        callbacks=[backup],
    )
    return model, history


def run(case, folder, log):
    """Runs a case, writes each chunk into a log, and the end into a file.

    Called in a process that will be killed.
    """
    warnings.simplefilter("error", RuntimeWarning)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    whole = course.Course.on_chunk

    def on_chunk(self, name, stage, steps, tree, **options):
        if steps:
            number = self._tree["base"]["number"]
            where = tree.get("last", tree.get("first", tree.get("done")))
            line = json.dumps([number, name, stage, where])
            os.write(file, f"{line}\n".encode())
        whole(self, name, stage, steps, tree, **options)

    course.Course.on_chunk = on_chunk
    model, history = fitted(folder, **CASES[case])
    arrays = [
        *model.get_weights(),
        *(np.array(h.raw) for h in model.hyperparameters),
        *(np.array(v) for v in model.optimizer.variables),
        *(np.array(v) for v in model.meta_optimizer.variables),
        *(np.array(v) for v in (*model.start_weights, *model.end_weights)),
    ]
    end = {
        "history": history.history,
        "epochs": history.epoch,
        "logs": model.final_logs,
    }
    half = f"{log}.half.npz"
    np.savez(half, *arrays, end=json.dumps(end))
    os.replace(half, f"{log}.npz")


def started(case, folder, log):
    """Returns the process that runs a case."""
    process = running.forks().Process(target=run, args=(case, folder, log))
    process.start()
    return process


def lines_of(log):
    if not os.path.exists(log):
        return []
    text = pathlib.Path(log).read_text()
    return [json.loads(line) for line in text.splitlines()]


def killed_and_resumed(case, times, folder, seed=0):
    """Kills a case at random moments, and lets it come to its end.

    Args:
        case: str.
        times: int, how often to kill it.
        folder: an empty folder.
        seed: int, of the moments.

    Returns:
        The path of what the end is written into, and a list: for each resume
        the chunks that were done a second time.
    """
    generator = random.Random(seed)
    log, backups = f"{folder}/killed", f"{folder}/backups"
    starts, has_ended = [], False
    total = len(lines_of(f"{folder}/whole"))
    for k in range(times):
        starts.append(len(lines_of(log)))
        process = started(case, backups, log)
        # All moments of the work that is left are as likely.
        left = total - len(distinct(lines_of(log)))
        goal = starts[-1] + generator.randint(
            0, max(1, 2 * left // (times - k))
        )
        while len(lines_of(log)) < goal and process.is_alive():
            time.sleep(0.001)
        if generator.random() < 0.5:  # while a backup is written
            for _ in range(50):
                if list(pathlib.Path(backups).glob(f"*{HALF}")):
                    break
                time.sleep(0.0005)
        else:
            time.sleep(generator.uniform(0, 0.03))
        process.kill()
        process.join()
        is_done = len(distinct(lines_of(log))) == total
        has_ended = is_done and not list(pathlib.Path(backups).glob("*"))
        if has_ended:
            break
    starts.append(len(lines_of(log)))
    if not os.path.exists(f"{log}.npz"):
        process = started(case, backups, log)
        process.join()
        assert process.exitcode == 0
    lines = list(map(str, lines_of(log)))
    twice = [
        [line for line in lines[a:b] if line in lines[:a]]
        for a, b in zip(starts, [*starts[1:], None], strict=True)
    ]
    # Killed after the end of `fit`, before its end was written: all again.
    return log, twice[:-1] if has_ended else twice


def distinct(lines):
    return set(map(str, lines))


def main():
    for case in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            whole = started(case, f"{folder}/whole_backups", f"{folder}/whole")
            whole.join()
            log, twice = killed_and_resumed(case, 20, folder)
            chunks = len(lines_of(f"{folder}/whole"))
            print(
                f"{case}: {chunks} chunks; done twice after each kill: "
                f"{[len(one) for one in twice[1:]]}; "
                f"{time.monotonic() - begin:.0f} s",
                flush=True,
            )
            for one in twice:
                if len(one) > 1:
                    print("   more than one:", one)
            assert_same_end(f"{folder}/whole.npz", f"{log}.npz")


def assert_same_end(some, others):
    with np.load(some) as a, np.load(others) as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], name)


if __name__ == "__main__":
    main()
