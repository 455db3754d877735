"""Every private name of Keras, TensorFlow and KerasTuner that is used.

Each function says what a name stands for and since which version of Keras it is
there; where versions differ, the difference is kept in here. No other module
of the package uses a private name of these libraries (`tests/house_test.py`
reads them all).
"""

import contextlib
import functools
import io
import random
import traceback
import types
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state, masking
from keras.src.models.functional import Functional
from tensorflow.python.eager import context
from tensorflow.python.framework import kernels, ops
from tensorflow.python.ops import control_flow_util, stateful_random_ops

# ---- layers


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


def is_graph(layer: Any) -> bool:
    """Returns whether a layer is a Sequential or Functional model of Keras.

    Not of a subclass, whose methods a copy of the graph would lose.
    `keras.src.models.functional.Functional`, since Keras 3.0.

    Args:
        layer: a layer or model.
    """
    return type(layer) in (keras.Sequential, Functional)


def clone_of_graph(model: keras.Model, clone_function: Callable) -> keras.Model:
    """Returns a copy of a Sequential or Functional model, not compiled.

    `keras.models.clone_model`, which since Keras 3.0 also compiles the copy as
    the model is: for that, losses, metrics and rates of one's own would have
    to be known to Keras by their names.

    Args:
        model: a built model that `is_graph`.
        clone_function: function of a layer that returns the layer's copy.
    """
    was_compiled = model.compiled
    model.compiled = False
    try:
        return keras.models.clone_model(model, clone_function=clone_function)
    finally:
        model.compiled = was_compiled


def replace_layer(
    owner: keras.Layer, before: keras.Layer, layer: keras.Layer
) -> None:
    """Lets a layer take the place of another one among an owner's layers.

    `Layer._tracker` and `Layer._layers`, since Keras 3.0: assigning an
    attribute anew, or deleting it, leaves the layer that was there among the
    owner's layers, whose order is that of its weights.

    Args:
        owner: a layer that is not built yet.
        before: the layer that was there; nothing is done if it is gone.
        layer: the layer to be there.
    """
    layers = owner._layers
    places = [k for k, one in enumerate(layers) if one is before]
    if not places:
        return
    owner._tracker.untrack(before)
    owner._tracker.track(layer)
    layers[:] = [one for one in layers if one is not layer]
    layers.insert(places[0], layer)


def layers_directly_within(layer: keras.Layer) -> list[keras.Layer]:
    """Returns the layers that are attributes of a layer, not those deeper.

    `Layer._flatten_layers(recursive=False)`, since Keras 3.0.

    Args:
        layer: a layer or model.
    """
    return layer._flatten_layers(include_self=False, recursive=False)


def inputs_of(layer: keras.Layer) -> list[Any]:
    """Returns the symbolic tensors that a layer was called with, flat.

    Those of all its calls. `Operation._inbound_nodes` and
    `Node.input_tensors`, since Keras 3.0.

    Args:
        layer: a layer or model.
    """
    return [x for node in layer._inbound_nodes for x in node.input_tensors]


def made_by(tensor: Any) -> tuple[Any, int, list[Any]]:
    """Returns what made a symbolic tensor, and of what.

    `KerasTensor._keras_history`, `Operation._inbound_nodes` and
    `Node.input_tensors`, since Keras 3.0.

    Args:
        tensor: a symbolic tensor.

    Returns:
        The layer or operation; the tensor's place among its flat outputs; the
        symbolic tensors that the layer was called with, flat.
    """
    maker, node, place = tensor._keras_history
    return maker, place, list(maker._inbound_nodes[node].input_tensors)


def own_trainable_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns a layer's own variables, without those of the layers inside it.

    Those that were created trainable, also if the layer is frozen now.
    `Layer._trainable_variables`, since Keras 3.0.

    Args:
        layer: a layer or model.
    """
    return layer._trainable_variables


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns all of a layer's own variables, those of inner layers left out.

    `Layer._trainable_variables` and `_non_trainable_variables`, since Keras
    3.0.

    Args:
        layer: a layer or model.
    """
    return [*layer._trainable_variables, *layer._non_trainable_variables]


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


def is_seed_state(variable: keras.Variable) -> bool:
    """Returns whether a variable is the state of a `SeedGenerator`.

    Known by the name that `SeedGenerator` gives it since Keras 3.0.
    """
    return variable.name == "seed_generator_state"


@contextlib.contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Within it, who draws leaves no trace in what is global.

    Of Python, NumPy, TensorFlow and Keras. TensorFlow draws the seeds of
    operations by a generator of Python's own, `Context._rng`, since TensorFlow
    2.0, which is there after `tf.random.set_seed`. Operations with equal seeds
    share a kernel that goes on, so this generator is led elsewhere meanwhile.
    The global `tf.random.Generator` is `global_generator` of
    `stateful_random_ops`, since TensorFlow 2.2. Keras keeps a `SeedGenerator`
    in `global_state`, since Keras 3.0, and beside it the seed of
    `keras.utils.set_random_seed`; TensorFlow keeps its own as `Context._seed`.
    """
    key, seed_key = "global_seed_generator", "global_random_seed"
    seed = global_state.get_global_attribute(seed_key)
    of_tensorflows_context = context.context()._seed
    of_context = getattr(context.context(), "_rng", None)
    of_tensorflow = stateful_random_ops.global_generator
    of_keras = global_state.get_global_attribute(key)
    python, numpy = random.getstate(), np.random.get_state()
    drawn = of_context and of_context.getstate()
    states = [
        (variable, tf.identity(variable))
        for variable in (
            None if of_tensorflow is None else of_tensorflow.state,
            None if of_keras is None else of_keras.state.value,
        )
        if variable is not None
    ]
    if of_context is not None:
        of_context.seed("elsewhere")
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if of_context is not None:
            of_context.setstate(drawn)
        # A new seed makes a new generator.
        context.context()._seed = of_tensorflows_context
        context.context()._rng = of_context
        global_state.set_global_attribute(seed_key, seed)
        stateful_random_ops.global_generator = of_tensorflow
        global_state.set_global_attribute(key, of_keras)
        for variable, value in states:
            variable.assign(value)


# ---- models


def compute_loss(
    model: keras.Model,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any,
    training: bool,
    *,
    weighing: Callable,
    scale_of_sums: float,
) -> Any:
    """Returns a model's loss of outputs, whatever its `compute_loss` takes.

    `Trainer._compute_loss`, since Keras 3.4: a `compute_loss` of a user's own
    may lack the argument `training`. Where it asks for the losses that the
    model was compiled with, they are weighed by `weighing`:
    `Trainer._compile_loss`, and `CompileLoss._flat_losses`, whose entries are
    named tuples with the loss of an output as `loss`, since Keras 3.4.

    Args:
        model: a compiled model, and the other arguments of its `compute_loss`.
        weighing: function of the outputs, their names and the sample weights;
            returns the sample weights, nested as the outputs, and a function
            that makes of a loss the function that is called in its place.
        scale_of_sums: float, by which losses are multiplied that are sums over
            examples (`reduction="sum"`): 1 over the share of a minibatch.
    """
    compiled = model._compile_loss
    share = 1 / scale_of_sums

    def scaled(loss, function):
        if scale_of_sums == 1 or getattr(loss, "reduction", "") != "sum":
            return function
        return lambda *args: scale_of_sums * function(*args)

    def call(y_true, y_pred, sample_weight=None):
        is_plain = sample_weight is None and scale_of_sums == 1
        if is_plain or not compiled.built:
            loss = type(compiled).call(compiled, y_true, y_pred)
            if is_plain:
                return loss
        weights, weighed = sample_weight, lambda loss: loss
        if sample_weight is not None:
            weights, weighed = weighing(
                y_pred, compiled.output_names, sample_weight
            )
        losses = compiled._flat_losses
        compiled._flat_losses = [
            one._replace(loss=scaled(one.loss, weighed(one.loss)))
            for one in losses
        ]
        try:
            return type(compiled).call(compiled, y_true, y_pred, weights)
        finally:
            compiled._flat_losses = losses

    metrics = []
    if compiled is not None:
        compiled.call = call
        metrics = list(compiled.metrics)  # building adds to it
    try:
        with _weighing_by(share, metrics):
            return model._compute_loss(
                x=x,
                y=y,
                y_pred=y_pred,
                sample_weight=sample_weight,
                training=training,
            )
    finally:
        if compiled is not None:
            del compiled.call


@contextlib.contextmanager
def _weighing_by(share: float, metrics: list[Any]) -> Iterator[None]:
    """Within it, the means of outputs' losses weigh all minibatches alike.

    As those of Keras's `fit` and `evaluate` do: `CompileLoss.call` weighs a
    minibatch by its size where the graph has it as a number, which graphs of
    ours have at times and those of Keras do not, since Keras 3.4.

    Args:
        share: float, the weight of a loss, 1 for one of a whole minibatch.
        metrics: those of `CompileLoss.metrics`.
    """

    def update(metric, value, sample_weight=None):
        del sample_weight
        # Losses with `reduction=None` are weighed by how many they are.
        weight = None if len(value.shape) else share
        type(metric).update_state(metric, value, weight)

    for metric in metrics:
        metric.update_state = functools.partial(update, metric)
    try:
        yield
    finally:
        for metric in metrics:
            del metric.update_state


def strategy_of(built: Any) -> tf.distribute.Strategy:
    """Returns the strategy in whose scope something of Keras was made.

    `TensorFlowTrainer.distribute_strategy` of a model (the present one, if the
    model was made outside of scopes) and `TFOptimizer._distribution_strategy`,
    since Keras 3.0.

    Args:
        built: a model or an optimizer.
    """
    if isinstance(built, keras.Model):
        return built.distribute_strategy
    return built._distribution_strategy


@contextlib.contextmanager
def outside_of_scopes() -> Iterator[None]:
    """Leaves the scopes of strategies that a user is in.

    `Graph._distribution_strategy_stack` and `_variable_creator_stack`, since
    TensorFlow 1.12. Within a scope, Keras divides losses by the number of
    replicas, and optimizers cannot update variables: whole trainings are not
    one replica's work.
    """
    graph = tf.compat.v1.get_default_graph()
    scopes = graph._distribution_strategy_stack[:]
    creators = graph._variable_creator_stack
    if not scopes:
        yield
        return
    graph._distribution_strategy_stack = []
    graph._variable_creator_stack = []
    try:
        yield
    finally:
        graph._distribution_strategy_stack = scopes
        graph._variable_creator_stack = creators


def outside(method: Callable) -> Callable:
    """Returns a method that runs outside of the scopes of strategies."""

    @functools.wraps(method)
    def run(*args, **options):
        with outside_of_scopes():
            return method(*args, **options)

    return run


class BuiltOfAnyParts(keras.Model):
    """A model whose metrics are built of parts of any sizes.

    `TensorFlowTrainer._maybe_symbolic_build`, since Keras 3.4: under a
    strategy it takes the mean of the first minibatch's parts, which fails where
    these differ in size, and where a worker has one part alone. One of the
    parts tells as much of shapes.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if self._distribute_strategy is None:
            return
        if iterator is not None:
            for *_, batches in iterator:
                data_batch = keras.tree.map_structure(
                    _first_part, next(batches)
                )
                break
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)


def of_step(model: keras.Model, logs: dict[str, Any]) -> dict[str, Any]:
    """Returns what a step of `evaluate` has found, so that Keras can reduce it.

    `reduce_per_replica`, since Keras 3.0, takes means over the first axis
    where there are several workers, also of scalars, which have none. The
    results of `evaluate` itself are read from the metrics.
    """
    strategy = model.distribute_strategy
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return keras.tree.map_structure(lambda x: tf.reshape(x, [1]), logs)


def _first_part(values: Any) -> Any:
    """Returns the first of a worker's parts of a value."""
    if isinstance(values, tf.distribute.DistributedValues):
        return values.values[0]
    return values


def value_of(variable: keras.Variable) -> tf.Tensor:
    """Returns the value of a variable, of several copies this worker's first.

    `DistributedValues.values`. Copies of weights are alike, and of metrics
    each counts its own part: `Variable.value` would add these up, of all
    workers.
    """
    return tf.convert_to_tensor(_first_part(variable.value))


def is_no_strategy(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a strategy is that of programs without any.

    `_DefaultDistributionStrategy`, since TensorFlow 1.11.
    """
    return type(strategy).__name__ == "_DefaultDistributionStrategy"


def scope_of(built: Any) -> contextlib.AbstractContextManager:
    """Returns the scope in which variables for a model or optimizer are made.

    Args:
        built: a model or an optimizer.
    """
    strategy = strategy_of(built)
    if strategy.num_replicas_in_sync == 1 and (
        strategy is tf.distribute.get_strategy()
    ):
        return contextlib.nullcontext()
    return strategy.scope()


def loss_tracker(model: keras.Model) -> keras.metrics.Metric:
    """Returns the metric that keeps a compiled model's mean loss.

    `Trainer._loss_tracker`, since Keras 3.0.
    """
    return model._loss_tracker


def compiled_parts(model: keras.Model) -> dict[str, Any]:
    """Returns what `compile` has made of its arguments, by these.

    `Trainer._compile_loss` and `Trainer._compile_metrics`, since Keras 3.0. A
    new `compile` makes new ones, and takes a new optimizer or the same.

    Args:
        model: a compiled model.
    """
    return {
        "optimizer": model.optimizer,
        "loss": model._compile_loss,
        "metrics": model._compile_metrics,
    }


def given_loss_weights(model: keras.Model) -> Any:
    """Returns the `loss_weights` that a model was compiled with.

    `None` for a model without a loss. `Trainer._compile_loss` and
    `CompileLoss._user_loss_weights`, since Keras 3.0.

    Args:
        model: a compiled model.
    """
    loss = model._compile_loss
    return None if loss is None else loss._user_loss_weights


def given_metrics(model: keras.Model) -> list[Any]:
    """Returns the `metrics` and `weighted_metrics` of a model, flat.

    `Trainer._compile_metrics`, with `CompileMetrics._user_metrics` and
    `_user_weighted_metrics`, since Keras 3.0.

    Args:
        model: a compiled model.
    """
    compiled = model._compile_metrics
    if compiled is None:
        return []
    given = [compiled._user_metrics, compiled._user_weighted_metrics]
    return tf.nest.flatten(given)


def outputs_structure(model: keras.Model) -> Any:
    """Returns the symbolic outputs of a Functional model, nested as given.

    `None` for a subclassed model. `Function._outputs_struct`, since Keras 3.0.

    Args:
        model: a model.
    """
    return getattr(model, "_outputs_struct", None)


def output_ranks(model: keras.Model) -> list[int] | None:
    """Returns how many axes each output of a built model has.

    Of a subclassed model, which keeps no symbolic outputs, by a symbolic call
    on the shapes with which it was built, as Keras makes one where it loads
    such a model. `None` where that fails. `Layer.compute_output_spec` and
    `get_build_config`, since Keras 3.0, are public, but not what the latter
    returns.

    Args:
        model: a built model.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs:
        try:
            config = model.get_build_config()
            shapes = config.get("shapes_dict") or [config["input_shape"]]
            outputs = _symbolic_call(model, shapes)
        except Exception:  # a call of one's own may fail in any way
            return None
    return [len(one.shape) for one in tf.nest.flatten(outputs)]


def _symbolic_call(model: keras.Model, shapes: Any) -> Any:
    """Returns the symbolic outputs of a model.

    Args:
        model: a built model.
        shapes: list with the shape of the inputs; or dict of such, as
            `Layer.build` takes them.
    """

    def tensors(shape):
        if isinstance(shape, dict):
            return {key: tensors(one) for key, one in shape.items()}
        if all(size is None or isinstance(size, int) for size in shape):
            return keras.KerasTensor(shape, keras.config.floatx())
        return [tensors(one) for one in shape]

    if isinstance(shapes, dict):
        given = {k.removesuffix("_shape"): a for k, a in shapes.items()}
        return model.compute_output_spec(**tensors(given))
    return model.compute_output_spec(tensors(shapes)[0])


def carry_mask(before: Any, after: Any) -> Any:
    """Returns a tensor with the mask of the tensor that it was made of.

    Layers leave a mask on their outputs, `Tensor._keras_mask`, for the losses
    and metrics that skip what is padding; an operation on the outputs makes
    new tensors without one. `get_keras_mask` and `set_keras_mask` of
    `keras.src.backend.common.masking`, since Keras 3.6.

    Args:
        before: a tensor, maybe with a mask.
        after: a tensor made of it. It stays as it is if it has a mask of its
            own or another shape.
    """
    mask = masking.get_keras_mask(before)
    is_bare = masking.get_keras_mask(after) is None
    if mask is not None and is_bare and before.shape == after.shape:
        masking.set_keras_mask(after, mask)
    return after


def take_initial_epoch(model: keras.Model) -> int | None:
    """Returns the epoch that `BackupAndRestore` set, once.

    `Trainer._initial_epoch`, since Keras 3.3.
    """
    epoch = getattr(model, "_initial_epoch", None)
    model._initial_epoch = None
    return epoch


@contextlib.contextmanager
def computing_in(model: keras.Model, dtype: str) -> Iterator[None]:
    """Lets a model's layers and losses compute in a dtype, in a context.

    Variables keep their dtypes. `Layer.dtype_policy` can be set in public;
    `Loss._dtype`, since Keras 3.3, not. The losses of a model are in
    `Trainer._compile_loss`, since Keras 3.0.

    Args:
        model: a compiled model.
        dtype: str, the dtype.
    """
    layers = layers_within(model)
    policies = [layer.dtype_policy for layer in layers]
    losses = _losses_of(model._compile_loss)
    dtypes = [loss._dtype for loss in losses]
    try:
        for layer in layers:
            layer.dtype_policy = dtype
        for loss in losses:
            loss._dtype = dtype
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
        for loss, old in zip(losses, dtypes, strict=True):
            loss._dtype = old


def _losses_of(compiled: Any) -> list[keras.losses.Loss]:
    """Returns a compiled loss, and the losses inside."""
    if not isinstance(compiled, keras.losses.Loss):
        return []
    inside = tf.nest.flatten(list(vars(compiled).values()))
    found = [x for x in inside if isinstance(x, keras.losses.Loss)]
    return list({id(x): x for x in (compiled, *found)}.values())


@contextlib.contextmanager
def unchanged_on_error(*objects: Any) -> Iterator[None]:
    """Within it, an error leaves the attributes of objects as they were.

    `Layer._tracker` with `config` and `stored_ids`, since Keras 3.0, which
    list what a layer holds; other lists and dicts are found by themselves.

    Args:
        *objects: models and others, whose attributes may be assigned.
    """
    before = []
    for one in objects:
        held = list(vars(one).values())
        if isinstance(one, keras.Layer):
            held += [stored for _, stored in one._tracker.config.values()]
            ids = one._tracker.stored_ids
            held += [ids, *ids.values()]
        kept = [(x, x.copy()) for x in held if isinstance(x, _CONTAINERS)]
        before.append((one, dict(vars(one)), kept))
    try:
        yield
    except BaseException:
        for one, attributes, kept in before:
            vars(one).clear()
            vars(one).update(attributes)
            for container, content in kept:
                if not _holds(container, content):
                    _refill(container, content)
        raise


_CONTAINERS = (list, dict, set)


def _holds(container: Any, content: Any) -> bool:
    """Returns whether a container still has the very content that it had."""
    if isinstance(container, dict):
        container, content = container.items(), content.items()
        container, content = (sum(x, ()) for x in (container, content))
    pairs = zip(container, content, strict=False)
    return len(container) == len(content) and all(a is b for a, b in pairs)


def _refill(container: Any, content: Any) -> None:
    """Gives a container other content, past Keras's own overrides."""
    if isinstance(container, list):
        list.__setitem__(container, slice(None), content)
    elif isinstance(container, set):
        set.clear(container)
        set.update(container, content)
    elif issubclass(type(container), dict):
        dict.clear(container)
        dict.update(container, content)
    else:  # TensorFlow's proxy of a dict
        container.clear()
        container.update(content)


def paths(model: keras.Model) -> dict[str, list]:
    """Returns the paths of a model's layers and weights, in their order.

    And the names of layers. Paths change when a Sequential model is loaded, and
    names where a constructor takes none, as Keras counts those that it gives.
    `Layer.path`, since Keras 3.0, is public, but cannot be assigned.
    """
    return {
        "names": [layer.name for layer in layers_within(model)],
        "layers": [layer.path for layer in layers_within(model)],
        "weights": [v.path for v in model.weights],
    }


def set_paths(model: keras.Model, paths: dict[str, list]) -> None:
    """Gives layers and weights the names and paths that `paths` returned.

    `Layer._path` and `Variable._path`, since Keras 3.0.
    """
    layers = layers_within(model)
    for key, attribute, owners in (
        ("names", "name", layers),
        ("layers", "_path", layers),
        ("weights", "_path", model.weights),
    ):
        given = paths.get(key, [])
        if len(given) == len(owners):
            for owner, word in zip(owners, given, strict=True):
                if getattr(owner, attribute) != word:
                    setattr(owner, attribute, word)


def is_saving_as_hdf5() -> bool:
    """Returns whether the caller is asked by Keras's old way to save models.

    `save_model_to_hdf5` of `keras.src.legacy`, since Keras 3.0, which a model
    has no other way to know of.
    """
    names = (frame.f_code.co_name for frame, _ in traceback.walk_stack(None))
    return "save_model_to_hdf5" in names


def is_plain_file(filepath: Any, attribute: str) -> bool:
    """Returns whether a file of weights has no place for an attribute's.

    A `.keras` file is an archive with "model.weights.h5", since Keras 3.0.

    Args:
        filepath: path of a ".weights.h5" or ".keras" file.
        attribute: str, of a model.
    """
    path = str(filepath)
    if path.endswith(".keras") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "model.weights.h5" not in archive.namelist():
                return False
            with archive.open("model.weights.h5") as file:
                return attribute not in h5py.File(io.BytesIO(file.read()), "r")
    if path.endswith(".h5") and h5py.is_hdf5(path):
        with h5py.File(path, "r") as weights:
            return attribute not in weights
    return False


# ---- optimizers


def trained_by(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Returns the variables that an optimizer was built for.

    `Optimizer._trainable_variables`, since Keras 3.0; none before `build`.
    """
    return list(getattr(optimizer, "_trainable_variables", []))


def place_in(optimizer: keras.Optimizer, variable: Any) -> int:
    """Returns the place of a variable in `trained_by`.

    `Optimizer._get_variable_index`, since Keras 3.0; TensorFlow's layer of an
    optimizer gives `update_step` the `tf.Variable` inside a `keras.Variable`.

    Args:
        optimizer: a Keras optimizer.
        variable: `keras.Variable`, or the `tf.Variable` inside.

    Raises:
        KeyError: if the optimizer was not built for the variable.
    """
    return optimizer._get_variable_index(variable)


# What an optimizer holds of its own state; `BaseOptimizer`, since Keras 3.0.
_STATE = (
    "_accumulated_gradients",
    "_iterations",
    "_learning_rate",
    "_model_variables_moving_average",
    "_tracker",
    "_trainable_variables",
    "_trainable_variables_indices",
    "_variables",
    "built",
)


def unbuilt(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Returns an optimizer with all the choices of another, and new state.

    Nothing is serialized: a rate may be any function, and the class need not
    be known to Keras. Variables that the constructor of a class of one's own
    makes are not made again.

    Args:
        optimizer: a Keras optimizer that does not wrap others.
    """
    new = object.__new__(type(optimizer))
    rate = given_learning_rate(optimizer)
    is_number = isinstance(rate, keras.Variable)
    keras.Optimizer.__init__(new, float(rate.numpy()) if is_number else rate)
    for name, value in list(vars(optimizer).items()):
        # TensorFlow's own attributes, `_self_...`, list what to save.
        if name in _STATE or name.startswith("_self_"):
            continue
        if isinstance(value, (list, dict)):  # `build` may add to these
            value = _without_variables(value)
        if not isinstance(value, keras.Variable):
            setattr(new, name, value)
    return new


def config_apart_from_rate(optimizer: keras.Optimizer) -> dict[str, Any]:
    """Returns an optimizer's config without its rate, which may have none."""
    new = unbuilt(optimizer)
    new._learning_rate = 0.0
    config = new.get_config()
    config.pop("learning_rate", None)
    return config


def _without_variables(values: Any) -> Any:
    """Returns a list or a dict, as a new one, without its variables."""
    if isinstance(values, dict):
        kept = values.items()
        return {k: v for k, v in kept if not isinstance(v, keras.Variable)}
    return [v for v in values if not isinstance(v, keras.Variable)]


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
    `BaseOptimizer._use_weight_decay`, since Keras 3.0; since 3.16 for a built
    optimizer, and `_is_excluded_from_weight_decay` before that.

    Args:
        optimizer: a Keras optimizer.
        variable: one of the variables that the optimizer updates.
    """
    is_excluded = getattr(optimizer, "_is_excluded_from_weight_decay", None)
    if is_excluded is not None and not optimizer.built:
        return not is_excluded(variable)
    return optimizer._use_weight_decay(variable)


def averages(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Returns the moving averages of the variables, with `use_ema`.

    `Optimizer._model_variables_moving_average`, since Keras 3.0, in the order
    of `trained_by`.
    """
    return list(optimizer._model_variables_moving_average)


def keys_of(optimizer: keras.Optimizer) -> dict[int, Any]:
    """Returns an optimizer's keys for its variables, by the variables' ids.

    `Optimizer._var_key`, since Keras 3.0: on TensorFlow the key that an
    optimizer's own lists of slots are sorted by.
    """
    return {id(v): optimizer._var_key(v) for v in trained_by(optimizer)}


class OpenOptimizer(keras.Optimizer):
    """An optimizer whose private hooks and attributes have public names.

    The hooks of `keras.Optimizer`, since Keras 3.0, that TensorFlow's layer of
    an optimizer overrides with code for `tf.Variable`s.
    """

    # ---- hooks, for a subclass to fill in

    def apply_all(self, grads: list, variables: list) -> None:
        """Takes a whole step; called by `apply`."""
        raise NotImplementedError

    def decay(self, variables: list) -> None:
        """Applies weight decay to some variables."""
        raise NotImplementedError

    def key_of(self, variable: keras.Variable) -> Any:
        """Returns the key of a variable; see `keys_of`."""
        raise NotImplementedError

    def step_all(self, grads: list, variables: list) -> None:
        """Updates variables by their gradients."""
        raise NotImplementedError

    def overwrite(self, variable: keras.Variable, average: Any) -> None:
        """Gives a variable the value of its moving average."""
        raise NotImplementedError

    def _backend_apply_gradients(self, grads, trainable_variables):
        self.apply_all(grads, trainable_variables)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        del learning_rate  # a pure optimizer has one for each variable
        self.step_all(grads, trainable_variables)

    def _apply_weight_decay(self, variables):
        self.decay(variables)

    def _var_key(self, variable):
        return self.key_of(variable)

    def _overwrite_model_variables_with_average_value(self, variables):
        for variable, average in zip(variables, averages(self), strict=True):
            self.overwrite(variable, average)

    # ---- what the base class does

    def current_learning_rate(self) -> Any:
        """Returns the rate at the present iteration, a schedule evaluated."""
        return self._get_current_learning_rate()

    def clipped(self, grads: list) -> list:
        """Returns gradients, clipped as the optimizer was told to."""
        return self._clip_gradients(grads)

    def accumulators_of(self, variables: Sequence) -> list[keras.Variable]:
        """Returns the sums of gradients, with `gradient_accumulation_steps`."""
        return [
            self._accumulated_gradients[self._get_variable_index(v)]
            for v in variables
        ]

    def reset_accumulators(self) -> None:
        """Sets the sums of gradients to zero."""
        self._backend_reset_gradient_accumulators()

    def update_averages(self) -> None:
        """Updates the moving averages of the variables."""
        self._update_model_variables_moving_average(trained_by(self))

    def overwrite_by_averages(self) -> None:
        """Gives all variables the values of their moving averages."""
        self._overwrite_model_variables_with_average_value(trained_by(self))

    def apply_decay(self, variables: list) -> None:
        """Applies weight decay, as a stock class that overrides it would."""
        self._apply_weight_decay(variables)

    def step_by(self, grads: list, variables: list) -> None:
        """Steps, as a stock class that overrides it would."""
        self._backend_update_step(grads, variables, self.learning_rate)

    def applies_decay(self, variable: keras.Variable) -> bool:
        """Returns whether weight decay acts on a variable."""
        return has_weight_decay(self, variable)

    @property
    def count(self) -> keras.Variable:
        """The variable that counts iterations."""
        return self._iterations


# ---- optimizers around others


def has_several_optimizers() -> bool:
    """Returns whether Keras has an optimizer made of several.

    `keras.optimizers.MultiOptimizer`, since Keras 3.15.
    """
    return hasattr(keras.optimizers, "MultiOptimizer")


def several_optimizers(
    optimizer_of: Callable[[keras.Variable], keras.Optimizer],
) -> keras.Optimizer:
    """Returns an optimizer that leaves each variable to one of several.

    Keras's own where there is one; the other one has its variables in the same
    order and in the same places of a file.

    Args:
        optimizer_of: function from a variable to the optimizer that moves it.
    """
    if has_several_optimizers():
        return keras.optimizers.MultiOptimizer(optimizer_of)
    return SeveralOptimizers(optimizer_of)


def optimizers_within(optimizer: keras.Optimizer) -> list[keras.Optimizer]:
    """Returns the optimizers that take an optimizer's steps.

    Those that `several_optimizers` was made of, once built; any other
    optimizer itself.

    Args:
        optimizer: a Keras optimizer.
    """
    is_several = isinstance(optimizer, SeveralOptimizers)
    if has_several_optimizers():
        is_several |= isinstance(optimizer, keras.optimizers.MultiOptimizer)
    return list(optimizer.optimizers) if is_several else [optimizer]


def is_held(optimizer: keras.Optimizer, variable: keras.Variable) -> bool:
    """Returns whether a learning rate of 0 holds a variable.

    Args:
        optimizer: a Keras optimizer, or one made by `several_optimizers`.
        variable: what it was built for.
    """
    for one in optimizers_within(optimizer):
        if any(v is variable for v in trained_by(one)):
            rate = one.learning_rate  # of a schedule a tensor
            return isinstance(rate, keras.Variable) and rate.numpy() == 0
    return False


def wraps_others(optimizer: keras.Optimizer) -> bool:
    """Returns whether an optimizer leaves its steps to others.

    Args:
        optimizer: a Keras optimizer.
    """
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return scales or optimizers_within(optimizer) != [optimizer]


class SeveralOptimizers(keras.Optimizer):
    """`keras.optimizers.MultiOptimizer`, for a Keras that has none.

    Files know the optimizers inside by the name of the attribute,
    `_inner_optimizers`.
    """

    def __init__(
        self, optimizer_of: Callable[[keras.Variable], keras.Optimizer]
    ):
        """Initializes the optimizer; see `several_optimizers`."""
        super().__init__(learning_rate=0.0)
        self._optimizer_of = optimizer_of
        self._inner_optimizers: list[keras.Optimizer] = []

    @property
    def optimizers(self) -> list[keras.Optimizer]:
        """The optimizers inside, each built for the variables it moves."""
        return self._inner_optimizers

    @property
    def variables(self) -> list[keras.Variable]:
        inside = [v for one in self._inner_optimizers for v in one.variables]
        return [*super().variables, *inside]

    def build(self, variables: list) -> None:
        """Builds each of the optimizers for its own variables."""
        if self.built:
            return
        for one, own, _ in self._shares(variables, variables):
            one.build(own)
            self._inner_optimizers.append(one)
        super().build(variables)

    def apply(self, grads: list, trainable_variables: Any = None) -> None:
        """Takes a step of each optimizer."""
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        self.build(trainable_variables)
        for one, own, share in self._shares(trainable_variables, grads):
            one.apply(share, own)
        self._iterations.assign_add(1)

    def _shares(self, variables: list, things: list) -> list[tuple]:
        """Returns each optimizer, its variables, and what belongs to these."""
        shares: dict[int, tuple] = {}
        for variable, thing in zip(variables, things, strict=True):
            one = self._optimizer_of(variable)
            _, own, share = shares.setdefault(id(one), (one, [], []))
            own.append(variable)
            share.append(thing)
        return list(shares.values())


# Since when Keras's own `fit` can use an optimizer on TensorFlow. Up to 3.12
# `Muon` asks the `tf.Variable`s that it is given for a path.
_WORKS_SINCE = {"Muon": (3, 13)}


def works_since(optimizer: keras.Optimizer) -> str:
    """Returns the version of Keras that an optimizer needs, or "".

    Where the installed version has the optimizer, but cannot train with it.

    Args:
        optimizer: a Keras optimizer.
    """
    major, minor = map(int, keras.__version__.split(".")[:2])
    for name, since in _WORKS_SINCE.items():
        kind = getattr(keras.optimizers, name, ())
        if isinstance(optimizer, kind) and (major, minor) < since:
            return ".".join(map(str, since))
    return ""


# ---- the stateless scope


def values_in(scope: keras.StatelessScope) -> dict[int, Any]:
    """Returns a scope's values by the ids of variables, to be changed.

    `StatelessScope.state_mapping`, since Keras 3.0, not documented.
    """
    return scope.state_mapping


def set_values_in(scope: keras.StatelessScope, values: dict[int, Any]) -> None:
    """Gives a scope other values; see `values_in`."""
    scope.state_mapping = values


# ---- TensorFlow


def quiet(function: Callable) -> Any:
    """Returns a `tf.function` that does not warn of frequent traces.

    TensorFlow counts the traces of all models' functions together.
    `Function._omit_frequent_tracing_warning`, since TensorFlow 2.8.
    """
    function._omit_frequent_tracing_warning = True  # type: ignore[attr-defined]
    return function


def tensor_in_place(array: np.ndarray) -> tf.Tensor:
    """Returns a tensor of an array that nobody writes into any more.

    `tf.constant` copies the array first. On a CPU this tensor lies in the
    array's memory, where that begins at a multiple of 64 bytes; it holds the
    array, and no operation writes into it. `ops.EagerTensor`, since TensorFlow
    2.0.
    """
    here = context.context()
    here.ensure_initialized()
    return ops.EagerTensor(array, here.device_name, None)


@contextlib.contextmanager
def without_rewriting() -> Iterator[None]:
    """Runs functions without TensorFlow's graph rewriting, in this thread.

    `Context.function_call_options`, since TensorFlow 1.12, belongs to a thread;
    the public `tf.config.optimizer` to the whole process.
    """
    here = context.context()
    before = here.function_call_options
    config = tf.compat.v1.ConfigProto()
    config.CopyFrom(here.config)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    here.function_call_options = context.FunctionCallOptions(
        config_proto=config
    )
    try:
        yield
    finally:
        here.function_call_options = before


def compiles_by_xla() -> bool:
    """Returns whether XLA will compile the graph that is built now.

    `control_flow_util.GraphOrParentsInXlaContext`, since TensorFlow 2.3.
    """
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def operations_of(graph: tf.Graph) -> dict[str, str]:
    """Returns the kinds of operations in a graph and in its functions.

    `Graph._functions`, since TensorFlow 1; a dict by the functions' names.
    Functions that TensorFlow defined itself have no graph there.

    Returns:
        Dict from a kind to the name of the first such operation.
    """
    functions = graph._functions.values()
    graphs = [graph, *(f.graph for f in functions if hasattr(f, "graph"))]
    operations: dict[str, str] = {}
    for each in graphs:
        for op in each.get_operations():
            operations.setdefault(op.type, op.name)
    return operations


def set_gradient(op: tf.Operation, name: str) -> None:
    """Ties a registered gradient to an operation, in another one's place.

    Of `tf.gradients`; a tape keeps the gradient that it recorded. The attribute
    is the one that `tf.Graph.gradient_override_map` gives to operations that
    are made; `Operation._set_attr`, since TensorFlow 1.0.

    Args:
        op: an operation of a graph that is being built.
        name: str, of a `tf.RegisterGradient`.
    """
    value = tf.compat.v1.AttrValue(s=name.encode())
    op._set_attr("_gradient_op_type", value)


@functools.cache
def has_kernel(kind: str, device: str) -> bool:
    """Returns whether a device has a kernel for a kind of operations.

    `tensorflow.python.framework.kernels`, since TensorFlow 1.8.
    """
    found = kernels.get_registered_kernels_for_op(kind).kernel
    return any(kernel.device_type == device for kernel in found)


# ---- KerasTuner, which is an extra


def tuner_engine() -> Any:
    """Returns an object with `BaseTuner` and `TrialStatus` as attributes.

    Of `keras_tuner.engine`, since KerasTuner 1.0: the public `Tuner` builds
    its models of a hypermodel, and keeps the states of trials to itself.

    Raises:
        ModuleNotFoundError: if KerasTuner is not installed.
    """
    from keras_tuner.engine import base_tuner, trial

    return types.SimpleNamespace(
        BaseTuner=base_tuner.BaseTuner, TrialStatus=trial.TrialStatus
    )


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
