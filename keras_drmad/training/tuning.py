"""What a `fit` is asked to do with the hyperparameters, as a record."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from keras_drmad import arguments
from keras_drmad.training.plan import Plan

POLICIES = ("resample", "same", "continue")
KEEP = ("mean", "best", "last")
META_ITERATIONS = 20


class Tuning(NamedTuple):
    """How hyperparameters are tuned, and what is kept; see `DrMADModel.fit`.

    Attributes:
        meta_iterations: int, 0 where nothing is tuned.
        first: int, the meta-iteration to start at.
        initial_weights: str, where trainings start.
        keep: str, which hyperparameters and weights the model ends with.
        draws: int, the trainings whose mean hypergradient is followed.
        refit: bool, whether a last training is on all examples.
        every: int, K, after how many steps of one training hyperparameters are
            tuned; 0 where whole trainings are repeated.
        look_back: int, R, the steps that are walked backward each time.
    """

    meta_iterations: int
    first: int
    initial_weights: str
    keep: str
    draws: int
    refit: bool
    every: int = 0
    look_back: int = 0

    @property
    def are_drawn(self) -> bool:
        """Whether each training has new weights and a new split."""
        return self.initial_weights == "resample"

    def moves(self, plan: Plan) -> int:
        """Returns how often the hyperparameters of a `fit` are moved.

        Args:
            plan: its data and length.
        """
        if not self.every:
            return max(self.meta_iterations - self.first, 0)
        windows = plan.training.steps // self.every
        return max(plan.epochs - self.first, 0) * windows

    @property
    def trains_again(self) -> bool:
        """Whether one more training follows the meta-iterations."""
        return self.keep == "mean" or self.refit


def checked(
    *,
    meta_iterations: int | None,
    initial_epoch: int,
    initial_weights: str,
    keep: str | None,
    draws: int,
    refit: bool,
    tune_every: int | None = None,
    look_back: int | None = None,
    is_split: bool,
    callbacks: Any,
    rates: Sequence[str] = (),
) -> Tuning:
    """Returns the arguments of `fit`, checked.

    Warns of callbacks that set rates, which act between trainings here, and
    not at all where hyperparameters take the place of the rates.

    Args:
        meta_iterations: as for `fit`, and so are the others.
        keep: as for `fit`; `None` for what suits the other arguments.
        is_split: bool, whether examples are split off to validate on.
        callbacks: as for `fit`.
        rates: names of the hyperparameters that take the place of rates.

    Raises:
        TypeError: if an argument is of a type that can't serve.
        ValueError: if an argument is not valid, or does not go with another.
    """
    arguments.whole("initial_epoch", initial_epoch, 0)
    of_repeated: dict[str, tuple[Any, Any]] = {
        "keep": (keep, None),
        "draws": (draws, 1),
        "refit": (refit, False),
    }
    if tune_every is not None:
        of_repeated |= {
            "meta_iterations": (meta_iterations, None),
            "initial_weights": (initial_weights, POLICIES[0]),
        }
        one = "`tune_every`, by which one training is run, and goes on with the"
        one += " last values"
        _check_left_out(of_repeated, one, "leave `tune_every` out")
        if rates:
            _warn_of_rates(callbacks, rates)
        return _within_one_training(tune_every, look_back, initial_epoch)
    if look_back is not None:
        raise arguments.value_error(
            "look_back", look_back, "None where `tune_every` is None"
        )
    if meta_iterations is None:
        meta_iterations = META_ITERATIONS
    arguments.whole("meta_iterations", meta_iterations, 0)
    if meta_iterations == 0:
        one = "`meta_iterations=0`, by which one training is run, and nothing "
        one += "is tuned"
        _check_left_out(of_repeated, one, "tune by some `meta_iterations`")
    arguments.choice("initial_weights", initial_weights, POLICIES)
    arguments.whole("draws", draws, 1)
    arguments.boolean("refit", refit)
    if _restores(callbacks):
        for name, given in {"keep": keep, "refit": refit}.items():
            if given in ("mean", True):
                raise arguments.value_error(
                    name,
                    given,
                    "another value together with `EarlyStopping("
                    "restore_best_weights=True)`, which would bring back the "
                    "best weights in place of those of the last training",
                    advice="Use `restore_best_weights=False`, or leave "
                    f"`{name}` out.",
                )
    elif keep is None and initial_weights == "resample":
        keep = "mean"
    keep = "best" if keep is None else keep
    arguments.choice("keep", keep, KEEP)
    if draws > 1 and initial_weights != "resample":
        raise arguments.value_error(
            "draws",
            draws,
            f"1 with initial_weights={initial_weights!r}, where trainings "
            "start alike",
            advice="Use initial_weights='resample' for several draws.",
        )
    if refit and not is_split:
        raise arguments.value_error(
            "refit",
            refit,
            "False where no examples are split off: all of `x` are trained on",
            advice="Pass `validation_split=` in place of `validation_data`, "
            "with all examples in `x`.",
        )
    if meta_iterations > 0 or rates:
        _warn_of_rates(callbacks, rates)
    return Tuning(
        meta_iterations, initial_epoch, initial_weights, keep, draws, refit
    )


def _check_left_out(
    given: dict[str, tuple[Any, Any]], together: str, instead: str
) -> None:
    """Checks that arguments for repeated trainings are at their defaults.

    Args:
        given: dict from the arguments to what was given, and the default.
        together: str, which argument they do not go with, and why.
        instead: str, what to do else than leave them out.

    Raises:
        ValueError: if one is not.
    """
    for name, (value, default) in given.items():
        if value != default:
            raise arguments.value_error(
                name,
                value,
                f"{default!r} together with {together}",
                advice=f"Leave it out, or {instead}.",
            )


def _within_one_training(
    tune_every: int, look_back: int | None, initial_epoch: int
) -> Tuning:
    """Returns how hyperparameters are tuned within one training.

    Args:
        tune_every: as for `fit`, and so are the others.

    Raises:
        TypeError: if an argument is of a type that can't serve.
        ValueError: if an argument is not valid, or does not go with another.
    """
    arguments.whole("tune_every", tune_every, 1)
    look_back = tune_every if look_back is None else look_back
    arguments.whole("look_back", look_back, 1)
    if look_back > tune_every:
        raise arguments.value_error(
            "look_back",
            look_back,
            f"at most tune_every={tune_every}: the steps since hyperparameters "
            "were changed",
        )
    return Tuning(
        1, initial_epoch, "continue", "last", 1, False, tune_every, look_back
    )


def _restores(callbacks: Any) -> bool:
    """Returns whether a callback brings back the best weights."""
    return any(
        isinstance(one, keras.callbacks.EarlyStopping)
        and one.restore_best_weights
        for one in _each(callbacks)
    )


def _warn_of_rates(callbacks: Any, rates: Sequence[str]) -> None:
    """Warns that Keras's callbacks of epochs act between trainings, or not.

    Args:
        callbacks: as for `fit`.
        rates: as for `checked`.
    """
    scheduler = keras.callbacks.LearningRateScheduler
    plateau = keras.callbacks.ReduceLROnPlateau
    names = [
        type(one).__name__
        for one in _each(callbacks)
        if type(one) in (scheduler, plateau)  # not of another optimizer
    ]
    if names and rates:
        warnings.warn(
            f"`{names[0]}` sets the optimizer's learning rate, which changes "
            f"nothing for the weights of the hyperparameter '{rates[0]}': its "
            "values take the place of that rate. Leave the callback out, or "
            "call `compile` without the hyperparameter.",
            UserWarning,
            stacklevel=arguments.users_level(),
        )
    elif names:
        warnings.warn(
            f"`{names[0]}` sets the rate of whole trainings here, from one to "
            "the next: to callbacks a training is an epoch. For a rate that "
            "changes within each training, give the optimizer a schedule of "
            "`keras.optimizers.schedules`, or tune it: "
            "`keras_drmad.hyperparameters.LearningRate(schedule='piecewise')`.",
            UserWarning,
            stacklevel=arguments.users_level(),
        )


def _each(callbacks: Any) -> Sequence[Any]:
    """Returns the callbacks that `fit` was given, as a sequence."""
    each = getattr(callbacks, "callbacks", callbacks)
    return each if isinstance(each, Sequence) else [each]
