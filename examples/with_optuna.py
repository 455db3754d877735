"""Optuna searches the few, `fit` learns the many.

Each trial chooses what has no derivative (depth, width, activation, optimizer)
and the rate. Within the trial `fit` tunes an L2 penalty for each input of each
layer by hypergradient, and reports the validation loss of each meta-iteration;
where the trial is behind most others, Optuna ends it. A trial is worth the loss
of its last training, with the penalties found. At last the best trial's
penalties are compared with those that it began with, on new draws.

    python -m examples.with_optuna
    python -m examples.with_optuna --dataset=mnist --data_dir=FOLDER

Needs Optuna: `pip install '.[optuna]'`.
"""

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
    if not model.final_logs:
        raise optuna.TrialPruned("The last training diverged.")
    loss = model.final_logs["val_loss"]
    before = trial.study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if all(loss < other.value for other in before):
        model.save(folder / "model.keras")
    return loss


def say(trial) -> None:
    """Prints a line on a trial that ended."""
    from examples import searched_net

    # A pruned trial has a value too, of its last meta-iteration.
    loss = f"{trial.value:.4f}" if trial.state.name == "COMPLETE" else "-"
    count = len(trial.intermediate_values)
    words = f"{trial.number:5}  {trial.state.name:8}  {count:15}  {loss:>25}"
    print(words, "", searched_net.in_words(trial.params), flush=True)


def draw(run, study) -> None:
    """Writes the picture of a run."""
    from examples import searched_net

    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    end = FLAGS.meta_iterations + 1
    colors = {"best": "C1", "whole": "C0", "ended early": "gray"}
    for name, color in colors.items():
        axes.plot([], [], ".-", color=color, label=name)
    for trial in study.trials:
        places = [epoch + 1 for epoch in trial.intermediate_values]
        losses = list(trial.intermediate_values.values())
        name = "ended early"
        if trial.state.name == "COMPLETE":
            name = "best" if trial == study.best_trial else "whole"
            places, losses = [*places, end], [*losses, trial.value]
        axes.plot(places, losses, ".-", color=colors[name])
    searched_net.use_log_scale(axes)
    axes.set_xticks(range(1, end + 1), [*range(1, end), "last"])
    axes.set(xlabel="meta-iterations, and the last training")
    axes.set(ylabel="validation loss", title="Trials of Optuna")
    axes.legend()
    run.write_figure(axes, "trials")


def main(_):
    try:
        import optuna
    except ModuleNotFoundError as error:
        message = "Optuna is missing: `pip install '.[optuna]'`."
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
    print("trial  state     meta-iterations  loss of the last training")
    study.optimize(
        lambda trial: run_trial(trial, images, training, run.folder),
        FLAGS.trials,
        callbacks=[lambda _, trial: say(trial)],
    )

    draw(run, study)
    model = keras.models.load_model(run.folder / "model.keras")
    print(f"The best trial is {study.best_trial.number}. Kept in {run.folder}")
    held_out = {"test_data": images.test, "draws": FLAGS.draws}
    options = training | held_out | {"seed": FLAGS.seed + 1, "verbose": 0}
    print(model.check_hyperparameters(**options))


if __name__ == "__main__":
    app.run(main)
