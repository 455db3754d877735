"""The argument `meta_optimizer` of `compile`."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_drmad import keras_internals
from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.meta_optimizers.base import MetaOptimizer
from keras_drmad.seam.pure_optimizer import check_optimizer


def united(
    meta_optimizer: keras.Optimizer | dict[str, keras.Optimizer],
    kinds: Sequence[Hyperparameter],
) -> keras.Optimizer:
    """Returns one optimizer for the raw values of all kinds.

    Those of this package are told of the kinds whose raw values they move.

    Args:
        meta_optimizer: an optimizer, which is returned; or a dict from names of
            hyperparameters to optimizers, where hyperparameters without an
            optimizer keep their values.
        kinds: the hyperparameters, bound to a model.
    """
    is_dict = isinstance(meta_optimizer, dict)
    for one in meta_optimizer.values() if is_dict else [meta_optimizer]:
        if isinstance(one, MetaOptimizer):
            one.know(kinds)
    if not is_dict:
        return meta_optimizer
    held = keras.optimizers.SGD(0.0)
    chosen = {id(k.raw): meta_optimizer.get(k.name, held) for k in kinds}
    # By identity: the paths of raw values inside layers may change.
    return keras_internals.several_optimizers(lambda raw: chosen[id(raw)])


def checked_meta_optimizer(
    meta_optimizer: Any, kinds: Sequence[Hyperparameter]
) -> keras.Optimizer | dict[str, keras.Optimizer]:
    """Returns the argument `meta_optimizer` as one optimizer, or as a dict.

    Raises:
        TypeError: if one is not a Keras optimizer, or wraps another one.
        ValueError: if it is the name of none, one that does not work in the
            installed version of Keras, or a dict of other names than those of
            the hyperparameters.
    """
    if isinstance(meta_optimizer, dict) and "class_name" not in meta_optimizer:
        names = [kind.name for kind in kinds]
        if not meta_optimizer or not set(meta_optimizer) <= set(names):
            raise ValueError(
                "Invalid value for argument `meta_optimizer`. Expected an "
                "optimizer, or a dict from names of hyperparameters, which are "
                f"{names}, to optimizers. Received: "
                f"meta_optimizer={meta_optimizer!r}."
            )
        return {k: _meta_optimizer(v) for k, v in meta_optimizer.items()}
    return _meta_optimizer(meta_optimizer)


def _meta_optimizer(meta_optimizer: Any) -> keras.Optimizer:
    if isinstance(meta_optimizer, (str, dict)):
        try:
            meta_optimizer = keras.optimizers.get(meta_optimizer)
        except ValueError as error:
            raise ValueError(
                "Invalid value for argument `meta_optimizer`. Expected a Keras "
                "optimizer, its name or config. "
                f"Received: meta_optimizer={meta_optimizer!r}."
            ) from error
    check_optimizer(meta_optimizer, "meta_optimizer")
    return meta_optimizer


def check_moves(
    meta_optimizer: keras.Optimizer, raws: Sequence, optimizer: keras.Optimizer
) -> None:
    """Checks that a meta-optimizer was built for these raw values.

    Args:
        meta_optimizer: as `united` returns it.
        raws: list of `keras.Variable`, the raw values.
        optimizer: the elementary optimizer.

    Raises:
        ValueError: if it was built for others before, or is the elementary
            optimizer.
    """
    each = keras_internals.optimizers_within(meta_optimizer)
    if any(one is optimizer for one in each):
        raise ValueError(
            "Invalid value for argument `meta_optimizer`. Expected another "
            "object than `optimizer`: each keeps slots for what it moves. "
            f"Received: the same {type(optimizer).__name__} as both. Pass a "
            "new one."
        )
    known = {id(v) for one in each for v in keras_internals.trained_by(one)}
    if not {id(raw) for raw in raws} <= known:
        raise ValueError(
            "Invalid value for argument `meta_optimizer`. Expected one of this "
            "model's own. Received: one that moves the hyperparameters of "
            "another model, or others of this one. Pass a new one."
        )
