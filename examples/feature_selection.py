"""Finds the columns of a table that matter: a penalty for each of them.

Five of 205 columns have to do with the target, by Friedman's function, which no
linear model can follow. A net with one penalty for all columns learns the noise
of the 200 others by heart, and a lasso is blind to what bends. Here each column
has an L2 penalty of its own on its weights into the net, and the penalties are
tuned on a new draw of the rows that validate for each training. Then nets are
trained on all rows, with these penalties and in other ways, beside
scikit-learn's models. What chooses columns better still: docs/results.md, 14.

    python -m examples.feature_selection
    python -m examples.feature_selection --table=classes
    python -m examples.feature_selection --table=cancer --hidden=0
"""

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import saved_run, tables

FLAGS = flags.FLAGS
saved_run.define_flags()
flags.DEFINE_enum("table", "friedman", list(tables.TABLES), "The data.")
flags.DEFINE_integer("hidden", 32, "Hidden units; 0: a linear model.", 0)
flags.DEFINE_integer("steps", 800, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 40, "Trainings, one meta-step each.", 1)
flags.DEFINE_integer("draws", 5, "New draws of weights, to judge by.", 2)
flags.DEFINE_integer("seed", 0, "Of the table, the weights and the batches.")

GRID = (1e-6, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)  # of one penalty
TUNED, ONE, NONE = "a penalty a column", "one penalty", "no penalty"


def build_model(columns: int, classes: int):
    """Returns a net with a penalty for each column."""
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(FLAGS.seed)
    inputs = x = keras.Input((columns,))
    if FLAGS.hidden:
        x = keras.layers.Dense(FLAGS.hidden, "relu")(x)
    model = kd.DrMADModel(inputs, keras.layers.Dense(max(1, classes))(x))
    losses, schedules = keras.losses, keras.optimizers.schedules
    model.compile(
        # At a constant rate weights never come to rest, nor do hypergradients.
        optimizer=keras.optimizers.Adam(
            schedules.CosineDecay(0.01, FLAGS.steps)
        ),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True)
        if classes
        else losses.MeanSquaredError(),
        metrics=["accuracy"] if classes else [],
        hyperparameters=[
            kd.hyperparameters.L2(
                per="input",
                initial=3e-2,
                bounds=(1e-6, 10.0),
                layers=model.layers[1],
            )
        ],
        # Further apart than by default: most columns are to go.
        meta_optimizer=kd.SignConsensus(reach=6.0),
        jit_compile=True,
    )
    return model


def best_of_grid(model, table, training) -> float:
    """Returns the one penalty that validates best, on new halves of rows."""
    check = model.check_hyperparameters(
        *table.train,
        **training,
        validation_split=0.5,
        draws=FLAGS.draws,
        others={str(value): {"l2": value} for value in GRID},
        seed=FLAGS.seed,
    )
    losses = [np.mean(check.results[str(value)]["val_loss"]) for value in GRID]
    return GRID[int(np.argmin(losses))]


def draw(run, penalties, matters, losses):
    """Writes the picture of a run."""
    _, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    order, place = np.argsort(penalties), np.arange(len(matters))
    for label, are in ("do not", ~matters[order]), ("matter", matters[order]):
        color = "C0" if label == "matter" else "0.7"
        left.plot(place[are], penalties[order][are], ".", c=color, label=label)
    left.set(yscale="log", xlabel="columns in order", ylabel="L2 penalty")
    left.legend(title="columns that")
    for k, values in enumerate(losses.values()):
        right.plot(values, [k] * len(values), "o", alpha=0.6)
        right.plot(np.mean(values), k, "k|", markersize=18)
    right.set_yticks(range(len(losses)), list(losses))
    right.set(xlabel="test loss, after new draws of weights", xlim=(0, None))
    right.invert_yaxis()
    left.figure.suptitle(tables.TABLES[FLAGS.table])
    run.write_figure(left, "feature_selection")


def main(_):
    import keras_drmad as kd

    table = tables.load(FLAGS.table, FLAGS.seed)
    run = saved_run.begin("feature_selection")
    model = build_model(len(table.matters), table.classes)
    training = {"batch_size": 50, "steps_per_epoch": FLAGS.steps}
    recorder = kd.callbacks.HyperparameterHistory()
    model.fit(
        *table.train,
        **training,
        validation_split=0.5,  # a new half in each training
        refit=True,  # the last training sees all rows
        meta_iterations=FLAGS.meta_iterations,
        seed=FLAGS.seed,
        callbacks=[recorder, *run.callbacks()],
    )
    penalties = np.ravel(model.hyperparameters[0].value())
    run.write_hyperparameters(recorder.values)
    run.write_model(model)

    one = best_of_grid(model, table, training)
    check = model.check_hyperparameters(
        *table.train,
        **training,
        validation_data=table.test,  # all rows train
        draws=FLAGS.draws,
        others={ONE: {"l2": one}, NONE: {"l2": 1e-6}},
        seed=FLAGS.seed,
    )
    names = {TUNED: "found", ONE: ONE, NONE: NONE}
    losses = {k: check.results[name]["val_loss"] for k, name in names.items()}
    relevance = {TUNED: -penalties}
    for name, fitted in tables.fit_rivals(table).items():
        losses[name], relevance[name] = [fitted.loss], fitted.relevance
    draw(run, penalties, table.matters, losses)
    print(f"{'':30}{'test loss':>10}{'columns found':>16}")
    for name, values in losses.items():
        found = ""
        if name in relevance:
            count = tables.found_first(relevance[name], table.matters)
            found = f"{count} of {table.matters.sum()}"
        print(f"{name:30}{np.mean(values):10.3f}{found:>16}")
    print(f"One penalty: {one:g}, of a grid. Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
