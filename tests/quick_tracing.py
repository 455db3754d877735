"""Lets TensorFlow trace in three quarters of the time, by what tests spare."""

import functools
import gc
import typing

from tensorflow.python.util import tf_stack

# Graphs are made of many small objects that live long: to look for garbage
# among them each 700 objects takes a sixth of the time of tracing.
gc.set_threshold(50_000, 20, 20)

# For each operation of a graph TensorFlow keeps Python's stack, to say where an
# error comes from; under pytest it is deep. Here all operations have one.
STACK = tf_stack.extract_stack()
tf_stack.extract_stack = lambda stacklevel=1: STACK

# Python 3.11 lists a protocol's attributes anew at each `isinstance`.
if hasattr(typing, "_get_protocol_attrs"):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)
