"""What a meta-iteration takes on several devices: a model in a few numbers.

    python -m benchmarks.scale_model
    python -m benchmarks.scale_model --link=3e9 --latency=1e-4

A step of one of R replicas computes its part of the minibatch, and its worker
passes sums of the gradient on; a step backward does so twice, for the gradient
itself is needed again. With a ring, each worker sends and receives
2 (R − 1) / R times the bytes, in 2 (R − 1) messages:

    forward:   compute / R + all_reduce(4 W)
    backward:  r compute / R + all_reduce(4 W) + all_reduce(4 (W + P))
    all_reduce(b) = 2 (R − 1) (latency + b / (R link))

W weights, P hyperparameters that the loss depends on, r the time of a step
backward over one forward. Memory of a replica, in bytes: the weights, the
optimizer's slots and what the method keeps of the training, the adjoint of
both, and λ with its gradient.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_float("link", 20e9, "Bytes a second between devices.", 1.0)
flags.DEFINE_float("latency", 2e-5, "Seconds of a message.", 0.0)
flags.DEFINE_float("flops", 5e13, "Of a device, as reached, a second.", 1.0)
flags.DEFINE_integer("T", 10_000, "Steps of a training.", 1)


class Job(NamedTuple):
    """A training.

    Attributes:
        weights: int.
        slots: int, how many numbers an optimizer keeps of each weight.
        flops: float, those of a step forward with one example.
        batch_size: int, of all replicas.
        hyperparameters: int, those that the loss depends on.
    """

    weights: int
    slots: int
    flops: float
    batch_size: int
    hyperparameters: int


# Forward and backward through the net take three times the forward pass:
# 4.1e9 multiply-adds of an image of 224 x 224; 2 flops a weight and token.
JOBS = {
    "ResNet-50, a penalty a channel": Job(25_600_000, 1, 2.5e10, 2048, 26_560),
    "ResNet-50, 10^6 weights of examples": Job(
        25_600_000, 1, 2.5e10, 2048, 1_000_000
    ),
    # Sequences of 512 tokens.
    "transformer, 10^8 weights": Job(100_000_000, 2, 3.1e11, 256, 100),
}
RATIO = 2.0  # r, of `benchmarks.meta_iteration`'s convolutions
COPIES = {
    "DrMAD": lambda T: 2.0,
    "exact, checkpointed": lambda T: 2 * T**0.5,
    "exact, stored": float,
}


def all_reduce(nbytes: float, R: int, latency: float, link: float) -> float:
    """Returns the seconds in which R replicas add up some bytes."""
    return 2 * (R - 1) * (latency + nbytes / (R * link))


def steps(
    job: Job, R: int, *, latency: float, link: float, flops: float
) -> tuple[float, float]:
    """Returns the seconds of a step forward, and of one backward."""
    compute = job.flops * job.batch_size / flops / R
    bytes_there = 4.0 * job.weights
    once = all_reduce(bytes_there, R, latency, link)
    bytes_back = bytes_there + 4.0 * job.hyperparameters
    back = once + all_reduce(bytes_back, R, latency, link)
    return compute + once, RATIO * compute + back


def memory(job: Job, copies: float) -> float:
    """Returns the bytes of a replica, without activations."""
    state = 4.0 * job.weights * (1 + job.slots)
    return state * (copies + 2) + 3 * 4.0 * job.hyperparameters


def fitted(
    found: Mapping[str, Mapping[str, Mapping[str, float]]], nets: Sequence[str]
) -> tuple[float, float]:
    """Returns latency and link, from steps of two workers and of one.

    By least squares on what two workers take beyond half a minibatch.
    """
    rows, rest = [], []
    for net in nets:
        nbytes = 4 * found["one"][net]["weights"]
        for which, count in (("forward", 1), ("backward", 2)):
            two, half = (
                found[name][net][which] for name in ("workers", "half")
            )
            # Large ones say most of bytes: weigh by what is measured.
            size = max(two, 1e-9)
            rows.append(np.array([2 * count, count * nbytes]) / size)
            rest.append((two - half) / size)
    solved, *_ = np.linalg.lstsq(np.array(rows), np.array(rest), rcond=None)
    latency, per_byte = np.maximum(solved, [0.0, 1e-15])
    return float(latency), float(1 / per_byte)


def report(found: Mapping[str, Any], nets: list[str]) -> None:
    """Prints the fit on all nets but the last, and the last one's forecast."""
    known, last = nets[:-1] or nets, nets[-1]
    latency, link = fitted(found, known)
    print(
        f"Fitted on {', '.join(known)}: {1e6 * latency:.0f} µs a message, "
        f"{link / 1e9:.2f} GB/s.\n"
    )
    print(f"| {last}, two workers | forecast, ms | measured, ms |")
    print("| --- | --- | --- |")
    nbytes = 4 * found["one"][last]["weights"]
    for which, count in (("forward", 1), ("backward", 2)):
        forecast = found["half"][last][which]
        forecast += count * all_reduce(nbytes, 2, latency, link)
        now = found["workers"][last][which]
        print(f"| {which} | {1e3 * forecast:.2f} | {1e3 * now:.2f} |")


def pays_until(job: Job, **numbers: float) -> int:
    """Returns the replicas at which passing sums takes as long as computing."""
    R = 2
    while R < 2**20:
        forward, _ = steps(job, R, **numbers)
        compute = job.flops * job.batch_size / numbers["flops"] / R
        if forward > 2 * compute:
            return R
        R *= 2
    return R


def main(argv: list[str]) -> None:
    """Prints forecasts."""
    del argv
    numbers = {
        name: getattr(FLAGS, name) for name in ("latency", "link", "flops")
    }
    print(
        "| training | replicas | step forward / backward, ms | meta-iteration "
        "of DrMAD(), h | sums take half the time from |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, job in JOBS.items():
        for R in (1, 8, 64):
            forward, backward = steps(job, R, **numbers)
            # `DrMAD()` walks back over a tenth of the training.
            whole = FLAGS.T * (forward + 0.1 * backward) / 3600
            until = f"{pays_until(job, **numbers):,}" if R == 1 else ""
            print(
                f"| {name} | {R} | {1e3 * forward:.1f} / {1e3 * backward:.1f} "
                f"| {whole:.2f} | {until} |"
            )
    heads = " | ".join(COPIES)
    print(f"\n| GB a replica, without activations | {heads} |")
    print("| --- " * (1 + len(COPIES)) + "|")
    for name, job in JOBS.items():
        cells = [
            f"{memory(job, copies(FLAGS.T)) / 1e9:,.1f}"
            for copies in COPIES.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    app.run(main)
