"""Whether XLA serves a training step on the device at hand."""

import tensorflow as tf
from tensorflow.python.framework import kernels

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
    return all(_has_kernel(kind, device) for kind in operations - PLACES)


@tf.function(jit_compile=True)
def _register_kernels():
    """Does nothing: XLA registers its kernels when it first compiles."""
    return tf.constant(0.0)


def _has_kernel(kind: str, device: str) -> bool:
    found = kernels.get_registered_kernels_for_op(kind).kernel
    return any(kernel.device_type == device for kernel in found)
