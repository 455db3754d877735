"""Several devices and workers beside one, measured, and what these cost.

    python -m benchmarks.scale
    python -m benchmarks.scale --nets=small --steps=50 --rounds=1

Each arrangement is timed in processes of its own, a thread for each device: one
device; two logical devices of one process (`MirroredStrategy`); two workers on
this machine (`MultiWorkerMirroredStrategy`), which divide each minibatch; and
two draws, by one process and by two workers. From steps of one device, with
whole and with half minibatches, and of two workers follows what passing sums
between workers costs: a latency and seconds for each byte, which are fitted on
all nets but the last, and forecast the last one. With these, or with other
numbers of a link and a device, `benchmarks.scale_model` says what larger
clusters would take.
"""

import json
import os
import statistics
import subprocess
import sys
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import cluster, scale_model

FLAGS = flags.FLAGS
NETS = {
    "small": ((64,), [64]),
    "medium": ((256,), [256, 256]),
    "wide": ((512,), [768, 768]),
    "large": ((768,), [1024, 1024]),
}
ARRANGEMENTS = ("one", "half", "devices", "workers")
flags.DEFINE_list("nets", list(NETS), "Which nets, the last to be forecast.")
flags.DEFINE_integer("batch_size", 256, "Examples of a minibatch.", 2)
flags.DEFINE_integer("steps", 100, "T of the longer trainings.", 12)
flags.DEFINE_integer("rounds", 3, "Trainings timed.", 1)
flags.DEFINE_integer("threads", 1, "Of each process.", 1)
flags.DEFINE_string("arrangement", "", "Of a process that the program starts.")
SHORT = 10


def model_of(net: str) -> Any:
    """Returns a compiled model, whose loops XLA does not compile."""
    import keras

    import keras_drmad as kd

    shape, sizes = NETS[net]
    inputs = h = keras.Input(shape)
    for size in sizes:
        h = keras.layers.Dense(size, "tanh")(h)
    model = kd.DrMADModel(inputs, keras.layers.Dense(10)(h))
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[kd.hyperparameters.L2("input")],
        hypergradient=kd.DrMAD(),
        # XLA has no loops around replicas; compare like with like.
        jit_compile=False,
        self_check=False,
    )
    return model


def timed(net: str, batch_size: int, draws: int) -> dict[str, float]:
    """Returns seconds of a step forward and backward, and of draws."""
    import time

    model = model_of(net)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4 * batch_size, *NETS[net][0]))
    y = generator.integers(0, 10, len(x))

    def once(steps: int, draws: int = 1) -> tuple[float, float, float]:
        begin = time.perf_counter()
        h = model.hypergradient(
            x,
            y,
            batch_size=batch_size,
            steps_per_epoch=steps,
            validation_data=(x[:batch_size], y[:batch_size]),
            draws=draws,
        )
        found, R = h.diagnostics, h.diagnostics["reverse_steps"]
        forward, backward = found["seconds_forward"], found["seconds_backward"]
        return forward / steps, backward / R, time.perf_counter() - begin

    once(SHORT, draws)
    rounds = [once(FLAGS.steps, draws) for _ in range(FLAGS.rounds)]
    names = ("forward", "backward", "whole")
    columns = zip(names, zip(*rounds, strict=True), strict=True)
    weights = sum(w.size for w in model.get_weights())
    found = {name: statistics.median(column) for name, column in columns}
    return found | {"weights": weights}


def measured() -> dict[str, dict[str, float]]:
    """Returns what this process measures in its arrangement."""
    import contextlib

    import tensorflow as tf

    name, B = FLAGS.arrangement, FLAGS.batch_size
    strategy: Any = None
    if name == "devices":
        cpu = tf.config.list_physical_devices("CPU")[0]
        device = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [device] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    elif "workers" in name:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    draws = 2 if "draws" in name else 1
    found = {}
    for net in FLAGS.nets:
        with strategy.scope() if strategy else contextlib.nullcontext():
            found[net] = timed(net, B // 2 if name == "half" else B, draws)
    return found


def run(arrangement: str) -> dict[str, dict[str, float]]:
    """Returns what processes of an arrangement measure, the first one's."""
    flags_given = [
        f"--{name}={FLAGS[name].serialize().partition('=')[2]}"
        for name in ("nets", "batch_size", "steps", "rounds")
    ]
    configs = cluster.configs()
    # Logical devices share the threads of their process.
    devices = 2 if arrangement == "devices" else 1
    threads = str(FLAGS.threads * devices)
    started = []
    for index in range(2 if "workers" in arrangement else 1):
        environment = os.environ | {
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": str(devices),
            "OMP_NUM_THREADS": threads,
        }
        if "workers" in arrangement:
            environment["TF_CONFIG"] = configs[index]
        command = [sys.executable, "-m", "benchmarks.scale", *flags_given]
        started.append(
            subprocess.Popen(
                [*command, f"--arrangement={arrangement}"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(f"{arrangement}: {errors[-2000:]}")
    return json.loads(outputs[0][0].strip().splitlines()[-1])


def main(argv: list[str]) -> None:
    """Measures, and prints tables."""
    del argv
    if FLAGS.arrangement:
        print(json.dumps(measured()))
        return
    found = {name: run(name) for name in ARRANGEMENTS}
    print("Milliseconds of a step, forward / backward:\n")
    print("| net | weights | one device | two devices | two workers |")
    print("| --- | --- | --- | --- | --- |")
    for net in FLAGS.nets:
        cells = [
            " / ".join(
                f"{1e3 * found[name][net][which]:.2f}"
                for which in ("forward", "backward")
            )
            for name in ("one", "devices", "workers")
        ]
        weights = int(found["one"][net]["weights"])
        print(f"| {net} | {weights:,} | {' | '.join(cells)} |")
    draws = {name: run(name) for name in ("draws", "draws_workers")}
    print("\nTwo draws, by one process and by two workers:\n")
    print("| net | one process, s | two workers, s | throughput |")
    print("| --- | --- | --- | --- |")
    for net in FLAGS.nets:
        one, two = (draws[name][net]["whole"] for name in draws)
        print(f"| {net} | {one:.2f} | {two:.2f} | {one / two:.2f} |")
    print()
    scale_model.report(found, list(FLAGS.nets))


if __name__ == "__main__":
    app.run(main)
