"""A penalty for each column of small tables, against cross-validation.

Logistic regression with many columns of which few matter. One L2 or L1 penalty
a column, and one L2 penalty for all columns, by `fit` with its defaults: a new
draw and a new split for each training, signs and their consensus, means of the
last half, at last a training on all rows. Beside them scikit-learn's penalties
by cross-validation.

    python -m studies.tabular --run_name=tables

Columns: log loss and error on test rows, and how well absolute coefficients,
and penalties, find the columns that matter: the areas under the ROC curves.
The same command goes on where it was killed.
"""

import warnings

import numpy as np
from absl import app, flags

from studies import study, tabular_problems

FLAGS = flags.FLAGS
study.define_flags(seeds=5)
PROBLEMS = {
    "synthetic": "500 columns, 10 of which matter",
    "cancer": "breast cancer with 300 columns of noise",
}
flags.DEFINE_list("problems", list(PROBLEMS), f"Of {', '.join(PROBLEMS)}.")
flags.register_validator(
    "problems",
    lambda names: set(names) <= set(PROBLEMS),
    f"Expected names of {', '.join(PROBLEMS)}.",
)
flags.DEFINE_integer("steps", 400, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 20, "Trainings of each tuning.", 1)
flags.DEFINE_float("reach", None, "Of SignConsensus; its own by default.", 0)
flags.DEFINE_enum(
    "hypergradient",
    "auto",
    ["auto", "drmad"],
    "The default, which is exact here; or DrMAD().",
)
flags.DEFINE_bool("cross_validate", True, "Whether scikit-learn takes part.")
flags.DEFINE_integer("folds", 5, "Of cross-validation.", 2)

TUNED = {
    "L2 a column": ("L2", "input"),
    "L1 a column": ("L1", "input"),
    "one L2": ("L2", "all"),
}
# Arguments of scikit-learn's LogisticRegressionCV.
CROSS_VALIDATED = {
    "L2, cross-validated": {"l1_ratios": (0,), "Cs": 10},
    "L1, cross-validated": {
        "l1_ratios": (1,),
        "Cs": 10,
        "solver": "liblinear",
    },
    "elastic net, cross-validated": {
        "l1_ratios": (0.2, 0.5, 0.8, 1.0),
        "Cs": np.logspace(-3, 1, 9),
        "solver": "saga",
        "max_iter": 300,
        "tol": 1e-3,
    },
}
SCORES = {
    "loss": "test log loss",
    "error": "test error, %",
    "area": "area, coefficients",
    "area_of_penalties": "area, penalties",
}


def measure(
    problem: str,
    seed: int,
    steps: int,
    meta_iterations: int,
    reach: float | None,
    hypergradient: str,
    cross_validate: bool,
    folds: int,
) -> dict[str, np.ndarray]:
    """Returns the scores of each way, and the penalties of those tuned."""
    import keras_drmad as kd

    table = tabular_problems.load(problem, seed)
    found = {}
    for name, (kind, per) in TUNED.items():
        rule = kd.SignConsensus(reach=reach) if reach else kd.SignConsensus()
        method = kd.DrMAD() if hypergradient == "drmad" else kd.Auto()
        own, penalties = tuned(
            table, kind, per, rule, method, seed, steps, meta_iterations
        )
        found[name] = [own[score] for score in SCORES]
        found[f"penalties, {name}"] = penalties
    for name, options in CROSS_VALIDATED.items() if cross_validate else ():
        own = cross_validated(table, folds, **options)
        found[name] = [own[score] for score in SCORES]
    return {name: np.array(values) for name, values in found.items()}


def tuned(
    table,
    kind: str,
    per: str,
    rule,
    method,
    seed: int,
    steps: int,
    meta_iterations,
):
    """Returns scores and penalties of `fit` with its defaults.

    Args:
        table: the problem.
        kind: `"L1"` or `"L2"`.
        per: `"input"` for a penalty a column, or `"all"`.
        rule: the meta-optimizer.
        method: of the hypergradient.
        seed: int.
        steps: int, T.
        meta_iterations: int.
    """
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(seed)
    columns = len(table.matters)
    model = kd.DrMADModel.from_model(tabular_problems.regression(columns))
    penalty = getattr(kd.hyperparameters, kind)(
        per,
        initial=tabular_problems.INITIAL,
        bounds=tabular_problems.BOUNDS,
    )
    model.compile(
        **tabular_problems.trained_by(),
        hyperparameters=[penalty],
        meta_optimizer=rule,
        hypergradient=method,
    )
    model.fit(
        *table.train,
        batch_size=50,
        steps_per_epoch=steps,
        validation_split=0.5,
        refit=True,
        meta_iterations=meta_iterations,
        seed=seed,
        verbose=0,
    )
    logits = model.predict(table.test[0], verbose=0)[:, 0].astype("float64")
    penalties = np.ravel(np.exp(penalty.raw.numpy()))
    coefficients, _ = model.get_weights()
    return tabular_problems.scores(
        table,
        1 / (1 + np.exp(-logits)),
        coefficients[:, 0],
        penalties if len(penalties) > 1 else None,
    ), penalties


def cross_validated(table, folds: int, **options) -> dict[str, float]:
    """Returns scores of a penalty that cross-validation chose."""
    from sklearn import exceptions, linear_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        model = linear_model.LogisticRegressionCV(
            cv=folds,
            scoring="neg_log_loss",
            use_legacy_attributes=False,
            random_state=0,
            **options,
        ).fit(*table.train)
    return tabular_problems.scores(
        table,
        model.predict_proba(table.test[0])[:, 1],
        model.coef_[0],
    )


# ---- tables and pictures


def rows(problem: str, records) -> list[dict[str, str]]:
    """Returns the rows of a problem: the means, and each seed."""
    table = []
    for name in names_of(records):
        scores = np.array([record[name] for record in records]).T
        row = {"problem": problem, "penalty": name}
        for score, values in zip(SCORES, scores, strict=True):
            digits = 1 if score == "error" else 3
            each = ", ".join(f"{value:.{digits}f}" for value in values)
            mean = study.mean_and_deviation(values, digits)
            there = np.isfinite(values).all()
            row[score] = mean if there else "-"
            row[f"{score}_of_seeds"] = each if there else "-"
        table.append(row)
    return table


def names_of(records) -> list[str]:
    """Returns the names of the ways that took part, in their order."""
    return [name for name in (*TUNED, *CROSS_VALIDATED) if name in records[0]]


def draw(run, found) -> None:
    """Writes scores by seed, and the penalties of both sorts of columns."""
    axes = study.panels(len(found), len(SCORES), (15, 3.2 * len(found)))
    for problem, line in zip(found, axes, strict=True):
        draw_scores(line, problem, found[problem])
    run.write_figure(axes[0, 0], "scores")
    axes = study.panels(1, len(found), (5.5 * len(found), 4))[0]
    for problem, one in zip(found, axes, strict=True):
        draw_penalties(one, problem, found[problem])
    axes[0].set_ylabel("columns of all seeds")
    run.write_figure(axes[0], "penalties")


def draw_scores(axes, problem: str, records) -> None:
    """Draws a panel for each score, a point for each seed."""
    names = names_of(records)
    for k, (one, title) in enumerate(zip(axes, SCORES.values(), strict=True)):
        for place, name in enumerate(names[::-1]):
            values = np.array([record[name][k] for record in records])
            color = "C0" if name in TUNED else "0.5"
            here = np.full(len(values), place)
            one.plot(values, here, ".", color=color, alpha=0.5)
            one.plot(values.mean(), place, "|", color=color, ms=16, mew=2)
        one.set_yticks(range(len(names)), names[::-1] if k == 0 else [])
        one.set_ylim(-0.5, len(names) - 0.5)  # also where some have no score
        one.set_title(title if k else f"{problem}: {title}")
        one.grid(axis="x", alpha=0.3)


def draw_penalties(axes, problem: str, records) -> None:
    """Draws how many columns have which L1 penalty."""
    logs = np.log10([r["penalties, L1 a column"] for r in records])
    matters = tabular_problems.load(problem, 0).matters
    bins = np.linspace(logs.min(), logs.max() + 1e-6, 31)
    for name, are in (("matter", matters), ("do not", ~matters)):
        axes.hist(logs[:, are].ravel(), bins, alpha=0.6, label=name)
    axes.set_yscale("log")
    axes.set_title(PROBLEMS[problem])
    axes.set_xlabel("logarithm (10) of the L1 penalty of a column")
    axes.legend(title="columns that")


def main(_):
    run = study.begin("tabular")
    common = study.values(
        "steps",
        "meta_iterations",
        "reach",
        "hypergradient",
        "cross_validate",
        "folds",
    )
    cells = {
        f"{problem}_{seed}": common | {"problem": problem, "seed": seed}
        for problem in FLAGS.problems
        for seed in range(FLAGS.seeds)
    }
    found = study.by_seed(study.run_cells(run, measure, cells))
    draw(run, found)
    table = [row for name in found for row in rows(name, found[name])]
    study.report(run, table, "results")


if __name__ == "__main__":
    app.run(main)
