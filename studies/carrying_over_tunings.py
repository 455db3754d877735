"""The rules that the study compares, and the tunings of a cell."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from sklearn import metrics

import keras_drmad as kd
from keras_drmad import meta_optimizers
from studies import carrying_over_problems as problems
from studies import rprop

SMALL = 1e-6  # a norm that every hypergradient exceeds


class Rule(NamedTuple):
    """A way to tune.

    Attributes:
        meta_optimizer: function of the number of entries and of their kind,
            of whose unit Keras's own optimizers know nothing.
        options: dict, of the arguments of `fit`.
    """

    meta_optimizer: Any
    options: dict[str, Any]


def _consensus(*rates: float, reach: Any = None, **options) -> Rule:
    """Returns the default with other constants.

    Args:
        *rates: of `SignConsensus`.
        reach: float, how far entries go, whatever their kind; `None` for what
            is the default for the kind.
        **options: of `SignConsensus`.
    """

    def of(_, kind):
        if reach is None:
            return kd.SignConsensus(*rates, **options)
        return kd.SignConsensus(*rates, reach=reach / kind.reach, **options)

    return Rule(of, {})


def _descent(**options) -> Rule:
    return Rule(lambda *_: kd.SignDescent(0.3), options)


def _keras(name: str, rate: float, **options) -> Rule:
    optimizer = getattr(keras.optimizers, name)
    return Rule(lambda _, kind: optimizer(rate * kind.unit), options)


def _normalized(count: int, kind) -> keras.Optimizer:
    """Returns momentum on hypergradients of one norm, .3 units an entry."""
    rate = 0.3 * kind.unit * (1 - 0.9) * count**0.5 / SMALL
    return keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=SMALL)


def _plain(rate: float, **options) -> Rule:
    """Returns plain steps for weights of examples.

    The hypergradient of one of them is of the size of 1 / examples.
    """
    return Rule(lambda count, _: keras.optimizers.SGD(rate * count), options)


def _papers(*_) -> keras.Optimizer:
    """Returns the papers' steps for matrices of what nets share."""
    return keras.optimizers.SGD(0.2)


RULES = {
    "SignConsensus()": _consensus(),
    **{
        f"SignConsensus({name}={value!r})": _consensus(**{name: value})
        for name, values in {
            "reach": (3.0, 6.0, 9.0),
            "prior": (3.0, 12.0),
            "forget": (0.9,),
            "layer_rate": (0.0,),
            "single": ("consensus", "both"),
        }.items()
        for value in values
    },
    "SignConsensus(1e-9), no common parts": _consensus(1e-9),
    "SignDescent(0.3), mean": _descent(),
    "SignDescent(0.3), last": _descent(keep="last"),
    "SignDescent(0.3), same path": _descent(initial_weights="same"),
    "Adam(0.3), mean": _keras("Adam", 0.3),
    "Adam(0.05), mean": _keras("Adam", 0.05),
    "Lion(0.3), mean": _keras("Lion", 0.3),
    "Rprop(0.3), mean": Rule(
        lambda _, kind: rprop.Rprop(0.3 * kind.unit, largest=3.0 * kind.unit),
        {},
    ),
    "SGD, normalized, mean": Rule(_normalized, {}),
    **{f"SGD({r} entries), mean": _plain(r) for r in (0.5, 2.0, 8.0)},
    "SGD(0.5 entries), best": _plain(0.5, keep="best"),
    "SGD(0.2), mean": Rule(_papers, {}),
    "SGD(0.2), last": Rule(_papers, {"keep": "last"}),
}

METHODS: dict[str, Callable[[], Any]] = {
    "drmad": kd.DrMAD,
    "exact": kd.ReverseMode,
    "anchors": lambda: kd.DrMAD(0.5, anchors=39, spacing="end"),
    "gauss_newton": lambda: kd.DrMAD(curvature="gauss_newton"),
}


def cell(
    problem: str,
    data_dir: str | None,
    method: str,
    rules: list[str],
    has_grid: bool,
    seed: int,
    draws: int,
    meta_iterations: int,
    divide_steps: int,
) -> dict[str, np.ndarray]:
    """Tunes by each rule, and tries what all found on the same new draws.

    Returns:
        Dict with `names`, "start" first; `val_loss`, `test_loss` and
        `test_accuracy`, `(names, draws)`; `values`, `(names, entries)`;
        `returned`, `(names, 2)`, test loss and accuracy of the models that
        `fit` returned, nan for values that were given; and `grid`, the numbers
        tried as one value for all. With `areas`, `(names,)`, of the ROC curve
        by which values find the entries that matter, if the problem has such.
    """
    task = problems.task(problem, data_dir, seed, divide_steps)
    model = task.model
    model.compile(
        **task.training,
        hyperparameters=task.kinds,
        hypergradient=METHODS[method](),
    )
    start = values_of(model)
    found, returned = {"start": start}, {}
    for name in rules:
        tune(task, RULES[name], start, meta_iterations, seed)
        found[name] = values_of(model)
        returned[name] = model.evaluate(
            *task.test, batch_size=1000, verbose=0, return_dict=True
        )
    kind = task.kinds[0].name
    grid = list(task.grid) if has_grid else []
    for number in grid:
        same = np.full_like(start[kind], number)
        found[f"grid {number}"] = start | {kind: same}
    check = model.check_hyperparameters(
        *task.train,
        **task.options,
        test_data=task.test,
        draws=draws,
        others={name: v for name, v in found.items() if name != "start"},
        seed=seed,
        verbose=0,
    )
    areas = {}
    if task.matters is not None:
        ways = [values[kind] for values in found.values()]
        areas["areas"] = np.array([area(task, values) for values in ways])
    nothing = {"loss": np.nan, "accuracy": np.nan}
    ends = [returned.get(name, nothing) for name in found]
    return {
        "names": np.array(list(found)),
        "grid": np.array(grid, float),
        **areas,
        "values": np.array(
            [
                np.concatenate([*map(np.ravel, v.values())])
                for v in found.values()
            ]
        ),
        "returned": np.array([[e["loss"], e["accuracy"]] for e in ends]),
        **{
            measure: np.array([check.results[name][measure] for name in found])
            for measure in ("val_loss", "test_loss", "test_accuracy")
        },
    }


def tune(
    task: problems.Task, rule: Rule, start, meta_iterations: int, seed: int
) -> None:
    """Tunes from the starting values, by a new meta-optimizer.

    The model stays compiled, which saves most of the time of short tunings.

    Args:
        task: the problem; its model is compiled.
        rule: the way to tune.
        start: as `values_of` returned it.
        meta_iterations: int.
        seed: int, of weights, batches and splits: the same for all rules.
    """
    model, kinds = task.model, task.kinds
    for kind in kinds:
        kind.assign(start[kind.name])
    raws = [kind.raw for kind in kinds]
    count = sum(int(np.prod(raw.shape)) for raw in raws)
    meta_optimizer = rule.meta_optimizer(count, kinds[0])
    rule_of_all = meta_optimizers.united(meta_optimizer, kinds)
    rule_of_all.build(raws)
    model.meta_optimizer = rule_of_all
    x, y = task.train
    model.fit(
        x,
        y,
        **task.options,
        refit=task.refit,
        meta_iterations=meta_iterations,
        seed=seed,
        verbose=0,
        **rule.options,
    )


def area(task: problems.Task, values: np.ndarray) -> float:
    """Returns how well values find the entries that matter."""
    scores = values if task.is_high else -values
    return metrics.roc_auc_score(task.matters, scores)


def values_of(model: kd.DrMADModel) -> dict[str, np.ndarray]:
    """Returns the values of all hyperparameters by their names."""
    return {h.name: np.array(h.value()) for h in model.hyperparameters}
