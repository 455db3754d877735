"""KerasTuner searches the few, `fit` learns the many.

`Hyperband` chooses what has no derivative (depth, width, activation, optimizer)
and the rate. `HyperModel.fit` tunes an L2 penalty for each input of each layer
by hypergradient. What Hyperband calls epochs are meta-iterations: many trials
have few of them, and the best go on from their checkpoints as if they had never
stopped. A trial is worth the loss of its last training, with the penalties
found. At last the best trial's penalties are compared with those that it began
with, on new draws.

    python -m examples.with_keras_tuner
    python -m examples.with_keras_tuner --dataset=mnist --data_dir=FOLDER

Needs KerasTuner: `pip install '.[tuner]'`.
"""

import math

from absl import app, flags
from matplotlib import pyplot as plt

from examples import datasets, saved_run

FLAGS = flags.FLAGS
saved_run.define_flags()
datasets.define_flags()
flags.DEFINE_integer("steps", 200, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 6, "Of the trials that last.", 3)
flags.DEFINE_integer("draws", 3, "New draws, on which the best is tried.", 2)

# What the objective is called. KerasTuner saves weights when its objective is
# better in the logs, which would be luck: each meta-iteration has new draws.
# Where the logs lack it, it saves them each time, and trials can go on.
WORTH = "loss_of_last_training"


def hypermodel(images: datasets.Images):
    """Returns the `HyperModel` whose `fit` tunes the many."""
    import keras
    import keras_tuner

    from examples.searched_net import compiled_net

    class Tuned(keras_tuner.HyperModel):
        def build(self, hp):
            if hp.Choice("optimizer", ["SGD", "Adam"]) == "SGD":
                rate = hp.Float("sgd_rate", 3e-3, 1.0, sampling="log")
                optimizer = keras.optimizers.SGD(rate, momentum=0.9)
            else:
                rate = hp.Float("adam_rate", 3e-4, 3e-2, sampling="log")
                optimizer = keras.optimizers.Adam(rate)
            return compiled_net(
                images,
                layers=hp.Int("layers", 1, 3),
                width=hp.Int("width", 20, 100, sampling="log"),
                activation=hp.Choice("activation", ["relu", "tanh"]),
                optimizer=optimizer,
                seed=FLAGS.seed,
            )

        def fit(self, hp, model, epochs, initial_epoch, **options):
            span = {"meta_iterations": epochs, "initial_epoch": initial_epoch}
            try:
                model.fit(**span, **options)
            except FloatingPointError as error:  # the first training diverged
                raise keras_tuner.errors.FailedTrialError(str(error)) from error
            loss = model.final_logs.get("val_loss", math.nan)
            if math.isnan(loss):
                message = "The last training diverged."
                raise keras_tuner.errors.FailedTrialError(message)
            return {WORTH: loss}

    return Tuned()


def draw(run, trials) -> None:
    """Writes the picture of a run."""
    from examples import searched_net

    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    ticks = set()
    for name in ("SGD", "Adam"):
        own = [t for t in trials if t.hyperparameters["optimizer"] == name]
        steps = [t.hyperparameters["tuner/epochs"] for t in own]
        axes.plot(steps, [t.score for t in own], "o", alpha=0.6, label=name)
        ticks.update(steps)
    searched_net.use_log_scale(axes)
    axes.set_xticks(sorted(ticks))
    axes.set(xlabel="meta-iterations of a trial", title="Trials of Hyperband")
    axes.set_ylabel("validation loss of its last training")
    axes.legend()
    run.write_figure(axes, "trials")


def main(_):
    try:
        import keras_tuner
    except ModuleNotFoundError as error:
        message = "KerasTuner is missing: `pip install '.[tuner]'`."
        raise app.UsageError(message) from error

    from examples import searched_net

    images = datasets.chosen((300, 500, 997), (1000, 2000, 5000))
    run = saved_run.begin("with_keras_tuner")
    training = searched_net.training(images, FLAGS.steps)
    tuner = keras_tuner.Hyperband(
        hypermodel(images),
        keras_tuner.Objective(WORTH, "min"),
        max_epochs=FLAGS.meta_iterations,
        seed=FLAGS.seed + 1,  # 0 is none to KerasTuner
        max_consecutive_failed_trials=10,
        directory=run.folder,
        project_name="trials",
    )
    options = training | {"seed": FLAGS.seed, "verbose": 0}
    tuner.search(**options)

    trials = tuner.oracle.get_best_trials(len(tuner.oracle.trials))
    draw(run, trials)
    print("trial  meta-iterations  loss of the last training")
    for trial in trials:
        values = trial.hyperparameters.values
        words = f"{trial.trial_id:5}  {values['tuner/epochs']:15}"
        print(words, f" {trial.score:25.4f} ", searched_net.in_words(values))
    print(f"{len(tuner.oracle.trials) - len(trials)} trials failed.")
    (model,) = tuner.get_best_models(1)
    # Its checkpoint is of the last meta-iteration: what is left to do are the
    # means of the penalties, and the last training.
    end = trials[0].hyperparameters["tuner/epochs"]
    model.fit(**options, meta_iterations=end, initial_epoch=end)
    model.save(run.folder / "model.keras")
    print(f"The best trial is {trials[0].trial_id}. Kept in {run.folder}")
    held_out = {"test_data": images.test, "draws": FLAGS.draws}
    options = training | held_out | {"seed": FLAGS.seed + 1, "verbose": 0}
    print(model.check_hyperparameters(**options))


if __name__ == "__main__":
    app.run(main)
