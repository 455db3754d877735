"""Checks at the door: clear errors before any work starts."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.methods import Auto, DrMAD, Method
from keras_drmad.seam.pure_optimizer import check_optimizer
from keras_drmad.training.batches import ArrayBatches

INITIAL_WEIGHTS = ("same", "resample", "continue")


def check_elementary_model(model: Any) -> None:
    """Checks that a model can be wrapped.

    Raises:
        TypeError: if it is not a `keras.Model`.
        ValueError: if it is not built, or trains by steps of its own.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Invalid type for argument `model`. Expected a `keras.Model`, or "
            "`DrMADModel(inputs, outputs)`. "
            f"Received: {model!r} of type {type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"Invalid value for argument `model`. Expected a built model, but "
            f"'{model.name}' has no weights yet. Give it a `keras.Input`, or "
            "call it once on a batch: `model(x[:1])`."
        )
    if type(model).train_step is not keras.Model.train_step:
        raise ValueError(
            "Invalid value for argument `model`. Expected a model that trains "
            f"by its loss. Received: '{model.name}', whose class "
            f"{type(model).__name__} has its own `train_step`, which the loops "
            "of training would not call. Override `compute_loss` instead; of a "
            "`DrMADModel` pass the `elementary_model`."
        )


def check_kinds(kinds: Any) -> None:
    """Checks that hyperparameters are a list of kinds.

    Raises:
        TypeError: if they are not.
    """
    if not isinstance(kinds, Sequence) or not all(
        isinstance(kind, Hyperparameter) for kind in kinds
    ):
        raise TypeError(
            "Invalid type for argument `hyperparameters`. Expected a list of "
            "objects from `keras_drmad.hyperparameters`, such as "
            "[L2(per='input')], or 'auto'. "
            f"Received: hyperparameters={kinds!r}."
        )


def check_auto(hyperparameters: str) -> None:
    """Checks the word that may stand for hyperparameters.

    Raises:
        ValueError: if it is not "auto".
    """
    if hyperparameters != "auto":
        raise ValueError(
            "Invalid value for argument `hyperparameters`. Expected a list of "
            "kinds, such as [keras_drmad.hyperparameters.L2()], or 'auto'. "
            f"Received: hyperparameters={hyperparameters!r}."
        )


def check_names(kinds: Sequence[Hyperparameter]) -> None:
    """Checks that there are hyperparameters, with names that differ.

    Raises:
        ValueError: if there are none, two have one name, or a name would not
            serve in logs and files.
    """
    if not kinds:
        raise ValueError(
            "Invalid value for argument `hyperparameters`. Expected at least "
            "one, given or in a layer. Received: none. Use "
            "`[keras_drmad.hyperparameters.L2()]`, or a plain `keras.Model` "
            "where there is nothing to tune."
        )
    names = [kind.name for kind in kinds]
    if len(set(names)) < len(names):
        raise ValueError(
            "Invalid value for argument `hyperparameters`. Expected unique "
            f"names. Received: names={names}. Pass `name=` to tell them apart."
        )
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(
                "Invalid value for argument `name`. Expected letters, digits, "
                f"'_', '.' and '-'. Received: name={name!r}."
            )


def check_none_is_replaced(kinds: Sequence[Hyperparameter]) -> None:
    """Checks that no bound kind takes away all that another one does.

    Raises:
        ValueError: if a later one replaces what an earlier one acts on.
    """
    for k, later in enumerate(kinds):
        for earlier in kinds[:k]:
            if later.replaces() & earlier.acts_at():
                raise ValueError(
                    "Invalid value for argument `hyperparameters`. Expected "
                    "kinds that leave each other's work as it is. Received: "
                    f"'{later.name}', which replaces what '{earlier.name}' "
                    "does for some of the same weights. Use one of them, give "
                    "them other `layers`, or (first weights) the other order."
                )


def check_bound(kinds: list[Hyperparameter], model: keras.Model) -> None:
    """Checks that hyperparameters were last compiled into a model.

    Raises:
        ValueError: if one was compiled into another model since.
    """
    for kind in kinds:
        if kind.model is not model:
            raise ValueError(
                f"The hyperparameter '{kind.name}' was compiled into another "
                f"model, '{kind.model.name}', after '{model.name}'. Give each "
                "model hyperparameters of its own, or compile this one again."
            )


def checked_method(method: Any) -> Method:
    """Returns the argument `hypergradient` as a method.

    Raises:
        TypeError: if it is none.
    """
    if method is None:
        return DrMAD()
    if method == "auto":
        return Auto()
    if not isinstance(method, Method):
        raise TypeError(
            "Invalid type for argument `hypergradient`. Expected a method, "
            "such as `keras_drmad.DrMAD()` or `keras_drmad.ReverseMode()`, or "
            f"'auto'. Received: hypergradient={method!r}."
        )
    return method


def checked_meta_optimizer(
    meta_optimizer: Any, kinds: Sequence[Hyperparameter]
) -> keras.Optimizer | dict[str, keras.Optimizer]:
    """Returns the argument `meta_optimizer` as one optimizer, or as a dict.

    Raises:
        TypeError: if one is not a Keras optimizer, or wraps another one.
        ValueError: if it is the name of none, or a dict of other names than
            those of the hyperparameters.
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


def check_moves(meta_optimizer: keras.Optimizer, raws: Sequence) -> None:
    """Checks that a meta-optimizer was built for these raw values.

    Raises:
        ValueError: if it was built for others before.
    """
    movers = [meta_optimizer]
    if isinstance(meta_optimizer, keras.optimizers.MultiOptimizer):
        movers = meta_optimizer.optimizers
    known = {id(v) for one in movers for v in one._trainable_variables}
    if not {id(raw) for raw in raws} <= known:
        raise ValueError(
            "Invalid value for argument `meta_optimizer`. Expected one of this "
            "model's own. Received: one that moves the hyperparameters of "
            "another model, or others of this one. Pass a new one."
        )


def check_jit_compile(jit_compile: Any) -> None:
    """Checks the argument `jit_compile`.

    Raises:
        ValueError: if it is neither a bool nor `"auto"`.
    """
    if jit_compile not in (True, False, "auto"):
        raise ValueError(
            "Invalid value for argument `jit_compile`. Expected True, False or "
            f"'auto'. Received: jit_compile={jit_compile!r}."
        )


def check_trainable(model: keras.Model) -> None:
    """Checks that a model has weights that can be trained by gradient.

    Raises:
        ValueError: if all are frozen, or one is not of a floating dtype.
    """
    dtypes = {v.path: v.dtype for v in model.trainable_variables}
    if not dtypes:
        raise ValueError(
            f"Invalid value for argument `model`. The model '{model.name}' has "
            "no trainable weights. Set `layer.trainable = True` on the layers "
            "to train before `compile`."
        )
    wrong = {k: v for k, v in dtypes.items() if "float" not in v}
    if wrong:
        raise ValueError(
            "Invalid value for argument `model`. Expected trainable weights "
            f"of floating dtypes. Received: {wrong}. Create these with "
            "`trainable=False`."
        )


def check_counts(minimum: int = 1, **counts: Any) -> None:
    """Checks that arguments are whole numbers of at least `minimum`.

    Raises:
        TypeError: if one is not a whole number.
        ValueError: if one is below the minimum.
    """
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise TypeError(
                f"Invalid type for argument `{name}`. Expected a whole "
                f"number. Received: {name}={count!r}."
            )
        if count < minimum:
            raise ValueError(
                f"Invalid value for argument `{name}`. Expected at least "
                f"{minimum}. Received: {name}={count}."
            )


def check_positive(**numbers: Any) -> None:
    """Checks that arguments are positive, finite numbers.

    Raises:
        ValueError: if one is not.
    """
    for name, number in numbers.items():
        is_number = isinstance(number, (int, float, np.number))
        if not is_number or not 0 < number < np.inf:
            raise ValueError(
                f"Invalid value for argument `{name}`. Expected a positive "
                f"number. Received: {name}={number!r}."
            )


def check_meta_arguments(meta_iterations: Any, initial_weights: Any) -> None:
    """Checks arguments of `fit` that Keras does not have.

    Raises:
        TypeError: if `meta_iterations` is not a whole number.
        ValueError: if it is negative, or `initial_weights` is unknown.
    """
    check_counts(0, meta_iterations=meta_iterations)
    if initial_weights not in INITIAL_WEIGHTS:
        raise ValueError(
            "Invalid value for argument `initial_weights`. Expected one of "
            f"{', '.join(map(repr, INITIAL_WEIGHTS))}. "
            f"Received: initial_weights={initial_weights!r}."
        )


def check_batch(
    model: keras.Model, batch: Any, labels: Any, argument: str
) -> None:
    """Runs a model, its loss and its metrics on a batch, without training.

    Also builds metrics that wait for their first batch.

    Args:
        model: a built and compiled model.
        batch: `Batch`.
        labels: all targets that are known, or those of the batch.
        argument: str, the argument that the batch came in.

    Raises:
        ValueError: if the model or the loss can't take the batch.
    """
    x, y, sample_weight, _ = batch
    names = ("x", "y") if argument == "x" else (argument, argument)
    y_pred = _answer(names[0], "the model", batch, lambda: model(x))
    check_labels(model, labels, y_pred, names[1])

    def loss_and_metrics():
        loss = model._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False
        )
        model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return float(loss)

    try:
        loss = _answer(
            names[1], "the model's loss and metrics", batch, loss_and_metrics
        )
    finally:
        model.reset_metrics()
    if not np.isfinite(loss):
        raise ValueError(
            f"Invalid value for argument `{names[0]}`. Expected data with a "
            f"finite loss at the initial weights. Received: a loss of {loss}. "
            "Check the weights, the scale of the inputs and the loss."
        )


def _answer(argument: str, who: str, batch: Any, function: Callable) -> Any:
    """Returns what a function does; its complaint becomes a `ValueError`."""
    try:
        return function()
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected data that "
            f"{who} can take. Received, for a batch (x, y, sample_weight): "
            f"{signature(batch)}. The answer was: {error}"
        ) from error


def check_labels(
    model: keras.Model, labels: Any, y_pred: Any, argument: str
) -> None:
    """Checks that class labels fit a sparse loss.

    Models with several losses are not checked.

    Raises:
        ValueError: if a label is negative or has no output.
    """
    if model.loss is None or isinstance(model.loss, (list, tuple, dict)):
        return
    loss = keras.losses.get(model.loss)
    is_sparse = isinstance(
        loss, keras.losses.SparseCategoricalCrossentropy
    ) or loss is keras.losses.get("sparse_categorical_crossentropy")
    if not is_sparse or labels is None or not tf.is_tensor(y_pred):
        return
    labels, classes = np.asarray(labels), y_pred.shape[-1]
    labels = labels[labels != getattr(loss, "ignore_class", None)]
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"Invalid value for the labels in argument `{argument}`. Expected "
            f"classes in [0, {classes}), one for each output of the model. "
            f"Received: labels from {labels.min()} to {labels.max()}. Number "
            "them from 0, or give the model more outputs."
        )


def check_compiled(model: keras.Model) -> None:
    """Checks that a model was compiled.

    Raises:
        ValueError: if it was not.
    """
    if not model.compiled:
        raise ValueError(
            "Call `compile(optimizer=..., loss=..., hyperparameters=[...])` "
            f"before training the model '{model.name}'."
        )


def check_validation(
    validation_data: Any, hyper_data: Any, *, is_needed: bool
) -> None:
    """Checks that there is data to fit hyperparameters to.

    Raises:
        ValueError: if there is none.
    """
    if is_needed and validation_data is None and hyper_data is None:
        raise ValueError(
            "Invalid value for argument `validation_data`. Hyperparameters are "
            "fitted to the loss on data that is not trained on. Received: "
            "None. Pass `validation_data=(x_val, y_val)`, `validation_split` "
            "or `hyper_data`."
        )


def checked_seed(seed: Any) -> int:
    """Returns the seed, or for `None` one drawn from NumPy's generator.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is negative.
    """
    if seed is None:
        return int(np.random.randint(2**31))
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(
            "Invalid type for argument `seed`. Expected a whole number or "
            f"None. Received: seed={seed!r}."
        )
    if seed < 0:
        raise ValueError(
            "Invalid value for argument `seed`. Expected at least 0. "
            f"Received: seed={seed}."
        )
    return int(seed)


def check_data(model: keras.Model, plan: Any, batch: Any) -> None:
    """Checks that a model and its loss can take a plan's data.

    Raises:
        ValueError: if they can't.
    """
    sources = {
        "x": plan.training,
        "validation_data": plan.validation or plan.hyper,
        "hyper_data": plan.hyper if plan.validation else None,
    }
    for argument, source in sources.items():
        if source is None:
            continue
        first = batch if argument == "x" else source.batches.first()
        labels = first[1]
        if isinstance(source.batches, ArrayBatches):
            labels = source.batches.data[1]
        check_batch(model, first, labels, argument)


def signature(batch: Any) -> str:
    """Returns the structure, shapes and dtypes of a batch, as text."""
    return str(
        tf.nest.map_structure(
            lambda a: None if a is None else (tuple(a.shape), str(a.dtype)),
            batch,
        )
    )
