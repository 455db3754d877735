"""What the operations of a traced step tell: its traits."""

import re
from collections.abc import Collection, Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_drmad.keras_internals import has_kernel, layers_within

# Kinds of operations with a derivative that is infinite somewhere.
SINGULAR = {"Sqrt", "Rsqrt", "Pow", "RealDiv", "Reciprocal", "Log"}
# Gradients that TensorFlow takes for constants: what passes through them is
# missing from a second derivative, without an error.
MISSING = {
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
    "SparseAddGrad",
}
# Kinds of operations that draw anew each time they run.
DRAWING = {
    "FractionalAvgPool",
    "FractionalMaxPool",
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "RngReadAndSkip",
    "RngSkip",
    "SampleDistortedBoundingBox",
    "SampleDistortedBoundingBoxV2",
    "TruncatedNormal",
}
DRAWING_WORDS = ("Stateful", "CandidateSampler")
# Kinds of operations that change a variable of TensorFlow's where it is.
ASSIGNING = ("Assign", "ResourceScatter", "ResourceApply", "ResourceStrided")
# Kinds of operations that XLA runs far slower than TensorFlow on a CPU: a small
# net with convolutions took 8 times as long (`benchmarks.meta_iteration`).
SLOW_ON_CPU = ("Conv", "Pool")
# Kinds of operations whose derivative oneDNN computes only where it comes to
# them first, see `core.apart`.
PAIRED = ("MaxPool",)
# Kinds of operations whose results have no fixed shape, which XLA needs.
SHAPELESS = {"Unique", "UniqueV2", "Where"}
PLACES = {"Placeholder", "_Arg", "_Retval"}  # not operations at all
# XLA gains more than compiling costs from so many steps of a small net on, and
# the gain of a step doubles with so many weights more, and is so many times
# larger where a step has loops (`benchmarks.compiling`).
PAYS_FROM, DOUBLES, LOOPS = 8_000, 36_000, 10


def fixes_batch_size(model: keras.Model) -> bool:
    """Returns whether a model's inputs have a batch axis of a given size."""
    inputs = getattr(model, "inputs", None) or []
    return any(x.shape[0] is not None for x in inputs)


def suits_xla(operations: set[str]) -> bool:
    """Returns whether XLA can run a graph, and is likely the faster one.

    Args:
        operations: the kinds of operations in the graph.
    """
    if operations & SHAPELESS:
        return False
    device = "XLA_CPU_JIT"
    if tf.config.list_physical_devices("GPU"):
        device = "XLA_GPU_JIT"
    elif any(slow in kind for kind in operations for slow in SLOW_ON_CPU):
        return False
    _register_kernels()
    return all(has_kernel(kind, device) for kind in operations - PLACES)


def needs_order(operations: Collection[str]) -> bool:
    """Returns whether a graph's time depends on the order of its operations.

    Args:
        operations: the kinds of operations in the graph.
    """
    return any(paired in kind for kind in operations for paired in PAIRED)


def pays(steps: int, weights: int, *, has_loops: bool = False) -> bool:
    """Returns whether XLA is likely to gain more than compiling costs.

    Args:
        steps: int, how many are asked for.
        weights: int, how many numbers are trained.
        has_loops: bool, whether each step has loops of its own, as those of
            recurrent layers.
    """
    gain = (1 + weights / DOUBLES) * (LOOPS if has_loops else 1)
    return steps * gain >= PAYS_FROM


@tf.function(jit_compile=True)
def _register_kernels():
    """Does nothing: XLA registers its kernels when it first compiles."""
    return tf.constant(0.0)


def check_pure(operations: dict[str, str], model: keras.Model) -> None:
    """Checks that a step is a function of what it is given.

    Args:
        operations: dict from a kind of operations in the graph of a step to the
            name of one.
        model: the elementary model.

    Raises:
        ValueError: if it draws random numbers that cannot be drawn again, or
            changes a variable that is not Keras's.
    """
    for kind, name in operations.items():
        is_drawing = kind in DRAWING or (
            kind != "StatefulPartitionedCall"
            and any(word in kind for word in DRAWING_WORDS)
        )
        if is_drawing:
            raise ValueError(
                f"{whose(name, model)} draws random numbers by TensorFlow's "
                f"operation {kind}, which draws others when the training is "
                "walked backward. Use `keras.random` with a "
                "`keras.random.SeedGenerator`, or a layer of Keras."
            )
        if kind.startswith(ASSIGNING):
            raise ValueError(
                f"{whose(name, model)} changes a `tf.Variable` in its call "
                f"(operation {kind}), where no training of ours can carry it. "
                "Create the variable by `self.add_weight(trainable=False)`."
            )


def check_second_derivatives(
    operations: dict[str, str], model: keras.Model
) -> None:
    """Checks that the gradient of a loss can be differentiated.

    Args:
        operations: as for `check_pure`, of the gradient.
        model: the elementary model.

    Raises:
        ValueError: if a part of the second derivative would be missing.
    """
    for kind in sorted(MISSING & {*operations}):
        raise no_second_derivative(kind, whose(operations[kind], model))


def check_gradients(model: keras.Model) -> None:
    """Checks that all that is trained has gradients, and right second ones.

    Raises:
        ValueError: if weights are overwritten with their "gradients", or a
            layer holds constant what depends on its weights.
    """
    normalized = [
        layer.name
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.SpectralNormalization)
        and layer.trainable_variables
    ]
    if normalized:
        raise ValueError(
            f"The layers {normalized} (`SpectralNormalization`) assign their "
            "kernels in a branch, and hold constant what they divide by: the "
            "derivative of their gradient, and so the hypergradient, would be "
            "wrong by some per cent. Leave them out, or freeze them, until all "
            "is tuned; `fit(meta_iterations=0)` trains without a hypergradient."
        )
    overwritten = [
        v.path
        for v in model.trainable_variables
        if getattr(v, "overwrite_with_gradient", False)
    ]
    if overwritten:
        raise ValueError(
            f"The weights {overwritten} take over what stands in the place of "
            "their gradients (layers quantized to float8): there is no "
            "hypergradient through them. Leave such layers as they were until "
            "all is tuned; `fit(meta_iterations=0)` trains without a "
            "hypergradient."
        )


def no_second_derivative(kind: str, whose: str) -> ValueError:
    """Returns the error for an operation whose gradient has no gradient."""
    return ValueError(
        f"{whose} uses an operation whose gradient TensorFlow cannot "
        f"differentiate, {kind}: there is no hypergradient through it. Use "
        "another layer or loss, or freeze what comes before it; "
        "`fit(meta_iterations=0)` trains without a hypergradient."
    )


def whose(name: str, model: keras.Model) -> str:
    """Returns the layer of an operation, in words.

    Args:
        name: str, the operation's, in which Keras writes the layers' names.
        model: the elementary model.
    """
    parts = name.split("/")
    for part in reversed(parts):
        for layer in layers_within(model, with_itself=False):
            # TensorFlow numbers a name that it has seen before.
            if re.fullmatch(rf"{re.escape(layer.name)}(_\d+)?", part):
                kind = type(layer).__name__
                return f"The layer '{layer.name}' ({kind})"
    return "The model or its loss"


def check_sign(
    operations: set[str],
    optimizer: keras.Optimizer,
    hyperparameters: Iterable[Any],
) -> None:
    """Checks that an optimizer passes on the derivative of a gradient.

    Args:
        operations: the kinds of operations in the graph of an update.
        optimizer: the elementary optimizer.
        hyperparameters: those that are tuned.

    Raises:
        ValueError: if it follows the gradient's sign alone, and something acts
            through the gradient.
    """
    blind = [h.name for h in hyperparameters if h.acts_on == "loss"]
    if "Sign" in operations and blind:
        name = type(optimizer).__name__
        raise ValueError(
            f"The optimizer {name} follows only the sign of a gradient, "
            "whose derivative is zero wherever it exists: the "
            f"hyperparameters {blind}, which act through the gradient, "
            "would have hypergradient 0. Use another optimizer, such as "
            "Adam or SGD, or tune what acts on its update only, such as "
            "the learning rate."
        )


def has_synchronized(model: keras.Model) -> bool:
    """Returns whether a layer computes with whole minibatches.

    `BatchNormalization(synchronized=True)`.
    """
    layers = layers_within(model)
    return any(getattr(layer, "synchronized", False) for layer in layers)


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
