"""Times what the self-check adds to the first call after a `compile`.

    python -m benchmarks.self_check

Rounds alternate between models with and without the check, each newly compiled,
so that a busy machine disturbs both alike. What counts is the check's part of
the first call: its own seconds over those of the call, medians of the rounds.
Data is MNIST's `mnist.npz` from `--data_dir`, or noise of the same shape.
"""

import statistics
import time

from absl import app, flags

from benchmarks.meta_iteration import BATCH, arrays, compiled, layers

FLAGS = flags.FLAGS
flags.DEFINE_integer("check_rounds", 3, "How often each is timed.", 1)


def first_call(net: str, self_check: bool) -> tuple[float, float]:
    """Returns the seconds of a first `fit`, and of the check in it."""
    import keras_drmad as kd
    from keras_drmad.seam import self_check as checks

    model = compiled(
        kd.DrMADModel(*layers(net, None)),
        hyperparameters=[kd.hyperparameters.L2("input", initial=1e-4)],
        self_check=self_check,
    )
    (x, y), held_out = arrays(net)
    spent = []

    def timed(check):
        def run(*args):
            begin = time.perf_counter()
            check(*args)
            spent.append(time.perf_counter() - begin)

        return run

    before = checks.check_step, checks.check_slopes
    checks.check_step, checks.check_slopes = map(timed, before)
    try:
        begin = time.perf_counter()
        model.fit(
            x,
            y,
            batch_size=BATCH,
            steps_per_epoch=FLAGS.steps // (1 if net == "mlp" else 10),
            validation_data=held_out,
            meta_iterations=1,
            keep="last",
            verbose=0,
        )
        return time.perf_counter() - begin, sum(spent)
    finally:
        checks.check_step, checks.check_slopes = before


def main(argv):
    """Prints, for each net, the seconds and the check's part of these."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
    print("net    first call    without    self-check    part")
    for net in FLAGS.nets:
        first_call(net, True)  # the first model of a process pays for others
        rounds = [
            (first_call(net, True), first_call(net, False)[0])
            for _ in range(FLAGS.check_rounds)
        ]
        whole = statistics.median(r[0][0] for r in rounds)
        check = statistics.median(r[0][1] for r in rounds)
        without = statistics.median(r[1] for r in rounds)
        print(
            f"{net:6} {whole:8.1f} s {without:8.1f} s {check:10.2f} s "
            f"{check / whole:8.0%}",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
