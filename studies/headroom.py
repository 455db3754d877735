"""Rates and penalties of a residual net's layers, from starts far off.

    python -m studies.headroom --data_dir=FOLDER

`studies.deep_net` begins near the best of its grid, where little is left to
learn, and judges each way by the weights and batches of its tuning. Here each
layer of a small ResNet has a learning rate and an L2 penalty, which begin
`--factors` times the usual ones, and what was found is judged on new draws of
weights and batches, the same for all ways. By the exact hypergradient and by
`DrMAD()`, with the meta-optimizer that is the default; beside them one rate and
one penalty for all layers, the best of a grid and the best of random trials by
validation loss, on as many elementary steps as a tuning takes.
"""

from typing import Any

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags(seeds=1)
flags.DEFINE_bool("digits", False, "Scikit-learn's digits.")
flags.DEFINE_list("factors", ["0.1", "10"], "On rate and penalty, at first.")
METHODS = ("exact", "DrMAD()")
flags.DEFINE_multi_enum("methods", METHODS, METHODS, "Once for each method.")
flags.DEFINE_integer("steps", 100, "T, elementary steps of a training.", 2)
flags.DEFINE_integer("meta_iterations", 10, "Trainings that tune.", 1)
flags.DEFINE_integer("draws", 4, "New draws on which all are judged.", 2)
RATE, PENALTY = 0.008, 1e-4  # usual ones
BACKWARD = 2.0  # steps forward that take as long as a step backward
TRIES = 2  # draws on which rivals choose
PENALTIES = (0.1, 1.0, 10.0)
NEW = 1000


def build_model(bench, method: str, factor: float):
    """Returns a compiled residual net with rates and penalties of layers."""
    import keras

    import keras_drmad as kd

    model = kd.DrMADModel.from_model(bench.net(bench.seed))
    model.compile(
        optimizer=keras.optimizers.Adam(RATE * factor),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[
            kd.hyperparameters.L2("layer", initial=PENALTY * factor),
            kd.hyperparameters.LearningRate("layer"),
        ],
        hypergradient={"exact": kd.ReverseMode(), "DrMAD()": kd.DrMAD()}[
            method
        ],
        jit_compile=False,
    )
    return model


def cell(
    kind: str,
    digits: bool,
    data_dir,
    seed: int,
    steps: int,
    meta_iterations: int,
    draws: int,
    factor: float = 1.0,
) -> dict[str, np.ndarray]:
    """Tunes by one method, or searches; judges on new draws.

    Args:
        kind: of `METHODS`, or `"rivals"`.

    Returns:
        Dict with `names` of the ways, and `values` `(ways, draws, 2)`, test
        loss and error.
    """
    from studies.schedules_from_nothing_trainings import BATCH_SIZE, Bench

    bench = Bench("resnet", digits, data_dir, seed)
    is_rival = kind == "rivals"
    model = build_model(bench, "DrMAD()" if is_rival else kind, factor)
    training: dict[str, Any] = {
        "batch_size": BATCH_SIZE,
        "steps_per_epoch": steps,
        "validation_data": bench.validation,
        "validation_batch_size": 500,
        "verbose": 0,
    }

    def judged(on, seed, others=None, **test):
        check = model.check_hyperparameters(
            *bench.train, **training, draws=on, seed=seed, others=others, **test
        )
        return check.results

    count = 1 if is_rival else meta_iterations
    model.fit(*bench.train, **training, meta_iterations=count, seed=seed)
    names, others = {"start": f"x {factor:g}, untuned"}, {}
    if is_rival:
        trainings = round(meta_iterations * (1 + BACKWARD) / TRIES)
        for way, points in _points(trainings, seed).items():
            tried = judged(TRIES, NEW // 2 + seed, points)
            losses = {name: tried[name]["val_loss"].mean() for name in points}
            best = min(losses, key=lambda k: np.nan_to_num(losses[k], nan=1e9))
            others[way] = points[best]
            rate = float(np.mean(points[best]["learning_rate"]))
            penalty = float(np.mean(points[best]["l2"]))
            words = f"{len(points)} points, {rate:.2g} and {penalty:.2g}"
            names[way] = f"best of {way} ({words})"
        names["start"] = "the usual values"
    else:
        names["found"] = f"x {factor:g}, {kind}"
    results = judged(draws, NEW + seed, others, test_data=bench.test)
    if is_rival:  # one meta-iteration was for form's sake
        del results["found"]
    values = [
        np.stack([own["test_loss"], 100 * (1 - own["test_accuracy"])], axis=1)
        for own in (results[name] for name in names)
    ]
    return {"names": np.array(list(names.values())), "values": np.array(values)}


def _points(trainings: int, seed: int) -> dict[str, dict[str, dict]]:
    """Returns values to try: of a grid, and of random trials.

    Args:
        trainings: int, how many of each.
        seed: int.
    """
    rates = -(-trainings // len(PENALTIES))
    grid = [
        (RATE * 2.0 ** (k - rates // 2), PENALTY * factor)
        for k in range(rates)
        for factor in PENALTIES
    ]
    random = np.random.default_rng(seed)
    trials = [
        (
            RATE * 10 ** random.uniform(-2, 2),
            PENALTY * 10 ** random.uniform(-2, 2),
        )
        for _ in range(len(grid))
    ]
    return {
        way: {
            f"{way}_{k}": {"learning_rate": rate, "l2": penalty}
            for k, (rate, penalty) in enumerate(points)
        }
        for way, points in (("a grid", grid), ("random trials", trials))
    }


def cells() -> dict[str, dict]:
    """Returns the settings of each cell by its name."""
    common = study.values(
        "digits", "data_dir", "steps", "meta_iterations", "draws"
    )
    found = {}
    for seed in range(FLAGS.seeds):
        own = common | {"seed": seed}
        for factor in map(float, FLAGS.factors):
            for method in FLAGS.methods:
                name = f"{method.strip('()')}_{factor:g}_{seed}"
                found[name] = own | {"kind": method, "factor": factor}
        found[f"rivals_{seed}"] = own | {"kind": "rivals"}
    return found


def table(records) -> list[dict]:
    """Returns means over draws, and deviations over all draws, of each way."""
    ways: dict[str, list] = {}
    for record in records:
        for name, values in zip(record["names"], record["values"], strict=True):
            # Of what differs between seeds alone, the name without it.
            ways.setdefault(str(name).split(" (")[0], []).append(values)
    rows = []
    for name, each in ways.items():
        values = np.concatenate(each)
        values = np.where(np.isfinite(values), values, [np.log(10), 90.0])
        rows.append(
            {
                "way": name,
                "test loss": study.mean_and_deviation(values[:, 0], 3),
                "test error, %": study.mean_and_deviation(values[:, 1], 1),
            }
        )
    return rows


def main(_):
    from studies import schedules_from_nothing_trainings as trainings

    trainings.check_data("resnet", FLAGS.digits, FLAGS.data_dir)
    run = study.begin("headroom")
    found = study.run_cells(run, cell, cells())
    study.report(run, table(list(found.values())), "results")
    for name, record in found.items():
        if name.startswith("rivals"):
            print("\n".join(record["names"].tolist()))
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
