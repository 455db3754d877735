"""What the operations of a traced step tell: its traits."""

from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

from keras_drmad.hyperparameters.base import Hyperparameter
from keras_drmad.keras_internals import has_kernel, operations_of

# Kinds of operations with a derivative that is infinite somewhere.
SINGULAR = {"Sqrt", "Rsqrt", "Pow", "RealDiv", "Reciprocal", "Log"}
# Gradients that TensorFlow takes for constants: what passes through them is
# missing from a second derivative, without an error.
MISSING = {
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
    "ResizeBilinearGrad",
    "SparseAddGrad",
}
# Kinds of operations that XLA runs far slower than TensorFlow on a CPU: a small
# net with convolutions took 8 times as long (`benchmarks.meta_iteration`).
SLOW_ON_CPU = ("Conv", "Pool", "While")
# Kinds of operations whose results have no fixed shape, which XLA needs.
SHAPELESS = {"Unique", "UniqueV2", "Where"}
PLACES = {"Placeholder", "_Arg", "_Retval"}  # not operations at all


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


@tf.function(jit_compile=True)
def _register_kernels():
    """Does nothing: XLA registers its kernels when it first compiles."""
    return tf.constant(0.0)


def operations(function: Callable, *args) -> tuple[set[str], list]:
    """Returns the kinds of operations of a function, and what it reads.

    Args:
        function: what is traced.
        *args: its arguments.

    Returns:
        The names of the kinds in the graph, and the `tf.Variable`s.
    """
    traced = tf.function(function, autograph=False)
    graph = traced.get_concrete_function(*args).graph
    return operations_of(graph), list(graph.variables)


def check_second_derivatives(operations: set[str]) -> None:
    """Checks that the gradient of a loss can be differentiated.

    Args:
        operations: the kinds of operations in the graph of the gradient.

    Raises:
        ValueError: if a part of the second derivative would be missing.
    """
    missing = sorted(operations & MISSING)
    if missing:
        raise ValueError(
            f"TensorFlow has no second derivative for {missing}, which a "
            "layer of the model uses: the hypergradient would be wrong. Use "
            "another layer, such as `UpSampling2D(interpolation='nearest')` "
            "or `Conv2DTranspose` in place of a bilinear resizing."
        )


def check_sign(
    operations: set[str],
    optimizer: keras.Optimizer,
    hyperparameters: Iterable[Hyperparameter],
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
