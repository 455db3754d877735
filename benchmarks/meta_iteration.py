"""Times the parts of a meta-iteration beside `keras.Model.fit`, in one run.

    python -m benchmarks.meta_iteration

Rounds alternate between all competitors, and each prints the median of its
rounds, so that a busy machine disturbs all alike; the ratios are what counts.
Data is MNIST's `mnist.npz` from `--data_dir`, or noise of the same shape.
"""

import collections
import statistics
import subprocess
import sys
import time

from absl import app, flags

from benchmarks import data

FLAGS = flags.FLAGS
data.define_flags()
flags.DEFINE_list("nets", ["mlp", "cnn"], "What to time: mlp, cnn.")
flags.DEFINE_integer("rounds", 5, "How often each competitor runs.", 1)
flags.DEFINE_integer("steps", 2000, "T of the MLP; the CNN takes a tenth.", 10)
flags.DEFINE_bool("memory", True, "Measure memory for T and 10 T.")
flags.DEFINE_integer(
    "memory_of", None, "Only train T steps and print the peak memory."
)

BATCH = 50


def arrays(net: str):
    """Returns `(x, y)` for training and for validation."""
    found = data.images(FLAGS.data_dir, 5000 if net == "mlp" else 500)
    if net == "cnn":
        found = found.as_pictures(centred=True)
    return found.train, found.validation


def layers(net: str, regularizer):
    """Returns the inputs and outputs of a net."""
    import keras

    from examples.tanh_net import DEVIATION, tanh_net

    if net == "mlp":
        model = tanh_net(784, [50] * 3, 10, regularizer=regularizer)
        return model.inputs[0], model.outputs[0]
    L = keras.layers
    x = inputs = keras.Input((28, 28, 1))
    for filters in (16, 32):
        x = L.Conv2D(
            filters, 3, activation="relu", kernel_regularizer=regularizer
        )(x)
        x = L.MaxPooling2D()(x)
    start = keras.initializers.RandomNormal(stddev=DEVIATION)
    last = L.Dense(10, None, True, start, kernel_regularizer=regularizer)
    return inputs, last(L.Flatten()(x))


def compiled(model, **kwargs):
    """Compiles a model as all competitors are."""
    import keras

    model.compile(
        optimizer=keras.optimizers.SGD(0.0025, momentum=0.95),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **kwargs,
    )
    return model


def tuned_model(net: str, jit_compile):
    """Returns the `DrMADModel` with one L2 for each unit."""
    import keras_drmad as kd

    return compiled(
        kd.DrMADModel(*layers(net, None)),
        hyperparameters=[kd.hyperparameters.L2("input", 1e-3)],
        hypergradient=kd.DrMAD(0.1),
        jit_compile=jit_compile,
    )


def keras_fit(net: str, train, steps_per_execution: int, jit_compile: bool):
    """Returns a function that runs `fit` and returns seconds a step."""
    import keras

    model = compiled(
        keras.Model(*layers(net, keras.regularizers.L2(1e-3))),
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    size = 15000 if net == "mlp" else 5000
    x, y = train[0][:size], train[1][:size]

    def seconds_a_step() -> float:
        begin = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, verbose=0)
        return (time.perf_counter() - begin) / (size // BATCH)

    return seconds_a_step


def seconds_of_meta_iteration(model, train, arguments) -> float:
    """Returns the seconds of the second of two meta-iterations of `fit`."""
    import keras

    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())
    )
    model.fit(
        *train,
        **arguments,
        meta_iterations=2,
        keep="last",
        callbacks=[clock],
        verbose=0,
    )
    return ends[1] - ends[0]


def time_net(net: str, T: int) -> None:
    """Prints the table of one net."""
    train, validation = arrays(net)
    arguments = {
        "batch_size": BATCH,
        "steps_per_epoch": T,
        "validation_data": validation,
    }
    ours = {jit: tuned_model(net, jit) for jit in (True, False)}
    fits = {
        (steps, jit): keras_fit(net, train, steps, jit)
        for steps in (1, 50)
        for jit in (False, True)
    }
    times: dict[tuple, list[float]] = collections.defaultdict(list)
    for function in fits.values():
        function()
    for jit, model in ours.items():
        first, second = (
            seconds_of_hypergradient(model, train, arguments) for _ in range(2)
        )
        times["compiling", jit].append(first - second)
    # A loop without XLA sets an option of TensorFlow, whereupon loops with XLA
    # are compiled once more: not in a round.
    ours[True].hypergradient(*train, **arguments)
    for _ in range(FLAGS.rounds):
        for jit, model in ours.items():
            d = model.hypergradient(*train, **arguments).diagnostics
            whole = seconds_of_meta_iteration(model, train, arguments)
            times["whole", jit].append(whole)
            times["forward", jit].append(d["seconds_forward"] / T)
            steps = d["reverse_steps_used"]
            times["backward", jit].append(d["seconds_backward"] / steps)
        for key, function in fits.items():
            times[key].append(function())
    auto = tuned_model(net, "auto")
    auto.prepared(*train, trainings=20, **arguments)  # as `fit` does
    medians = {key: statistics.median(rounds) for key, rounds in times.items()}
    print(f"\n{net}, batch {BATCH}, T = {T}, R = T/10, {FLAGS.rounds} rounds")
    print_table(medians, T, fits, auto.uses_xla)


def seconds_of_hypergradient(model, train, arguments) -> float:
    """Returns the seconds of one call."""
    begin = time.perf_counter()
    model.hypergradient(*train, **arguments)
    return time.perf_counter() - begin


def print_table(medians, T: int, fits, picked: bool) -> None:
    """Prints medians and ratios.

    Args:
        medians: dict of seconds by what was timed, and with XLA or without.
        T: int, elementary steps.
        fits: the keys in `medians` of Keras's own `fit`.
        picked: bool, whether `jit_compile="auto"` took XLA.
    """
    words = {True: "XLA", False: "no XLA"}

    def row(name, value, unit=""):
        print(f"  {name:52}{value:10.3f} {unit}")

    for jit in (True, False):
        row(f"forward step, {words[jit]}", 1e3 * medians["forward", jit], "ms")
        row(f"reverse step, {words[jit]}", 1e3 * medians["backward", jit], "ms")
        row(
            f"tracing and compiling, {words[jit]}",
            medians["compiling", jit],
            "s",
        )
    for steps, jit in fits:
        name = f"keras.Model.fit step, {steps} per execution, {words[jit]}"
        row(name, 1e3 * medians[steps, jit], "ms")
    forward, backward, whole = (
        medians[part, picked] for part in ("forward", "backward", "whole")
    )
    best = min(medians[key] for key in fits)
    row("ratio: reverse step / forward step", backward / forward)
    row("ratio: forward step / best fit step", forward / best)
    row("ratio: meta-iteration / best fit of T steps", whole / (best * T))
    faster = min(words, key=lambda jit: medians["whole", jit])
    print(
        f"  jit_compile='auto' picks {words[picked]}; the faster is "
        f"{words[faster]}"
    )


def print_peak_memory(T: int) -> None:
    """Trains T steps with a hypergradient and prints the peak memory."""
    import resource

    train, validation = arrays("mlp")
    model = tuned_model("mlp", "auto")
    model.hypergradient(
        *train,
        batch_size=BATCH,
        steps_per_epoch=T,
        validation_data=validation,
    )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compare_memory(T: int) -> None:
    """Prints the peak memory of two processes, for T and for 10 T."""
    peaks = []
    for steps in (T, 10 * T):
        command = [sys.executable, "-m", "benchmarks.meta_iteration"]
        command += [
            f"--memory_of={steps}",
            f"--data_dir={FLAGS.data_dir or ''}",
        ]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True
        )
        peaks.append(float(done.stdout.split()[-1]))
        print(f"  peak memory, T = {steps:6}: {peaks[-1]:24.0f} MiB")
    print(f"  ratio: {peaks[1] / peaks[0]:53.3f}")


def main(_):
    if FLAGS.memory_of:
        print_peak_memory(FLAGS.memory_of)
        return
    for net in FLAGS.nets:
        time_net(net, FLAGS.steps if net == "mlp" else FLAGS.steps // 10)
    if FLAGS.memory:
        print("\nmlp, resident memory of a process, imports included")
        compare_memory(FLAGS.steps)


if __name__ == "__main__":
    app.run(main)
