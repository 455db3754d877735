"""Finds the columns of a table that matter: a penalty for each of them.

Five of 205 columns have to do with the target, by Friedman's function, which no
linear model can follow. A net with one penalty for all columns learns the noise
of the 200 others by heart, and a lasso is blind to what bends. Here each column
has a penalty of its own on its weights into the net, L2 (of a linear model L1),
and the penalties are tuned on a new draw of the rows that validate for each
training. Then nets are trained on all rows, with these penalties and in other
ways, beside scikit-learn's models. What chooses columns better still:
docs/results.md, 14.

    python -m examples.feature_selection
    python -m examples.feature_selection --table=classes
    python -m examples.feature_selection --table=cancer --hidden=0
"""

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from examples import saved_run, tables

FLAGS = flags.FLAGS
saved_run.define_flags(data=False)
flags.DEFINE_enum("table", "friedman", list(tables.TABLES), "The data.")
flags.DEFINE_integer("hidden", 32, "Hidden units; 0: a linear model.", 0)
flags.DEFINE_integer("steps", 800, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 40, "Trainings, one meta-step each.", 1)
flags.DEFINE_integer("draws", 5, "New draws of weights, to judge by.", 2)
flags.DEFINE_integer("seed", 0, "Of the table, the weights and the batches.")

# Of one penalty.
GRID = (1e-6, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
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
    kinds = kd.hyperparameters
    penalty = kinds.L2 if FLAGS.hidden else kinds.L1
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
            penalty(
                per="input",
                initial=3e-2,
                bounds=(1e-6, 10.0),
                layers=model.layers[1],
            )
        ],
        # Of nets further apart than by default: most columns are to go.
        meta_optimizer=kd.SignConsensus(reach=6.0 if FLAGS.hidden else 3.0),
        jit_compile=True,
    )
    return model


def best_of_grid(model, table, training) -> float:
    """Returns the one penalty that validates best, on new halves of rows."""
    (kind,) = model.hyperparameters
    check = model.check_hyperparameters(
        *table.train,
        **training,
        validation_split=0.5,
        draws=FLAGS.draws,
        others={str(value): {kind.name: value} for value in GRID},
        seed=FLAGS.seed,
    )
    losses = [np.mean(check.results[str(value)]["val_loss"]) for value in GRID]
    return GRID[int(np.argmin(losses))]


def draw(run, kind, matters, losses):
    """Writes the picture of a run."""
    _, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    penalties, place = np.ravel(kind.value()), np.arange(len(matters))
    order = np.argsort(penalties)
    for label, are, color in (
        ("that do not", ~matters[order], "0.7"),
        ("columns that matter", matters[order], "C0"),
    ):
        left.plot(place[are], penalties[order][are], ".", c=color, label=label)
    left.set(yscale="log", ylabel=f"{kind.name.upper()} penalty")
    left.set_xlabel("columns, by their penalty")
    left.legend(reverse=True)
    for k, values in enumerate(losses.values()):
        right.plot(values, [k] * len(values), "o", alpha=0.6)
        right.plot(np.mean(values), k, "k|", markersize=18)
    right.set_yticks(range(len(losses)), list(losses))
    right.set(xlim=(0, None))
    right.set_xlabel("test loss (points: new draws of weights; bar: mean)")
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
    (kind,) = model.hyperparameters
    run.write_hyperparameters(recorder.values)
    run.write_model(model)

    one = best_of_grid(model, table, training)
    check = model.check_hyperparameters(
        *table.train,
        **training,
        validation_data=table.test,  # all rows train
        draws=FLAGS.draws,
        others={ONE: {kind.name: one}, NONE: {kind.name: 1e-6}},
        seed=FLAGS.seed,
    )
    names = {TUNED: "found", ONE: ONE, NONE: NONE}
    losses = {k: check.results[name]["val_loss"] for k, name in names.items()}
    relevance = {TUNED: -np.ravel(kind.value())}
    for name, fitted in tables.fit_rivals(table).items():
        losses[name], relevance[name] = [fitted.loss], fitted.relevance
    draw(run, kind, table.matters, losses)
    print(f"{'':30}{'test loss':>10}{'columns found':>16}")
    for name, values in losses.items():
        found = ""
        if name in relevance:
            count = tables.found_first(relevance[name], table.matters)
            found = f"{count:.3g} of {table.matters.sum()}"
        print(f"{name:30}{np.mean(values):10.3f}{found:>16}")
    print(f"One penalty: {one:g}, of a grid. Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
