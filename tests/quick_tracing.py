"""Lets TensorFlow trace in three quarters of the time, by what tests spare."""

import contextlib
import functools
import gc
import typing

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.autograph.core import config
from tensorflow.python.eager import context
from tensorflow.python.framework import (
    auto_control_deps_utils,
    func_graph,
    op_def_library,
    ops,
    random_seed,
)
from tensorflow.python.util import tf_stack

# Graphs are made of many small objects that live long: to look for garbage
# among them each 700 objects takes a sixth of the time of tracing.
gc.set_threshold(50_000, 20, 20)


# For each operation of a graph TensorFlow keeps Python's stack, to say where an
# error comes from; under pytest it is deep. Here all operations have one.
def _stack(depth=30):
    """Returns a stack of which frames are left when TensorFlow leaves some out.

    Of a stack without frames TensorFlow ends the process.
    """
    return _stack(depth - 1) if depth else tf_stack.extract_stack()


STACK = _stack()
tf_stack.extract_stack = lambda stacklevel=1: STACK

# For each input of each operation TensorFlow writes the words of an error, and
# then looks whether there is one.
SATISFIES = op_def_library._SatisfiesTypeConstraint


def satisfies(dtype, attr_def, param_name):
    """Raises a `TypeError` for a dtype that an operation does not take."""
    allowed = attr_def.allowed_values.list.type
    if allowed and dtype not in allowed:
        SATISFIES(dtype, attr_def, param_name)


op_def_library._SatisfiesTypeConstraint = satisfies

# Python 3.11 lists a protocol's attributes anew at each `isinstance`.
if hasattr(typing, "_get_protocol_attrs"):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)

# Of each operation TensorFlow asks twice, by an exception, which resources are
# only read; most operations take no resource.
RESOURCES = auto_control_deps_utils.get_read_write_resource_inputs


def resources(op):
    """Returns the resources that an operation reads, and those it writes."""
    if any(x.dtype == tf.resource for x in op.inputs):
        return RESOURCES(op)
    return set(), set()


auto_control_deps_utils.get_read_write_resource_inputs = resources

# For each operation TensorFlow makes its graph the default one, with all that
# belongs to that, also where it is the default one.
AS_DEFAULT = func_graph.FuncGraph.as_default


def as_default(self):
    """Returns the context in which a graph is the default one."""
    if not tf.executing_eagerly() and ops.get_default_graph() is self:
        return contextlib.nullcontext(self)
    return AS_DEFAULT(self)


func_graph.FuncGraph.as_default = as_default

# A third of all operations are constants, most of them axes and shapes: a graph
# keeps one of each. Floats stay apart, which a tape may watch.
CONSTANT = ops._create_graph_constant


def constant(value, dtype, shape, name, verify_shape, allow_broadcast):
    """Returns the graph's constant of these integers, made once."""
    graph = ops.get_default_graph()
    key = _key(value, dtype, shape) if _is_plain(graph) else None
    if key is None:
        return CONSTANT(
            value, dtype, shape, name, verify_shape, allow_broadcast
        )
    if not hasattr(graph, "_integers"):
        graph._integers = {}
    kept = graph._integers
    if key not in kept:
        kept[key] = CONSTANT(
            value, dtype, shape, name, verify_shape, allow_broadcast
        )
    return kept[key]


def _is_plain(graph):
    return isinstance(graph, func_graph.FuncGraph) and not (
        [*graph._device_function_stack.peek_objs()]
        or [*graph._colocation_stack.peek_objs()]
    )


def _key(value, dtype, shape):
    if type(value) is int:
        numbers = value
    elif type(value) in (list, tuple):
        numbers = tuple(value)
        if not all(type(n) is int for n in numbers):
            return None
    elif isinstance(value, np.ndarray) and value.dtype.kind == "i":
        if value.size > 16:
            return None
        numbers = value.dtype.str, value.shape, value.tobytes()
    else:
        return None
    dtype = None if dtype is None else tf.as_dtype(dtype)
    if dtype is not None and not dtype.is_integer:
        return None
    shape = None if shape is None else tuple(tf.TensorShape(shape).as_list())
    return type(value), numbers, dtype, shape


ops._create_graph_constant = constant

# AutoGraph rewrites what a function of a test or a study calls, Keras as well,
# which has no need of that.
config.CONVERSION_RULES = (
    config.DoNotConvert("keras"),
    *config.CONVERSION_RULES,
)

# At each seed TensorFlow forgets all kernels and loads them anew, for those
# that know how far they have drawn: operations that asked for a seed.
SEEDED = []
GET_SEED = random_seed.get_seed
SET_SEED = context.Context._set_global_seed


def get_seed(op_seed):
    """Returns the two seeds of an operation, and remembers that it asked."""
    SEEDED.append(True)
    return GET_SEED(op_seed)


def set_seed(self, seed):
    """Seeds TensorFlow; forgets kernels only if an operation asked."""
    handle = self._context_handle
    if not SEEDED:
        self._context_handle = None
    try:
        SET_SEED(self, seed)
    finally:
        self._context_handle = handle


random_seed.get_seed = get_seed
context.Context._set_global_seed = set_seed


def begin_anew(seed):
    """Seeds all, and forgets all kernels and which of them asked for seeds."""
    SEEDED.append(True)
    keras.utils.set_random_seed(seed)
    SEEDED.clear()
