"""Optuna searches the few, `fit` learns the many.

Each trial chooses what has no derivative (depth, width, activation, optimizer)
and the rate. Within the trial `fit` tunes an L2 penalty for each input of each
layer by hypergradient, and reports the validation loss of each meta-iteration;
where that is worse than most trials had by then, Optuna ends the trial. What a
trial is worth is the loss of its last training, with the penalties found. At
last the best trial's penalties are compared with those that it began with, on
new draws of weights and batches.

    python -m examples.with_optuna
    python -m examples.with_optuna --dataset=mnist --data_dir=FOLDER

Needs Optuna: `pip install keras_drmad[optuna]`.
"""

import math

from absl import app, flags
from matplotlib import pyplot as plt
from matplotlib import ticker

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("trials", 12, "How many Optuna begins.", 2)
flags.DEFINE_integer("steps", 200, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 8, "Of each trial.", 2)
flags.DEFINE_integer("draws", 3, "New draws, on which the best is tried.", 2)


def build_model(trial, images: datasets.Images):
    """Returns the net that a trial chooses, as a compiled `DrMADModel`."""
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(FLAGS.seed)
    width = trial.suggest_int("width", 20, 100, log=True)
    activation = trial.suggest_categorical("activation", ["relu", "tanh"])
    inputs = keras.Input((math.prod(images.shape),))
    hidden = inputs
    for _ in range(trial.suggest_int("layers", 1, 3)):
        hidden = keras.layers.Dense(width, activation)(hidden)
    model = kd.DrMADModel(inputs, keras.layers.Dense(images.classes)(hidden))
    if trial.suggest_categorical("optimizer", ["SGD", "Adam"]) == "SGD":
        rate = trial.suggest_float("sgd_rate", 3e-3, 1.0, log=True)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    else:
        rate = trial.suggest_float("adam_rate", 3e-4, 3e-2, log=True)
        optimizer = keras.optimizers.Adam(rate)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[kd.hyperparameters.L2("input", initial=1e-3)],
    )
    return model


def reporting(trial):
    """Returns a callback that reports meta-iterations, and may end a trial."""
    import keras
    import optuna

    def report(epoch, logs):
        trial.report(logs["val_loss"], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(f"after {epoch + 1} meta-iterations")

    return keras.callbacks.LambdaCallback(on_epoch_end=report)


def run_trial(trial, images: datasets.Images, options, folder) -> float:
    """Tunes what a trial chooses; returns the loss of the last training."""
    import optuna

    model = build_model(trial, images)
    try:
        model.fit(
            *images.train,
            **options,
            meta_iterations=FLAGS.meta_iterations,
            seed=FLAGS.seed,
            callbacks=[reporting(trial)],
            verbose=0,
        )
    except FloatingPointError as error:  # the first training diverged
        raise optuna.TrialPruned(str(error)) from error
    model.save(folder / f"trial_{trial.number}.keras")
    return model.final_logs.get("val_loss", math.nan)  # nan: it diverged


def say(trial) -> None:
    """Prints a line on a trial that ended."""
    worth = f"{trial.value:.4f}" if trial.value is not None else "-"
    count = len(trial.intermediate_values)
    print(
        f"trial {trial.number:2}  {trial.state.name:8}  loss {worth:6}  "
        f"{count} meta-iterations  {trial.params}",
        flush=True,
    )


def draw(run, study) -> None:
    """Writes the picture of a run."""
    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for trial in study.trials:
        losses = trial.intermediate_values
        steps = [epoch + 1 for epoch in losses]
        best = trial.number == study.best_trial.number
        is_whole = trial.state.name == "COMPLETE"
        style = {"color": "C1" if best else "C0" if is_whole else "gray"}
        axes.plot(steps, losses.values(), ".-", **style)
    axes.set(xlabel="meta-iteration", ylabel="validation loss", yscale="log")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set_title("Trials: the best one orange, those ended by Optuna gray")
    run.write_figure(axes, "trials")


def main(_):
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise app.UsageError(
            "This program needs Optuna: `pip install keras_drmad[optuna]`."
        ) from error
    import keras

    images = datasets.chosen((300, 500, 997), (1000, 2000, 5000))
    run = saved_run.begin("with_optuna")
    options = {
        "batch_size": 50,
        "steps_per_epoch": FLAGS.steps,
        "validation_data": images.validation,
        "validation_batch_size": 1000,
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=FLAGS.seed),
        # A trial's lowest loss so far, against the median of the others: one
        # bad draw of weights ends no trial.
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=4, n_warmup_steps=1
        ),
    )
    study.optimize(
        lambda trial: run_trial(trial, images, options, run.folder),
        n_trials=FLAGS.trials,
        callbacks=[lambda _, trial: say(trial)],
    )

    best = study.best_trial
    draw(run, study)
    model = keras.models.load_model(run.folder / f"trial_{best.number}.keras")
    print(f"The best trial is number {best.number}. Kept in {run.folder}")
    print(
        model.check_hyperparameters(
            *images.train,
            **options,
            test_data=images.test,
            draws=FLAGS.draws,
            seed=FLAGS.seed + 1,
            verbose=0,
        )
    )


if __name__ == "__main__":
    app.run(main)
