"""The paper's MNIST experiment: 934 penalties by DrMAD and by reverse mode.

Fu et al. 2016, figure 8: trainings of 2,000 and of 20,000 steps, momentum 0.1
as in the paper and 0.95 as in its code, several seeds. Beside them one penalty
for all weights, tuned in the same way: what 934 of them do more is seen by it.

    python -m studies.penalties_study --data_dir=FOLDER --run_name=mnist

The same command goes on where it was killed.
"""

import math

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags(["mnist", "digits"], seeds=3)

LABELS = {
    "drmad": "DrMAD",
    "reverse": "RMAD, exact",
    "default": "DrMAD(), this package's",
    "one": "DrMAD, one penalty",
}

flags.DEFINE_list(
    "curves",
    [
        "drmad:2000",
        "default:2000",
        "reverse:2000",
        "drmad:20000",
        "reverse:20000",
        "one:2000",
        "one:20000",
    ],
    "Pairs of a method and T, the elementary steps. Methods: drmad, the "
    "paper's; default, this package's DrMAD(); reverse, exact; one, the "
    "paper's with one penalty for all weights.",
)
flags.register_validator(
    "curves",
    lambda curves: all(
        name in LABELS and T.isdigit() and int(T) > 0
        for name, _, T in (curve.partition(":") for curve in curves)
    ),
    f"Expected pairs such as drmad:2000, of {', '.join(LABELS)}.",
)
flags.DEFINE_list(
    "momenta",
    ["0.1:0.1", "0.95:0.05"],
    "Pairs gamma:alpha of v <- gamma v - (1 - gamma) g, w <- w + alpha v.",
)
flags.DEFINE_integer("meta_iterations", 20, "Trainings.", 1)
flags.DEFINE_float(
    "meta_step",
    0.14,
    "Step of the log penalties, against the hypergradient's sign. The papers' "
    "code steps by 0.07 on t, where a penalty is exp(-4 - 2 t).",
    0,
)
flags.DEFINE_float("log_penalty", -4.4, "Of the penalties at the start.")
flags.DEFINE_list("hidden", ["50", "50", "50"], "Units of the hidden layers.")


def method_of(name: str, T: int):
    """Returns a method by the name of its curve."""
    import keras_drmad as kd
    from studies.papers import drmad_of_paper

    methods = {
        "drmad": drmad_of_paper(),
        "one": drmad_of_paper(),
        "default": kd.DrMAD(),
        "reverse": kd.ReverseMode("stored" if T <= 5000 else "checkpointed"),
    }
    return methods[name]


def tune(
    dataset: str,
    data_dir: str | None,
    method: str,
    T: int,
    gamma: float,
    alpha: float,
    seed: int,
    meta_iterations: int,
    meta_step: float,
    log_penalty: float,
    hidden: list[int],
):
    """Tunes the penalties; returns the record of each training.

    As in the papers' code each training starts from new weights and goes
    through the data in a new order.
    """
    import keras

    import keras_drmad as kd
    from studies import papers

    images = papers.load(dataset, data_dir, seed)
    keras.utils.set_random_seed(seed)
    model = papers.papers_model(images, hidden)
    papers.compile_as_papers(
        model,
        alpha,
        gamma,
        kd.hyperparameters.L2(
            "all" if method == "one" else "input", math.exp(log_penalty)
        ),
        method_of(method, T),
        meta_step,
    )
    recorder = kd.callbacks.HyperparameterHistory()
    history = model.fit(
        *images.train,
        batch_size=50,
        steps_per_epoch=T,
        validation_data=images.validation,
        meta_iterations=meta_iterations,
        initial_weights="resample",
        keep="best",
        seed=seed,
        verbose=0,
        callbacks=[
            kd.callbacks.HeldOut(*images.test, batch_size=1000),
            kd.callbacks.Diagnostics(),
            recorder,
        ],
    ).history
    kept = (
        "val_loss",
        "test_loss",
        "test_accuracy",
        "adjoint_growth",
        "reverse_steps_used",
    )
    record = {name: np.array(history[name]) for name in kept}
    log_l2 = np.log(recorder.values["l2"]).astype("float32")
    record["log_l2"] = log_l2.reshape(len(log_l2), -1)
    return record


# ---- tables and pictures


def cells() -> dict[str, dict]:
    """Returns the settings of each tuning."""
    common = study.values(
        "dataset", "data_dir", "meta_iterations", "meta_step", "log_penalty"
    ) | {"hidden": study.whole("hidden")}
    settings = {}
    for method, _, T in (curve.partition(":") for curve in FLAGS.curves):
        for pair in FLAGS.momenta:
            gamma, alpha = map(float, pair.split(":"))
            for seed in range(FLAGS.seeds):
                settings[f"{method}_{T}_momentum_{gamma}_seed_{seed}"] = {
                    **common,
                    "method": method,
                    "T": int(T),
                    "gamma": gamma,
                    "alpha": alpha,
                    "seed": seed,
                }
    return settings


def groups_of(results, cells: dict[str, dict]) -> dict[tuple, list]:
    """Returns the records of cells that differ in the seed only."""
    groups: dict[tuple, list] = {}
    for name, cell in cells.items():
        key = cell["gamma"], cell["T"], cell["method"]
        groups.setdefault(key, []).append(results[name])
    return groups


def draw(run, groups):
    """Writes figure 8: log coefficients and test error by meta-iterations."""
    from keras_drmad import plots

    gammas = sorted({gamma for gamma, _, _ in groups})
    size = (5.5 * len(gammas), 8)
    rows = study.panels(2, len(gammas), size, sharex=True, sharey="row")
    steps = np.arange(1, FLAGS.meta_iterations + 1)
    for (gamma, T, method), records in groups.items():
        above, below = rows[:, gammas.index(gamma)]
        label = f"{LABELS[method]} ({T:,})"
        # Each of the 934 in each seed is a row: (seeds * 934, meta_iterations).
        logs = np.concatenate([record["log_l2"].T for record in records])
        plots.mean_and_band(steps, logs, axes=above, label=label)
        plots.mean_and_band(steps, errors(records), axes=below, label=label)
    for gamma, (above, below) in zip(gammas, rows.T, strict=True):
        above.set_title(f"momentum {gamma}")
        study.number_meta_iterations(below)
        below.set_ylim(bottom=0)
    rows[0, 0].set_ylabel("logarithm of the L2 coefficients")
    rows[1, 0].set_ylabel("test error, %")
    rows[0, -1].legend(fontsize="small")
    rows[0, 0].figure.suptitle(
        "Mean, and one standard deviation (top: of all penalties)"
    )
    run.write_figure(rows[0, 0], "figure_8")


def errors(records) -> np.ndarray:
    """Returns test errors in percent, `(seeds, meta_iterations)`."""
    return np.array([100 * (1 - one["test_accuracy"]) for one in records])


def persistence(log_l2) -> float:
    """Returns how far coefficients keep the direction of their steps.

    Args:
        log_l2: array `(meta_iterations, coefficients)`.

    Returns:
        Mean product of the signs of successive steps: 1 where no coefficient
        ever turns, 0 where each step is a coin's throw; nan for fewer than two
        steps.
    """
    signs = np.sign(np.diff(log_l2, axis=0))
    products = signs[1:] * signs[:-1]
    return products.mean() if len(products) else np.nan


def growth_limit(method: str, T: int) -> float:
    """Returns the growth of the adjoint at which a walk ends early."""
    return method_of(method, T).bind(T, None).growth_limit


def rows(groups) -> list[dict]:
    """Returns what each method reached, mean and deviation over seeds."""
    table = []
    for (gamma, T, method), of in groups.items():
        error = errors(of)
        final = np.array([one["log_l2"][-1] for one in of])
        persistent = [persistence(one["log_l2"]) for one in of]
        growth = max(one["adjoint_growth"].max() for one in of)
        limit = growth_limit(method, T)
        cut = [one["adjoint_growth"] > limit for one in of]
        many = final.shape[1] > 1
        exact = groups.get((gamma, T, "reverse"), []) if many else []
        alike = [
            np.corrcoef(one, record["log_l2"][-1])[0, 1]
            for one, record in zip(final, exact, strict=False)
        ]
        table.append(
            {
                "momentum": gamma,
                "method": f"{LABELS[method]} ({T:,})",
                "first_error": f"{error[:, 0].mean():.2f}",
                "last_error": f"{error[:, -1].mean():.2f}",
                "last_error_sd": f"{error[:, -1].std():.2f}",
                "log_l2": f"{final.mean():.2f}",
                "log_l2_sd": f"{final.std(axis=1).mean():.2f}",
                "correlation_with_exact": f"{np.mean(alike):.2f}"
                if alike
                else "",
                "sign_persistence": f"{np.mean(persistent):.2f}",
                "largest_growth": f"{growth:.3g}",
                "walks_cut_percent": f"{100 * np.mean(cut):.0f}",
            }
        )
    return table


def main(_):
    from studies import papers

    papers.load(FLAGS.dataset, FLAGS.data_dir, 0)  # or an error now
    run = study.begin("penalties_study")
    settings = cells()
    groups = groups_of(study.run_cells(run, tune, settings), settings)
    draw(run, groups)
    study.report(run, rows(groups), "results")


if __name__ == "__main__":
    app.run(main)
