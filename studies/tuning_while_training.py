"""Tuning while training: where it works, and where it fails.

    python -m studies.tuning_while_training --dataset=mnist --data_dir=FOLDER

Of one training, by `fit(tune_every=K)`, on the images of a data set:

*labels*: 40 % of 2,000 training labels are wrong, 500 clean images validate.
Each example has a weight, .5 at first, which sign steps move at the end of each
of a few epochs after the first one, through all steps of the epoch; then the
schedule of the meta-optimizer is 0, and the training goes on as any other.
Beside that: the labels as given, the clean images alone, the learned weights in
a new training, and the right labels alone, which nobody has.

*penalties*: 2,000 right labels; an L2 penalty for each layer, 1e-4 at first,
tuned every 10 steps of one training, and by `fit` as usual, in repeated
trainings; then each value found is tried in new trainings.

The cost is the time of the processor, divided by that of a training that tunes
nothing (the mean of those with labels as given and with learned weights, one
before and one after; or with penalties as they are), measured in one process,
after what is compiled has been compiled (by XLA, in the first part): the least
of three times. `--processes=2` on two cores gives each process one thread.
Prints Markdown, and writes a picture.
"""

import math
import time

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from studies import study

FLAGS = flags.FLAGS
study.define_flags(datasets=["mnist", "digits"], seeds=5)
PARTS = ("labels", "penalties")
flags.DEFINE_float("wrong", 0.4, "The part of wrong labels.", 0, 1)
flags.DEFINE_integer("seed", 0, "The first of the seeds.", 0)
flags.DEFINE_integer("epochs", 15, "Of each training.", 1)
flags.DEFINE_integer(
    "tuned_epochs", 3, "Those that tune weights, after one.", 1
)
flags.DEFINE_list("hidden", ["64", "64"], "Units of the hidden layers.")
flags.DEFINE_bool("jit_compile", True, "Whether XLA compiles the first part.")
flags.DEFINE_float("meta_rate", 4.0, "Of the sign steps, in logits.", 0)
flags.DEFINE_multi_enum(
    "parts", PARTS, PARTS, "Labels, penalties; once for each."
)
flags.DEFINE_integer("meta_iterations", 20, "Trainings of a usual `fit`.", 1)

GIVEN, CLEAN, RIGHT = "labels as given", "clean images alone", "right labels"
TUNED, ANEW = "tuned while training", "its weights, trained anew"
AS_THEY_ARE, REPEATED = "penalties as they are", "`fit`, repeated trainings"
TIMED = 3  # times that a training is timed
NEW = 1000  # seeds of new draws begin here


class Bench:
    """A problem, and a net that is trained on it in several ways."""

    def __init__(
        self, dataset, data_dir, seed, epochs, wrong, hidden, jit_compile
    ):
        """Loads images; with wrong labels among them."""
        from examples import datasets

        sizes = (2000, 500, 10000) if dataset == "mnist" else (1000, 200, 597)
        images = datasets.load(dataset, data_dir, sizes, seed)
        self.images, self.seed, self.epochs = images, seed, epochs
        self.hidden, self.jit_compile = hidden, jit_compile
        self.x = images.train[0]
        self.given, self.wrong = images.with_wrong_labels(wrong, seed + 1)

    def model(self, steps, hyperparameters, new=0, **options):
        """Returns a net with weights of a draw of its own, compiled."""
        import keras

        import keras_drmad as kd

        keras.utils.set_random_seed(self.seed + new)
        layers = keras.layers
        inputs = keras.Input((math.prod(self.images.shape),))
        x = inputs
        for units in self.hidden:
            x = layers.BatchNormalization(momentum=0.9)(layers.Dense(units)(x))
            x = layers.Activation("relu")(x)
        model = kd.DrMADModel(inputs, layers.Dense(self.images.classes)(x))
        rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
        model.compile(
            keras.optimizers.Adam(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            hyperparameters=hyperparameters,
            jit_compile=self.jit_compile,
            **options,
        )
        return model

    def fit(self, model, x, y, seed=None, **options):
        """Fits a model; returns test error and loss, and seconds.

        Several times: the first one compiles, of the others the fastest counts.
        """
        start = [v.numpy() for v in _variables(model)]
        arguments = dict(
            batch_size=50,
            epochs=self.epochs,
            validation_data=self.images.validation,
            validation_batch_size=500,
            seed=self.seed if seed is None else seed,
            verbose=0,
        )
        seconds = []
        for _ in range(1 + TIMED):
            for variable, value in zip(_variables(model), start, strict=True):
                variable.assign(value)
            begin = time.process_time()
            model.fit(x, y, **arguments | options)
            seconds.append(time.process_time() - begin)
        loss, accuracy = model.evaluate(
            *self.images.test, batch_size=1000, verbose=0
        )
        return 100 * (1 - accuracy), loss, min(seconds[1:])


def _variables(model):
    return [
        *model.elementary_model.variables,
        *model.optimizer.variables,
        *model.meta_optimizer.variables,
        *(h.raw for h in model.hyperparameters),
    ]


def labels_cell(
    dataset,
    data_dir,
    seed,
    epochs,
    wrong,
    tuned_epochs,
    meta_rate,
    hidden,
    jit_compile,
):
    """Treats wrong labels in each way; returns `(ways, measures)`."""
    import keras
    from sklearn import metrics

    import keras_drmad as kd

    bench = Bench(dataset, data_dir, seed, epochs, wrong, hidden, jit_compile)
    found, per_epoch = {}, len(bench.x) // 50

    def trained(name, x, y, weights=None, new=0, **options):
        kind = kd.hyperparameters.ExampleWeights(len(x), initial=0.5)
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [0, tuned_epochs], [0.0, meta_rate, 0.0]
        )
        model = bench.model(
            epochs * max(1, len(x) // 50),
            [kind],
            new,
            hypergradient=kd.ReverseMode("bfloat16"),
            meta_optimizer=kd.SignDescent(rate),
        )
        model.optimizer.build(model.trainable_variables)
        if weights is not None:
            kind.assign(weights)
        *measures, seconds = bench.fit(model, x, y, **options)
        found[name] = [*measures, np.nan, seconds]
        return kind.value().numpy()

    plain = {"meta_iterations": 0}
    trained(GIVEN, bench.x, bench.given, **plain)
    weights = trained(TUNED, bench.x, bench.given, tune_every=per_epoch)
    found[TUNED][2] = metrics.roc_auc_score(bench.wrong, -weights)
    trained(ANEW, bench.x, bench.given, weights, NEW, seed=seed + NEW, **plain)
    right = ~bench.wrong
    trained(RIGHT, bench.x[right], bench.given[right], **plain)
    x, y = bench.images.validation
    # As many steps as the others.
    bench.epochs = epochs * per_epoch // (len(x) // 50)
    trained(CLEAN, x, y, **plain)
    return _record(found, (GIVEN, ANEW)) | {
        "weights": weights,
        "wrong": bench.wrong,
    }


def penalties_cell(dataset, data_dir, seed, epochs, meta_iterations, hidden):
    """Tunes penalties in both ways; returns `(ways, measures)`."""
    import keras

    import keras_drmad as kd

    bench = Bench(dataset, data_dir, seed, epochs, 0.0, hidden, False)
    y, steps = bench.images.train[1], epochs * (len(bench.x) // 50)
    found = {}
    for name, options in (
        (AS_THEY_ARE, {"meta_iterations": 0}),
        (TUNED, {"tune_every": 10}),
        (REPEATED, {"meta_iterations": meta_iterations}),
    ):
        kind = kd.hyperparameters.L2("layer", initial=1e-4)
        meta: keras.optimizers.Optimizer = kd.SignConsensus()
        if name == TUNED:
            # From one end of a sensible range to the other.
            meta = keras.optimizers.Adam(10 / (steps / 10))
        model = bench.model(steps, [kind], meta_optimizer=meta)
        model.optimizer.build(model.trainable_variables)
        seconds = bench.fit(model, bench.x, y, **options)[-1]
        values = kind.value().numpy()
        again = bench.model(
            steps, [kd.hyperparameters.L2("layer", initial=1e-4)], NEW
        )
        again.optimizer.build(again.trainable_variables)
        again.hyperparameters[0].assign(values)
        error, loss, _ = bench.fit(
            again, bench.x, y, seed=seed + NEW, meta_iterations=0
        )
        found[name] = [
            error,
            loss,
            float(np.exp(np.log(values).mean())),
            seconds,
        ]
    return _record(found, (AS_THEY_ARE,))


def _record(found, units):
    """Returns the rows of a cell, costs in units of the mean of some."""
    values = np.array(list(found.values()))
    values[:, -1] /= np.mean([found[name][-1] for name in units])
    return {"names": np.array(list(found)), "values": values}


def table(records, third):
    """Returns a Markdown table of means and standard deviations."""
    names = records[0]["names"].tolist()
    values = np.array([one["values"] for one in records])
    rows = [
        f"| | test error, % | test loss | {third} | cost |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for k, name in enumerate(names):
        cells = [
            "" if np.isnan(column).any() else f"{column.mean():{form}}"
            for column, form in zip(
                values[:, k].T, (".1f", ".3f", ".3g", ".2f"), strict=True
            )
        ]
        cells[0] += f" ± {values[:, k, 0].std():.1f}"
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def draw(run, records):
    """Draws the weights of one seed, and the errors of all."""
    _, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    weights, wrong = records[0]["weights"], records[0]["wrong"].astype(bool)
    for name, are in (("right labels", ~wrong), ("wrong labels", wrong)):
        left.hist(weights[are], np.linspace(0, 1, 41), alpha=0.6, label=name)
    left.set(xlabel="learned weight (.5 at first)", ylabel="training examples")
    left.legend()
    names = records[0]["names"].tolist()
    for k in range(len(names)):
        errors = [one["values"][k, 0] for one in records]
        right.plot(errors, [k] * len(errors), "o", alpha=0.6)
        right.plot(np.mean(errors), k, "k|", markersize=18)
    right.set_yticks(range(len(names)), names)
    right.set(xlabel="test error (%): seeds, and their mean", xlim=(0, None))
    right.invert_yaxis()
    run.write_figure(left, "labels")


def main(_):
    run = study.begin("tuning_while_training")
    common = study.values("dataset", "data_dir", "epochs")
    common |= {"hidden": study.whole("hidden")}
    of_labels = study.values(
        "wrong", "tuned_epochs", "meta_rate", "jit_compile"
    )
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    settings = {
        "labels": (labels_cell, of_labels),
        "penalties": (penalties_cell, study.values("meta_iterations")),
    }
    third = {
        "labels": "area, wrong from right",
        "penalties": "geometric mean of penalties",
    }
    for part in FLAGS.parts:
        cell, own = settings[part]
        cells = {f"{part}_{s}": common | own | {"seed": s} for s in seeds}
        records = list(study.run_cells(run, cell, cells).values())
        print(table(records, third[part]), end="\n\n")
        if part == "labels":
            draw(run, records)
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
