"""Optuna searches the few, `fit` learns the many.

Each trial chooses what has no derivative (depth, width, activation, optimizer)
and the rate. Within the trial `fit` tunes an L2 penalty for each input of each
layer by hypergradient, and reports the validation loss of each meta-iteration;
where the trial is behind most others, Optuna ends it. A trial is worth the loss
of its last training, with the penalties found. At last the best trial's
penalties are compared with those that it began with, on new draws.

    python -m examples.with_optuna
    python -m examples.with_optuna --dataset=mnist --data_dir=FOLDER

Needs Optuna: `pip install keras_drmad[optuna]`.
"""

import math

from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("trials", 12, "How many Optuna begins.", 1)
flags.DEFINE_integer("steps", 200, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 8, "Of each trial.", 1)
flags.DEFINE_integer("draws", 3, "New draws, on which the best is tried.", 2)


def build_model(trial, images: datasets.Images):
    """Returns the net that a trial chooses, as a compiled `DrMADModel`."""
    import keras

    from examples.searched_net import compiled_net

    if trial.suggest_categorical("optimizer", ["SGD", "Adam"]) == "SGD":
        rate = trial.suggest_float("sgd_rate", 3e-3, 1.0, log=True)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    else:
        rate = trial.suggest_float("adam_rate", 3e-4, 3e-2, log=True)
        optimizer = keras.optimizers.Adam(rate)
    return compiled_net(
        images,
        layers=trial.suggest_int("layers", 1, 3),
        width=trial.suggest_int("width", 20, 100, log=True),
        activation=trial.suggest_categorical("activation", ["relu", "tanh"]),
        optimizer=optimizer,
        seed=FLAGS.seed,
    )


def reporting(trial):
    """Returns a callback that reports meta-iterations, and may end a trial."""
    import keras
    import optuna

    def report(epoch, logs):
        trial.report(logs["val_loss"], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(f"after {epoch + 1} meta-iterations")

    return keras.callbacks.LambdaCallback(on_epoch_end=report)


def run_trial(trial, images: datasets.Images, training, folder) -> float:
    """Tunes what a trial chooses; returns the loss of the last training."""
    import optuna

    model = build_model(trial, images)
    try:
        model.fit(
            **training,
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
    worth = "-" if trial.value is None else f"{trial.value:.4f}"
    count = len(trial.intermediate_values)
    words = f"{trial.number:3} {trial.state.name:8} {count:3} {worth:>8}"
    print(words, trial.params, flush=True)


def draw(run, study) -> None:
    """Writes the picture of a run."""
    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for trial in study.trials:
        best = trial.number == study.best_trial.number
        whole = trial.state.name == "COMPLETE"
        losses = trial.intermediate_values.values()
        color = "C1" if best else "C0" if whole else "gray"
        axes.plot(range(1, len(losses) + 1), losses, ".-", color=color)
    axes.set(xlabel="meta-iteration", ylabel="validation loss", yscale="log")
    axes.set_title("Trials: the best one orange, those ended by Optuna gray")
    run.write_figure(axes, "trials")


def main(_):
    try:
        import optuna
    except ModuleNotFoundError as error:
        message = "Optuna is missing: `pip install keras_drmad[optuna]`."
        raise app.UsageError(message) from error
    import keras

    from examples import searched_net

    images = datasets.chosen((300, 500, 997), (1000, 2000, 5000))
    run = saved_run.begin("with_optuna")
    training = searched_net.training(images, FLAGS.steps)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=FLAGS.seed),
        # It compares the lowest loss so far: one bad draw ends no trial.
        pruner=optuna.pruners.MedianPruner(4, n_warmup_steps=1),
    )
    study.optimize(
        lambda trial: run_trial(trial, images, training, run.folder),
        FLAGS.trials,
        callbacks=[lambda _, trial: say(trial)],
    )

    draw(run, study)
    best = study.best_trial.number
    model = keras.models.load_model(run.folder / f"trial_{best}.keras")
    print(f"The best trial is {best}. Kept in {run.folder}")
    held_out = {"test_data": images.test, "draws": FLAGS.draws, "seed": 1}
    print(model.check_hyperparameters(**training, **held_out, verbose=0))


if __name__ == "__main__":
    app.run(main)
