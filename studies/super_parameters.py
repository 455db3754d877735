"""Searches a meta learning rate as the DrMAD paper does, against a sweep.

The paper's "hyperparameters of the hyperparameters": rates are drawn for a few
meta-iterations each, and the first that lowers the validation loss is good
enough. Here the rate is the step of the sign descent that moves one L2 penalty
for each unit of a tanh net (934 on MNIST). A sweep tunes them with each of
several rates in full. The pictures and the table show where the rates found by
the search, one for each seed, stand among these, and what each way costs.

    python -m studies.super_parameters
    python -m studies.super_parameters --dataset=mnist --data_dir=FOLDER

With `--workers=2` two processes try rates at a time, by KerasTuner's own
distribution: a chief draws the rates and decides when to stop. The same
command, with the same `--run_name`, goes on where it was killed.
"""

import math
import multiprocessing
import os
import socket
from multiprocessing import connection

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags(["digits", "mnist"], seeds=3)
flags.DEFINE_list("hidden", ["50", "50", "50"], "Units of the hidden layers.")
flags.DEFINE_integer("steps", 2000, "T, elementary steps.", 1)
flags.DEFINE_integer("meta_iterations", 20, "Trainings of a tuning.", 1)
flags.DEFINE_list(
    "rates",
    ["0.01", "0.03", "0.07", "0.14", "0.3", "0.6", "1.2", "2.5"],
    "Those of the sweep; the search draws between the first and the last.",
)
flags.DEFINE_integer("trials", 10, "Rates that a search draws at most.", 1)
flags.DEFINE_integer(
    "search_meta_iterations", 3, "Trainings of a trial at most.", 2
)
flags.DEFINE_integer(
    "workers", 0, "Processes of a search beside its chief; 0: one does all.", 0
)

LOG_PENALTIES = {"mnist": -4.4, "digits": -5.5}  # at the start


@flags.validator("rates", "Expected increasing positive numbers, two or more.")
def _are_increasing(values):
    try:
        rates = [float(value) for value in values]
    except ValueError:
        return False
    return len(rates) > 1 and rates[0] > 0 and rates == sorted(set(rates))


# ---- one tuning, one search


def build_model(dataset: str, images, hidden: list[int], rate: float):
    """Returns the tanh net, its penalties moved by steps of this rate."""
    import keras_drmad as kd
    from studies import papers

    model = papers.papers_model(images, hidden)
    penalties = kd.hyperparameters.L2("input", math.exp(LOG_PENALTIES[dataset]))
    papers.compile_as_papers(model, 0.05, 0.95, penalties, kd.DrMAD(), rate)
    return model


def tune(
    dataset: str,
    data_dir: str | None,
    hidden: list[int],
    steps: int,
    seed: int,
    rate: float,
    meta_iterations: int,
):
    """Tunes the penalties with a rate; returns the history."""
    import keras

    import keras_drmad as kd
    from studies import papers

    images = papers.load(dataset, data_dir, seed)
    keras.utils.set_random_seed(seed)
    return (
        build_model(dataset, images, hidden, rate)
        .fit(
            *images.train,
            batch_size=50,
            steps_per_epoch=steps,
            validation_data=images.validation,
            meta_iterations=meta_iterations,
            initial_weights="same",
            seed=seed,
            verbose=0,
            callbacks=[kd.callbacks.HeldOut(*images.test, batch_size=1000)],
        )
        .history
    )


def search(workers: int, **settings):
    """Searches a rate; returns it, and what was tried.

    Args:
        workers: int, 0 for a search in this process.
        **settings: those of `take_part`.
    """
    if workers:
        search_in_processes(workers, settings)
    done = take_part({}, **settings)  # has little to do after the processes
    return {
        "rate": done.rates["l2"],
        "rates": [draw.rate for draw in done.draws],
        "start_loss": [draw.start_loss for draw in done.draws],
        "val_loss": [draw.val_loss for draw in done.draws],
        "trainings": sum(draw.meta_iterations for draw in done.draws),
    }


def take_part(
    environment: dict[str, str],
    *,
    dataset: str,
    data_dir: str | None,
    hidden: list[int],
    steps: int,
    seed: int,
    rates: tuple[float, float],
    trials: int,
    meta_iterations: int,
    folder: str,
):
    """Runs a search, or its part in one; goes on with what is in the folder.

    Args:
        environment: variables that tell KerasTuner which part.
    """
    os.environ.update(environment)
    import keras_drmad as kd
    from studies import papers

    images = papers.load(dataset, data_dir, seed)
    part = kd.MetaRateSearch(
        lambda drawn: build_model(dataset, images, hidden, drawn["l2"]),
        {"l2": rates},
        max_trials=trials,
        meta_iterations=meta_iterations,
        seed=seed,
        directory=folder,
        project_name=f"seed_{seed}",
    )
    part.search(
        *images.train,
        batch_size=50,
        steps_per_epoch=steps,
        validation_data=images.validation,
        verbose=0,
    )
    return part


def search_in_processes(workers: int, settings: dict) -> None:
    """Runs a search in a chief and several workers, until the chief ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
        "TF_NUM_INTRAOP_THREADS": str(max(1, (os.cpu_count() or 1) // workers)),
    }
    names = ["chief", *(f"worker_{k}" for k in range(workers))]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(
            target=take_part,
            args=(common | {"KERASTUNER_TUNER_ID": name},),
            kwargs=settings,
        )
        for name in names
    ]
    try:
        for process in processes:
            process.start()
        wait_for_the_first(processes)
    finally:
        # A worker that comes late would wait an hour for its chief.
        for process in processes:
            process.terminate()
            process.join()


def wait_for_the_first(processes: list) -> None:
    """Waits until the first process ends; an error if another one fails."""
    running = list(processes)
    while processes[0] in running:
        connection.wait([process.sentinel for process in running])
        for process in [p for p in running if not p.is_alive()]:
            running.remove(process)
            if process.exitcode:
                raise RuntimeError(
                    "A process of the search failed; its error stands above. "
                    "The same command goes on where it was."
                )


# ---- the study


def problem(seed: int) -> dict:
    """Returns the settings that tunings and searches share."""
    return {
        **study.values("dataset", "data_dir", "steps"),
        "hidden": study.whole("hidden"),
        "seed": seed,
    }


def searches(folder: str) -> dict[str, dict]:
    """Returns the settings of the search of each seed."""
    return {
        f"search_seed_{seed}": problem(seed)
        | {
            "workers": FLAGS.workers,
            "rates": (float(FLAGS.rates[0]), float(FLAGS.rates[-1])),
            "trials": FLAGS.trials,
            "meta_iterations": FLAGS.search_meta_iterations,
            "folder": folder,
        }
        for seed in range(FLAGS.seeds)
    }


def tunings(found: dict[int, float]) -> dict[str, dict]:
    """Returns the settings of the sweep, and with the rates found."""
    pairs = {
        f"rate_{rate}_seed_{seed}": (float(rate), seed)
        for rate in FLAGS.rates
        for seed in found
    }
    pairs |= {f"found_seed_{s}": (rate, s) for s, rate in found.items()}
    return {
        name: problem(seed)
        | {"rate": rate, "meta_iterations": FLAGS.meta_iterations}
        for name, (rate, seed) in pairs.items()
    }


def outcome(history) -> dict[str, float]:
    """Returns what `fit` leaves, and the loss it ended with."""
    best = history["val_loss"].argmin()
    return {
        "start_val_loss": history["val_loss"][0],
        "last_val_loss": history["val_loss"][-1],
        "val_loss": history["val_loss"][best],
        "test_loss": history["test_loss"][best],
        "test_error_percent": 100 * (1 - history["test_accuracy"][best]),
    }


def row(name: str, outcomes: list[dict], trainings: list) -> dict:
    """Returns a row of the table: means and deviations over seeds."""
    columns = {"rate": name}
    for key in ("last_val_loss", "val_loss", "test_loss", "test_error_percent"):
        values = np.array([one[key] for one in outcomes])
        digits = 2 if "percent" in key else 4
        columns[key] = f"{values.mean():.{digits}f}"
        columns[f"{key}_sd"] = f"{values.std():.{digits}f}"
    columns["elementary_steps"] = f"{FLAGS.steps * np.mean(trainings):.0f}"
    return columns


def table(outcomes: dict[str, list], found: list[dict]) -> list[dict]:
    """Returns a row for each rate, for the best of all and for those found."""
    full = FLAGS.meta_iterations
    sweep = {rate: outcomes[f"rate_{rate}"] for rate in FLAGS.rates}
    rows = [row(rate, of, [full]) for rate, of in sweep.items()]
    best = [
        min(of, key=lambda one: one["val_loss"])
        for of in zip(*sweep.values(), strict=True)
    ]
    rows.append(row("best of these", best, [full * len(sweep)]))
    drawn = ", ".join(f"{one['rate']:.3g}" for one in found)
    trainings = [int(one["trainings"]) + full for one in found]
    rows.append(row(f"found: {drawn}", outcomes["found"], trainings))
    return rows


def draw(run, outcomes: dict[str, list], found: list[dict]) -> None:
    """Writes the picture: validation loss against the rate."""
    from keras_drmad import plots

    axes = study.panels(1, 1, (7.5, 5))[0, 0]
    rates = [float(rate) for rate in FLAGS.rates]
    labels = {"val_loss": "best training", "last_val_loss": "last training"}
    for key, label in labels.items():
        columns = [
            [one[key] for one in outcomes[f"rate_{rate}"]]
            for rate in FLAGS.rates
        ]
        plots.mean_and_band(
            rates, np.transpose(columns), axes=axes, label=label
        )
    axes.lines[-1].set_linestyle("--")  # seen where both are the same
    ends = outcomes["found"]
    axes.plot(
        [float(one["rate"]) for one in found],
        [one["val_loss"] for one in ends],
        "k*",
        markersize=11,
        linestyle="none",
        label="best training, rate found by search",
    )
    start = np.mean([one["start_val_loss"] for one in ends])
    axes.axhline(start, color="gray", linestyle=":", label="before tuning")
    axes.set(
        xscale="log",
        xlabel="meta learning rate (step of the log penalties)",
        ylabel="validation loss",
        title=f"After {FLAGS.meta_iterations} meta-iterations, "
        f"mean and deviation of {FLAGS.seeds} seeds",
    )
    study.legend_below(axes, columns=2)
    run.write_figure(axes, "rates")


def main(_):
    from studies import papers

    papers.load(FLAGS.dataset, FLAGS.data_dir, 0)  # or an error now
    run = study.begin("super_parameters")
    folder = str(run.folder / "searches")
    found = list(study.run_cells(run, search, searches(folder)).values())
    rates = {seed: float(one["rate"]) for seed, one in enumerate(found)}
    histories = study.run_cells(run, tune, tunings(rates))
    outcomes = study.by_seed(
        {name: outcome(history) for name, history in histories.items()}
    )
    draw(run, outcomes, found)
    study.report(run, table(outcomes, found), "results")


if __name__ == "__main__":
    app.run(main)
