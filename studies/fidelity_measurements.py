"""What `studies/fidelity.py` measures, and of which methods."""

import contextlib
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

import keras_drmad as kd
from studies.fidelity_problems import Task
from studies.study import cosine

OTHERS = 1000  # the first seed of draws of which a mean is taken
FOUR = 4


def methods() -> dict[str, Any]:
    """Returns the methods by the names of their rows."""
    return {
        "OneStep()": kd.OneStep(),
        "Implicit('neumann', 20)": kd.Implicit("neumann", 20),
        "Implicit('cg', 20)": kd.Implicit("cg", 20),
        "DrMAD()": kd.DrMAD(),
        "DrMAD(last=0.1), gauss_newton": kd.DrMAD(
            last=0.1, curvature="gauss_newton"
        ),
        "DrMAD(last=0.1, average=False)": kd.DrMAD(last=0.1, average=False),
        "DrMAD(last=1.0, average=False)": kd.DrMAD(
            0.1, last=1.0, average=False
        ),
        "DrMAD(1.0, average=False)": kd.DrMAD(1.0, average=False),
        "same, gauss_newton": kd.DrMAD(
            1.0, average=False, curvature="gauss_newton"
        ),
        "DrMAD(0.3, 39, end)": kd.DrMAD(0.3, 39, spacing="end", last=0.3),
        "DrMAD(0.5, 39, end)": kd.DrMAD(0.5, 39, spacing="end", last=0.5),
        "DrMAD(0.7, 39, end)": kd.DrMAD(0.7, 39, spacing="end", last=0.7),
        "DrMAD(1.0, 39, end)": kd.DrMAD(1.0, 39, spacing="end"),
        "DrMAD(1.0, 39, even)": kd.DrMAD(1.0, 39),
        "DrMAD(1.0, 127, end)": kd.DrMAD(1.0, 127, spacing="end"),
        "Truncated(0.1)": kd.Truncated(0.1),
        "Truncated(0.5)": kd.Truncated(0.5),
        "ReverseMode('reversible')": kd.ReverseMode("reversible"),
        "ReverseMode('bfloat16')": kd.ReverseMode("bfloat16"),
        "ReverseMode('checkpointed')": kd.ReverseMode("checkpointed"),
        "ReverseMode()": kd.ReverseMode(),
        "DrMAD(last=0.1)": kd.DrMAD(last=0.1),
    }


class Bench:
    """One problem: its model, its starts and its exact hypergradients.

    Attributes:
        task: the `Task`.
        starts: list of the initial weights, for each seed.
        exact: list of the exact hypergradients in float64, for each seed.
        direct: list of their direct parts.
        others: the mean exact hypergradient, in float64, of other draws of
            weights and batches.
        ceiling: float, cosine of the mean of all draws to `others`.
    """

    def __init__(
        self, task: Task, seeds: int, meta_step: float, other_draws: int
    ):
        """Computes the references.

        Args:
            task: the problem.
            seeds: int, how many.
            meta_step: float, root mean square of the meta-step.
            other_draws: int, of which the mean hypergradient is taken.
        """
        self.task = task
        self.seeds = range(seeds)
        self.meta_step = meta_step
        self.draws = range(FOUR * seeds)
        rest = range(OTHERS, OTHERS + other_draws)
        self.starts = {k: self._start(k) for k in (*self.draws, *rest)}
        with in_float64():
            exact = self._of_draws(kd.ReverseMode(), (*self.seeds, *rest))
            self.direct = self._of_draws(kd.Truncated(1), self.seeds)
        self.exact = exact[:seeds]
        self.others = np.mean(exact[seeds:], axis=0)
        self.ceiling = ceiling(np.array(exact[seeds:]))
        self.alone = self.model(kd.DrMAD(1))
        self.hypergradient(self.alone, 0)  # traces and compiles
        self.lowest = [
            self.loss_after(self.alone, k, self.exact[k]) for k in self.seeds
        ]

    def model(self, method: Any):
        """Returns a compiled model."""
        model = kd.DrMADModel(*self.task.net())
        model.compile(
            optimizer=self.task.optimizer(),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            hyperparameters=self.task.kinds(),
            hypergradient=method,
        )
        return model

    def arguments(self, seed: int) -> dict[str, Any]:
        """Returns the arguments of a training."""
        train, validation = self.task.data
        return {
            "x": train[0],
            "y": train[1],
            "batch_size": self.task.batch_size,
            "steps_per_epoch": self.task.T,
            "validation_data": validation,
            "validation_batch_size": 400,
            "seed": seed,
        }

    def hypergradient(self, model, seed: int):
        """Returns the raw hypergradient as one vector, and the record."""
        model.elementary_model.set_weights(self.starts[seed])
        record = model.hypergradient(**self.arguments(seed))
        flat = [np.ravel(g) for g in record.gradients.values()]
        return np.concatenate(flat).astype("float64"), record

    def loss_after(self, model, seed: int, direction) -> float:
        """Returns the validation loss after one meta-step of fixed length."""
        model.elementary_model.set_weights(self.starts[seed])
        kinds = model.hyperparameters
        before = [h.raw.numpy() for h in kinds]
        step = self.meta_step * len(direction) ** 0.5
        step = step * direction / max(np.linalg.norm(direction), 1e-300)
        places = np.cumsum([x.size for x in before])[:-1]
        for h, x, part in zip(
            kinds, before, np.split(step, places), strict=True
        ):
            h.raw.assign(x - part.reshape(x.shape))
        try:
            return model.validation_loss_after(**self.arguments(seed))
        except FloatingPointError:
            return math.inf
        finally:
            for h, x in zip(kinds, before, strict=True):
                h.raw.assign(x)

    def rows(self, name: str, method: Any) -> list[dict[str, Any]]:
        """Returns what is measured of one method, a row for each seed."""
        model = self.model(method)
        self.hypergradient(model, 0)  # traces and compiles
        found = [self.hypergradient(model, k) for k in self.draws]
        rows = []
        for seed in self.seeds:
            four = [found[FOUR * seed + k][0] for k in range(FOUR)]
            rows.append(
                self.row(name, model, seed, *found[seed]) | self.to_others(four)
            )
        return rows

    def to_others(self, four: list) -> dict[str, float]:
        """Returns how near hypergradients come to those of other draws."""
        sign = np.sign(self.others.sum())
        return {
            "others": float(np.mean([cosine(g, self.others) for g in four])),
            "others_4": cosine(np.mean(four, axis=0), self.others),
            "sum": float(np.mean([np.sign(g.sum()) == sign for g in four])),
            "ceiling": self.ceiling,
        }

    def row(self, name: str, model, seed: int, g, record) -> dict[str, Any]:
        """Returns what is measured of one method for one seed."""
        exact, direct = self.exact[seed], self.direct[seed]
        base = record.validation_loss
        after = self.loss_after(self.alone, seed, g)
        d = record.diagnostics
        _, alone = self.hypergradient(self.alone, seed)
        whole = sum(v for k, v in d.items() if k.startswith("seconds"))
        return dict(
            problem=self.task.name,
            title=self.task.title,
            method=name,
            seed=seed,
            cosine=cosine(g, exact),
            indirect=cosine(without(g, direct), without(exact, direct)),
            signs=float(np.mean(np.sign(g) == np.sign(exact))),
            norm=float(np.linalg.norm(g) / np.linalg.norm(exact)),
            gain=(base - after) / (base - self.lowest[seed]),
            time=whole / alone.diagnostics["seconds_forward"],
            copies=d["copies"],
        )

    def _start(self, seed: int):
        """Returns the initial weights of a seed."""
        keras.utils.set_random_seed(seed)
        return keras.Model(*self.task.net()).get_weights()

    def _of_draws(self, method: Any, draws: Iterable[int]) -> list:
        """Returns a method's hypergradients."""
        model = self.model(method)
        return [self.hypergradient(model, draw)[0] for draw in draws]


def ceiling(draws: np.ndarray) -> float:
    """Returns the cosine of the mean of all draws to the mean of some.

    With m the mean of all and a the mean of these n, E[m a] = |m|^2, which the
    products of different draws estimate; the cosine is |m| / |a|.

    Args:
        draws: `(n, entries)`, hypergradients.

    Returns:
        float; nan if the draws have nothing in common, or there is only one.
    """
    count = len(draws)
    total = draws.sum(axis=0)
    squares = (draws**2).sum()
    common = (total @ total - squares) / max(1, count * (count - 1))
    if count < 2 or common <= 0:
        return float("nan")
    return float(common**0.5 * count / np.linalg.norm(total))


@contextlib.contextmanager
def in_float64():
    """Makes models of its block compute in float64, those after in float32."""
    _set_precision("float64")
    try:
        yield
    finally:
        _set_precision("float32")


def _set_precision(dtype: str) -> None:
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def without(g, direct):
    """Returns the part of g that is orthogonal to another vector."""
    square = direct @ direct
    return g - (g @ direct) / square * direct if square > 0 else g
