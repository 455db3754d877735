"""Every private name of Keras and KerasTuner that this package uses.

One small function for each name: it says what the name stands for, and since
which version. Where a version does it otherwise, this file alone differs.
"""

from typing import Any

import keras

# ---- layers and models


def layers_within(
    layer: keras.Layer, *, with_itself: bool = True
) -> list[keras.Layer]:
    """Returns the layers inside a layer or model, at every depth.

    Each layer once, models within models too. `Layer._flatten_layers`, since
    Keras 3.0; the public `Model.layers` has only the outermost ones.

    Args:
        layer: a layer or model.
        with_itself: bool, whether the list begins with the layer itself.
    """
    return layer._flatten_layers(include_self=with_itself)


def layers_directly_within(layer: keras.Layer) -> list[keras.Layer]:
    """Returns the layers that are attributes of a layer, not those deeper.

    `Layer._flatten_layers(recursive=False)`, since Keras 3.0.

    Args:
        layer: a layer or model.
    """
    return layer._flatten_layers(include_self=False, recursive=False)


def own_trainable_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns a layer's own variables, without those of the layers inside it.

    Those that were created trainable, also if the layer is frozen now.
    `Layer._trainable_variables`, since Keras 3.0.

    Args:
        layer: a layer or model.
    """
    return layer._trainable_variables


def layer_path(variable: keras.Variable) -> str:
    """Returns the path of the layer that owns a variable.

    A convention rather than a name: since Keras 3.0 the path of a variable is
    that of its layer, a slash, and the variable's name.

    Args:
        variable: a weight of a layer.
    """
    return variable.path.rpartition("/")[0] or variable.path


def takes_training(layer: keras.Layer) -> bool:
    """Returns whether a layer's `call` has an argument `training`.

    `Layer._call_has_training_arg`, since Keras 3.0.

    Args:
        layer: a layer or model.
    """
    return layer._call_has_training_arg


def outputs_structure(model: keras.Model) -> Any:
    """Returns the symbolic outputs of a Functional model, nested as given.

    `None` for a subclassed model. `Function._outputs_struct`, since Keras 3.0.

    Args:
        model: a model.
    """
    return getattr(model, "_outputs_struct", None)


def given_loss_weights(model: keras.Model) -> Any:
    """Returns the `loss_weights` that a model was compiled with.

    `None` for a model without a loss. `Trainer._compile_loss` and
    `CompileLoss._user_loss_weights`, since Keras 3.0.

    Args:
        model: a compiled model.
    """
    loss = model._compile_loss
    return None if loss is None else loss._user_loss_weights


# ---- optimizers


def given_learning_rate(optimizer: keras.Optimizer) -> Any:
    """Returns an optimizer's learning rate as it is kept.

    A `keras.Variable` for a number, otherwise the schedule or the function
    that the optimizer was given; the public `learning_rate` has the rate of
    the present step in all cases. `BaseOptimizer._learning_rate`, since
    Keras 3.0.

    Args:
        optimizer: a Keras optimizer.
    """
    return optimizer._learning_rate


def has_weight_decay(
    optimizer: keras.Optimizer, variable: keras.Variable
) -> bool:
    """Returns whether an optimizer's weight decay acts on a variable.

    It does, unless `exclude_from_weight_decay` was told of the variable.
    `BaseOptimizer._use_weight_decay`, since Keras 3.0; from 3.16 on the
    optimizer has to be built.

    Args:
        optimizer: a Keras optimizer, built.
        variable: one of the variables that the optimizer updates.
    """
    return optimizer._use_weight_decay(variable)


# ---- KerasTuner


def is_worker(tuner: Any) -> bool:
    """Returns whether a tuner runs in a process that a chief gives trials to.

    `BaseTuner._is_worker`, since KerasTuner 1.4.

    Args:
        tuner: a `keras_tuner.engine.base_tuner.BaseTuner`.
    """
    return tuner._is_worker()


def search_folder(oracle: Any) -> str:
    """Returns the folder that a search is kept in.

    `Oracle._project_dir`, since KerasTuner 1.4; the public `project_dir` is
    the tuner's, which an oracle does not know.

    Args:
        oracle: a `keras_tuner.Oracle` of a tuner.
    """
    return oracle._project_dir
