"""Methods by the names a user knows: a differentiation each, and options."""

from keras_drmad.methods.auto import Auto
from keras_drmad.methods.base import Method
from keras_drmad.methods.drmad import DrMAD
from keras_drmad.methods.forward_mode import ForwardMode
from keras_drmad.methods.implicit import Implicit, OneStep
from keras_drmad.methods.reverse_mode import ReverseMode
from keras_drmad.methods.truncated import Truncated

__all__ = [
    "Auto",
    "DrMAD",
    "ForwardMode",
    "Implicit",
    "Method",
    "OneStep",
    "ReverseMode",
    "Truncated",
]
