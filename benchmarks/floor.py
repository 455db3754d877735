"""The package beside loops written by hand that compute the same, in one run.

    python -m benchmarks.floor
    python -m benchmarks.floor --steps=500 --methods=drmad

    python -m benchmarks.floor --jax      # pip install keras_drmad[jax]
    python -m benchmarks.floor --torch --methods=exact      # [torch]

934 penalties of a 784-50-50-50-10 net on MNIST, or on noise of its shape. The
hypergradients are compared, then both are timed in turn; printed are medians of
the seconds, and the package's over the hand-written ones: what `forward`,
`backward` (the slope of the validation loss included), whole calls and first
calls take. Seconds are those of the processor, on one thread, as machines do
other work beside this. TorchOpt and higher have exact hypergradients alone.
"""

import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import data

FLAGS = flags.FLAGS
data.define_flags()
METHODS = ("drmad", "exact", "checkpointed")
flags.DEFINE_multi_enum("methods", METHODS, METHODS, "Which; once for each.")
flags.DEFINE_integer("steps", 2000, "T.", 20)
flags.DEFINE_integer("rounds", 5, "How often each is timed.", 1)
flags.DEFINE_bool("jax", False, "Whether JAX is timed beside both.")
flags.DEFINE_bool("torch", False, "Whether TorchOpt and higher are.")
flags.register_multi_flags_validator(
    ("torch", "methods"),
    lambda given: not given["torch"] or given["methods"] == ["exact"],
    "--torch needs --methods=exact, the one that TorchOpt and higher have.",
)
COLUMNS = ("forward", "backward", "call", "first call")


def package(method: str, setting: Any, train: Any, held_out: Any) -> Callable:
    """Returns the function that returns a hypergradient, and seconds."""
    import keras

    import keras_drmad as kd
    from benchmarks.floor_loops import SIZES, START, first_weights

    inputs = h = keras.Input((SIZES[0],))
    for width in SIZES[1:-1]:
        h = keras.layers.Dense(width, "tanh")(h)
    model = kd.DrMADModel(inputs, keras.layers.Dense(SIZES[-1])(h))
    model.set_weights(first_weights())
    penalty = kd.hyperparameters.L2("input", initial=float(np.exp(START)))
    ways = {
        "drmad": kd.DrMAD(0.1),
        "exact": kd.ReverseMode(),
        "checkpointed": kd.ReverseMode("checkpointed"),
    }
    model.compile(
        keras.optimizers.SGD(setting.rate, momentum=setting.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[penalty],
        hypergradient=ways[method],
        jit_compile=True,
    )

    def hypergradient() -> tuple[np.ndarray, dict[str, float]]:
        begin, wall = time.process_time(), time.perf_counter()
        found = model.hypergradient(
            x=train[0],
            y=train[1],
            batch_size=setting.batch_size,
            steps_per_epoch=setting.steps,
            shuffle=False,
            validation_data=held_out,
            validation_batch_size=len(held_out[0]),
        )
        call = time.process_time() - begin
        # Diagnostics are by the clock on the wall.
        share = call / (time.perf_counter() - wall)
        d = found.diagnostics
        backward = d["seconds_backward"] + d["seconds_validation"]
        (gradient,) = found.gradients.values()
        return np.array(gradient), {
            "forward": share * d["seconds_forward"],
            "backward": share * backward,
            "call": call,
        }

    return hypergradient


def by_hand(method: str, setting: Any, train: Any, held_out: Any) -> Callable:
    """Returns the function that returns a hypergradient, and seconds."""
    from benchmarks.floor_loops import ByHand

    loops = ByHand(setting, train, held_out)
    forward, backward = loops.line if method == "drmad" else loops.stored

    def hypergradient() -> tuple[np.ndarray, dict[str, float]]:
        begin = time.process_time()
        kept = forward()
        kept[0][0].numpy()  # waits for the loop
        there = time.process_time()
        gradient = np.concatenate([x.numpy() for x in backward(*kept)])
        end = time.process_time()
        return gradient, {
            "forward": there - begin,
            "backward": end - there,
            "call": end - begin,
        }

    return hypergradient


def rivals() -> dict[str, Callable]:
    """Returns what is timed beside both, by name; makers as `by_hand`."""
    found: dict[str, Callable] = {}
    if FLAGS.torch:
        from benchmarks import floor_torch

        for name, library in floor_torch.LIBRARIES.items():
            found[name] = functools.partial(
                timed, functools.partial(floor_torch.hypergradient, library)
            )
    if FLAGS.jax:
        from benchmarks import floor_jax

        found["JAX"] = functools.partial(timed, floor_jax.hypergradient)
    return found


def timed(
    make: Callable, method: str, setting: Any, train: Any, held_out: Any
) -> Callable:
    """Returns the function that returns a hypergradient, and seconds."""
    whole = make(method, setting, train, held_out)

    def hypergradient() -> tuple[np.ndarray, dict[str, float]]:
        begin = time.process_time()
        gradient = whole()
        return gradient, {"call": time.process_time() - begin}

    return hypergradient


def main(_) -> None:
    """Prints a table of seconds and ratios, a row for each method."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    if FLAGS.jax:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    others = rivals()  # PyTorch's libraries load before TensorFlow's
    from benchmarks.floor_loops import Setting

    images = data.images(FLAGS.data_dir)
    setting = Setting(FLAGS.steps)
    print(f"T = {setting.steps}, medians of {FLAGS.rounds} rounds\n")
    print("| method | by hand, s: " + " | ".join(COLUMNS), end=" | ")
    print("ratio: " + " | ".join(COLUMNS) + " | difference |", end="")
    for name in others:
        print(f" {name} / package: call | first call | difference |", end="")
    print("\n| --- " + "| ---: " * (9 + 3 * len(others)) + "|")
    for method in FLAGS.methods:
        ways = [
            make(method, setting, images.train, images.validation)
            for make in (by_hand, package, *others.values())
        ]
        gradients, rows = zip(*(way() for way in ways), strict=True)
        rounds = [
            [way()[1] for way in ways] for _ in range(FLAGS.rounds)
        ]  # in turn

        def median(k: int, name: str, rounds: Any = rounds) -> float:
            return statistics.median(one[k][name] for one in rounds)

        hand, ours = (
            np.array([*(median(k, n) for n in COLUMNS[:3]), rows[k]["call"]])
            for k in range(2)
        )
        cells = [f"{x:.2f}" for x in (*hand, *(ours / hand))]
        cells += [f"{distance(gradients[1], gradients[0]):.0e}"]
        for k in range(2, len(ways)):
            times = np.array([median(k, "call"), rows[k]["call"]])
            cells += [f"{x:.2f}" for x in times / ours[2:]]
            cells += [f"{distance(gradients[k], gradients[0]):.0e}"]
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


def distance(gradient: np.ndarray, other: np.ndarray) -> float:
    """Returns how far a gradient is from another one, relatively."""
    return float(np.linalg.norm(gradient - other) / np.linalg.norm(other))


if __name__ == "__main__":
    app.run(main)
