"""Random search for the meta-optimizer's rates: the paper's super-parameters.

The only file that needs KerasTuner.
"""

import copy
import math
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_drmad import arguments, keras_internals, meta_optimizers
from keras_drmad.meta_optimizers.base import mover_of
from keras_drmad.model import DrMADModel

try:
    import keras_tuner

    engine: Any = keras_internals.tuner_engine()
except ModuleNotFoundError as error:
    raise ImportError(
        "`keras_drmad.MetaRateSearch` needs KerasTuner. Install it with "
        "`pip install keras_drmad[tuner]`."
    ) from error

GROUP = "hyperparameter"  # whose rate a trial tries
CHANGE = "val_loss_change"  # by which trials are ranked; below 0 is good enough
# Arguments of `fit` that trials set themselves.
NOT_OF_SEARCH = ("meta_iterations", "initial_epoch", "keep", "draws", "refit")


class Draw(NamedTuple):
    """A rate that was tried.

    Attributes:
        hyperparameter: str, the name of the hyperparameter that moved.
        rate: float, the meta learning rate of the hyperparameter.
        start_loss: float, the validation loss before the first step.
        val_loss: float, the lowest validation loss after the first step; inf if
            training diverged.
        meta_iterations: int, the number of trainings, the first included.
    """

    hyperparameter: str
    rate: float
    start_loss: float
    val_loss: float
    meta_iterations: int


class MetaRateSearch(engine.BaseTuner):
    """Finds a good enough meta learning rate for each hyperparameter.

    The paper's random search for "super-parameters", on KerasTuner. A trial
    draws a rate for one hyperparameter (an object given to `compile`, with all
    its values), log-uniformly, holds the other hyperparameters at their start,
    and runs a few meta-iterations. The first meta-iteration tells the
    validation loss at the start. As soon as a later meta-iteration has a lower
    loss, the trial ends, and the rate is good enough for this hyperparameter;
    the search goes on with the next hyperparameter. Where none of `max_trials`
    rates lowers the loss, a warning says so, and the best of these rates is
    taken.

    All trials build the same initial weights and see the same batches, from
    `seed`: the first loss is the same in all trials, and a lower loss is due to
    the hyperparameters, not to luck. A loss that is a little lower is enough: a
    small rate passes as easily as a large rate. So let ranges begin where steps
    are still worth taking. Global random states are after a search as they were
    before.

    The draws follow from `seed` as well. A search that was killed goes on when
    the search is built again with the same `directory` and `project_name`, and
    `search` is called. A search runs in parallel as KerasTuner's tuners do: run
    the same program in several processes with `KERASTUNER_TUNER_ID` (`"chief"`
    in one process), `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` in the
    environment; `search` in the chief process serves the worker processes until
    these are done. Workers try rates of several hyperparameters at a time, or
    several rates of one hyperparameter; the chief finds the same `rates` as
    without workers. When a worker fails, end all processes and start again.

    Example:

    ```python
    def build_model(rates):
        model = kd.DrMADModel(inputs(), outputs())
        model.compile(
            ...,
            hyperparameters=[
                kd.hyperparameters.L2(per="input"),
                kd.hyperparameters.LearningRate(per="layer"),
            ],
            meta_optimizer={
                "l2": kd.SignDescent(rates["l2"]),
                "learning_rate": keras.optimizers.Adam(rates["learning_rate"]),
            },
        )
        return model

    search = kd.MetaRateSearch(
        build_model, {"l2": (0.03, 3.0), "learning_rate": (1e-2, 1.0)}
    )
    search.search(x, y, batch_size=50, steps_per_epoch=2000,
                  validation_data=(x_val, y_val))
    model = build_model(search.rates)
    ```

    References: Fu, Luo, Feng, Low, Chua, *DrMAD: Distilling Reverse-Mode
    Automatic Differentiation for Optimizing Hyperparameters of Deep Neural
    Networks*, IJCAI 2016, https://arxiv.org/abs/1601.00917.
    """

    def __init__(
        self,
        build_model: Callable[[dict[str, float]], DrMADModel],
        rates: Mapping[str, tuple[float, float]],
        *,
        max_trials: int = 10,
        meta_iterations: int = 3,
        seed: int = 0,
        directory: str | None = None,
        project_name: str = "meta_rates",
        overwrite: bool = False,
    ):
        """Initializes the search, or goes on with the search in its folder.

        Args:
            build_model: takes a rate for each name in `rates`; returns a new
                compiled `DrMADModel` whose meta-optimizer has these rates.
            rates: dict from a hyperparameter's name to the lowest and the
                highest rate.
            max_trials: int, the largest number of rates that are drawn for a
                hyperparameter.
            meta_iterations: int, the largest number of trainings in a trial,
                the training at the start included. The paper has less than 20.
            seed: int, the seed of the draws, of initial weights and of `fit`.
            directory: str, the folder of searches; by default the current
                folder.
            project_name: str, the folder of this search in `directory`.
            overwrite: bool, whether a search in this folder is replaced.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if an argument is out of its range, or the search in the
                folder was begun with other arguments.
        """
        if not callable(build_model):
            expected = "a function from rates to a compiled `DrMADModel`"
            raise arguments.type_error("build_model", build_model, expected)
        arguments.whole("max_trials", max_trials, 1)
        arguments.whole("meta_iterations", meta_iterations, 2)
        arguments.whole("seed", seed, 0)
        self.build_model = build_model
        self.seed = seed
        self.meta_iterations = meta_iterations
        self.ranges = _checked_ranges(rates)
        self._oracle = RandomRates(
            self.ranges, max_trials, meta_iterations, seed
        )
        super().__init__(
            self._oracle,
            directory=directory,
            project_name=project_name,
            overwrite=overwrite and not keras_internals.is_worker(self),
        )
        # KerasTuner does so only if it has completed a trial in this role.
        state = pathlib.Path(self.project_dir, "oracle.json")
        if state.exists() and not keras_internals.is_worker(self):
            self._oracle.reload()

    def search(self, x: Any = None, y: Any = None, **fit: Any) -> None:
        """Searches until there is a rate for each hyperparameter.

        Args:
            x: as for `DrMADModel.fit`.
            y: as for `DrMADModel.fit`.
            **fit: other arguments of `fit`; callbacks are copied for each
                trial. By default `seed` is the seed of the search.

        Raises:
            TypeError: as `fit` does, or if `build_model` does not return a
                compiled `DrMADModel`.
            ValueError: as `fit` does, or if the model lacks a hyperparameter
                that is named in `rates`.
            FloatingPointError: if training diverges at the start already.
        """
        _check_arguments_of_fit(fit)
        try:
            with keras_internals.unchanged_random_state():
                super().search(x, y, **fit)
        except keras_tuner.errors.FatalError as fatal:
            raise (fatal.__cause__ or fatal) from None
        if not keras_internals.is_worker(self):
            self._warn_of_rates_that_raise_the_loss()

    @property
    def rates(self) -> dict[str, float]:
        """The rates found: a dict for `build_model`, once the search is over.

        Raises:
            RuntimeError: in a worker process, which does not know the rates.
        """
        found = {k: self._of_chief().settled(k) for k in self.ranges}
        return {k: t.rate for k, t in found.items() if t is not None}

    @property
    def draws(self) -> list[Draw]:
        """The rates tried, in the order of the draws.

        Raises:
            RuntimeError: in a worker process, which does not know the rates.
        """
        draws = map(_draw, self._of_chief().in_order())
        return [draw for draw in draws if draw is not None]

    def run_trial(
        self, trial: Any, x: Any, y: Any, **fit: Any
    ) -> dict[str, Any]:
        """Tries the rate of a trial; KerasTuner calls it."""
        name, rate = _tried(trial)
        try:
            losses = self._all_losses(name, rate, x, y, **fit)
        except Exception as error:  # KerasTuner would hide it, and go on
            raise keras_tuner.errors.FatalError(str(error)) from error
        start, lowest = losses[0], min(losses[1:], default=math.inf)
        return {
            CHANGE: lowest - start,
            "start_loss": start,
            "val_loss": lowest,
            "meta_iterations": len(losses),
        }

    def _all_losses(
        self, name: str, rate: float, x: Any, y: Any, callbacks=(), **fit: Any
    ) -> list[float]:
        """Returns the validation loss of each meta-iteration of a trial."""
        keras.utils.set_random_seed(self.seed)
        others = {k: math.sqrt(a * b) for k, (a, b) in self.ranges.items()}
        model = self.build_model(others | {name: rate})
        _check_model(model, self.ranges)
        _move_alone(model, name)
        own: dict[str, Any] = {"seed": self.seed, "initial_weights": "same"}
        history = model.fit(
            x,
            y,
            meta_iterations=self.meta_iterations,
            keep="last",
            callbacks=[_UntilLower(), *copy.deepcopy(list(callbacks))],
            **own | fit,
        )
        return history.history["val_loss"]

    def _of_chief(self) -> "RandomRates":
        if keras_internals.is_worker(self):
            raise RuntimeError(
                "The results of a search are in its chief process, and in its "
                f"folder: {self.project_dir}. Ask the chief process, or after "
                "the search a new `MetaRateSearch` with this folder."
            )
        return self._oracle

    def _warn_of_rates_that_raise_the_loss(self) -> None:
        for draw in map(self._oracle.settled, self.ranges):
            if draw is not None and draw.val_loss >= draw.start_loss:
                warnings.warn(
                    f"No rate drawn for '{draw.hyperparameter}' lowered the "
                    f"validation loss, {draw.start_loss:.6g}, within "
                    f"{self.meta_iterations} meta-iterations. The best is "
                    f"{draw.rate:.3g}, with a loss of {draw.val_loss:.6g}. "
                    "Try more or lower rates, more meta-iterations, or a more "
                    "exact method: see `check_hypergradient`.",
                    RuntimeWarning,
                    stacklevel=3,
                )


class RandomRates(keras_tuner.Oracle):
    """Draws rates for each hyperparameter until a rate lowers the loss.

    The decisions follow from the trials alone, which KerasTuner keeps.
    """

    def __init__(
        self,
        ranges: dict[str, tuple[float, float]],
        max_trials: int,
        meta_iterations: int,
        seed: int,
    ):
        """Initializes the oracle; see `MetaRateSearch`."""
        super().__init__(
            keras_tuner.Objective(CHANGE, "min"),
            max_trials=max_trials * len(ranges),
            hyperparameters=_space(ranges),
            seed=1,  # or KerasTuner draws one, of Python's global generator
        )
        self.seed = seed  # KerasTuner would take 0 for no seed
        self.ranges = ranges
        self.draws_each = max_trials
        self.settings = {
            "rates": [[name, *ends] for name, ends in ranges.items()],
            "meta_iterations": meta_iterations,
            "seed": seed,
        }

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the next rate, of the hyperparameter with fewest open trials.

        KerasTuner calls this function.
        """
        del trial_id
        wanted = {}
        for name in self.ranges:
            trials = self.in_order(name)
            found = any(_lowers(trial) for trial in trials)
            if not found and len(trials) < self.draws_each:
                wanted[name] = sum(_draw(trial) is None for trial in trials)
        if not wanted:
            return {"status": engine.TrialStatus.STOPPED}
        name = min(wanted, key=lambda name: wanted[name])
        rate = self._random_rate(name, len(self.in_order(name)))
        return {
            "status": engine.TrialStatus.RUNNING,
            "values": {GROUP: name, _rate_of(name): rate},
        }

    def settled(self, name: str) -> Draw | None:
        """Returns the first draw that lowers the loss, or the best draw of all.

        The first in the order of the draws, whichever worker was faster; `None`
        while that draw is not known.

        Args:
            name: str, the hyperparameter's.
        """
        trials = self.in_order(name)
        for trial in trials:
            draw = _draw(trial)
            if draw is None or _lowers(trial):
                return draw
        if len(trials) < self.draws_each:
            return None
        return _draw(min(trials, key=lambda t: (t.score, _tried(t)[1])))

    def in_order(self, name: str | None = None) -> list[Any]:
        """Returns trials in the order in which these were started.

        Args:
            name: str, the hyperparameter's; `None` for all hyperparameters.
        """
        trials = [self.trials[trial_id] for trial_id in self.start_order]
        return [t for t in trials if name in (None, _tried(t)[0])]

    def _random_rate(self, name: str, k: int) -> float:
        """Returns rate number k, which follows from seed, name and k alone."""
        place = list(self.ranges).index(name)
        random = np.random.default_rng([self.seed, place, k])
        low, high = np.log(self.ranges[name])
        return float(np.exp(random.uniform(low, high)))

    def get_state(self) -> dict[str, Any]:
        return super().get_state() | {"settings": self.settings}

    def set_state(self, state: dict[str, Any]) -> None:
        if state["settings"] != self.settings:
            folder = keras_internals.search_folder(self)
            raise ValueError(
                f"The search in {folder} was begun with other arguments. "
                f"Expected: {state['settings']}. Received: {self.settings}. "
                "Give the same arguments, another `project_name`, or "
                "`overwrite=True`."
            )
        super().set_state(state)


class _UntilLower(keras.callbacks.Callback):
    """Stops when a loss is below the first loss."""

    def __init__(self):
        super().__init__()
        self.start_loss = math.nan

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.start_loss = logs["val_loss"]
        if logs["val_loss"] < self.start_loss:
            self.model.stop_training = True


# ---- trials


def _move_alone(model: Any, name: str) -> None:
    """Gives a model a meta-optimizer that holds all hyperparameters but one.

    A copy of what moves that one, and for the others a rate of 0: so neither a
    step nor a retreat from the edge of stability moves these.

    Args:
        model: a compiled `DrMADModel`.
        name: str, the hyperparameter's.
    """
    kinds = model.hyperparameters
    (tried,) = (kind for kind in kinds if kind.name == name)
    mover = mover_of(tried, model.meta_optimizer)
    own = {name: keras_internals.unbuilt(mover)}
    model.meta_optimizer = meta_optimizers.united(own, kinds)
    model.meta_optimizer.build([kind.raw for kind in kinds])


def _space(ranges: dict[str, tuple[float, float]]):
    """Returns the space of the draws, in KerasTuner's terms."""
    space = keras_tuner.HyperParameters()
    space.Choice(GROUP, list(ranges))
    for name, (low, high) in ranges.items():
        with space.conditional_scope(GROUP, [name]):
            space.Float(_rate_of(name), low, high, sampling="log")
    return space


def _rate_of(name: str) -> str:
    return f"{name}/rate"  # no hyperparameter's name has a slash


def _tried(trial: Any) -> tuple[str, float]:
    values = trial.hyperparameters.values
    return values[GROUP], values[_rate_of(values[GROUP])]


def _draw(trial: Any) -> Draw | None:
    """Returns the result of a trial; `None` while the trial goes on."""
    if trial.status != engine.TrialStatus.COMPLETED:
        return None
    start, lowest, count = (
        trial.metrics.get_best_value(metric)
        for metric in ("start_loss", "val_loss", "meta_iterations")
    )
    return Draw(*_tried(trial), float(start), float(lowest), int(count))


def _lowers(trial: Any) -> bool:
    return trial.status == engine.TrialStatus.COMPLETED and trial.score < 0


# ---- checks


def _checked_ranges(rates: Any) -> dict[str, tuple[float, float]]:
    """Returns the argument `rates` as pairs of floats.

    Raises:
        ValueError: if `rates` is not a dict of names to positive ranges.
    """
    try:
        ranges = {name: (float(a), float(b)) for name, (a, b) in rates.items()}
        valid = bool(ranges) and all(
            isinstance(name, str) and 0 < low < high < math.inf
            for name, (low, high) in ranges.items()
        )
    except (AttributeError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "Invalid value for argument `rates`. Expected a dict from names of "
            "hyperparameters to pairs (lowest, highest) of positive numbers, "
            f"such as {{'l2': (0.01, 1.0)}}. Received: rates={rates!r}."
        )
    return ranges


def _check_arguments_of_fit(fit: dict[str, Any]) -> None:
    for name in NOT_OF_SEARCH:
        if name in fit:
            raise ValueError(
                f"Invalid argument `{name}` of `search`. Expected arguments of "
                "`fit`, without those that trials set themselves: "
                f"{', '.join(NOT_OF_SEARCH)}. Received: {name}={fit[name]!r}. "
                "Give `meta_iterations` to the constructor."
            )
    if fit.get("initial_weights", "same") != "same":
        raise ValueError(
            "Invalid value for argument `initial_weights` of `search`. Expected"
            " 'same', where a lower loss is due to the hyperparameters alone. "
            f"Received: initial_weights={fit['initial_weights']!r}."
        )


def _check_model(model: Any, ranges: dict[str, tuple[float, float]]) -> None:
    if not isinstance(model, DrMADModel) or not model.compiled:
        raise TypeError(
            "Invalid result of `build_model`. Expected a compiled "
            f"`DrMADModel`. Received: {model!r}."
        )
    names = [kind.name for kind in model.hyperparameters]
    unknown = sorted(set(ranges) - set(names))
    if unknown:
        raise ValueError(
            "Invalid value for argument `rates`. Expected names of the "
            f"hyperparameters of the model, which are {names}. Received: "
            f"{unknown}."
        )
