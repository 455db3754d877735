"""The two sides of a kernel: the axes of a layer's inputs, and of its outputs.

Keras keeps kernels as (..., inputs, outputs), with three exceptions: transposed
convolutions have (..., outputs, inputs); depthwise convolutions have (...,
inputs, multiplier), with a unit for each pair of these; the equation of
`EinsumDense` names the axes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)


class Sides(NamedTuple):
    """The axes of a kernel.

    Attributes:
        inputs: tuple of int, the axes of the inputs' side.
        outputs: tuple of int, the axes of the outputs' side.
        is_in_order: bool, whether the layer's outputs have the axes of the
            outputs' side in the same order.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    is_in_order: bool = True


def is_kernel(variable: keras.Variable) -> bool:
    """Returns whether a weight counts as a kernel.

    No kernels are weights of rank 0 and 1, such as biases and the scales and
    shifts of normalization layers, and weights named "bias".
    """
    return len(variable.shape) > 1 and variable.name != "bias"


def sides(layer: keras.Layer, kernel: keras.Variable) -> Sides:
    """Returns the axes of a kernel's two sides.

    Args:
        layer: the layer that owns the kernel.
        kernel: a weight of rank 2 or more.
    """
    last = len(kernel.shape) - 1
    if isinstance(layer, keras.layers.EinsumDense) and kernel.name == "kernel":
        return _sides_in_equation(layer.equation)
    if isinstance(layer, TRANSPOSED):
        return Sides((last,), (last - 1,))
    is_depthwise = isinstance(layer, DEPTHWISE) or (
        isinstance(layer, SEPARABLE) and kernel is layer.depthwise_kernel
    )
    if is_depthwise:
        return Sides((last - 1,), (last - 1, last))
    return Sides((last - 1,), (last,))


def kernel_of_units(
    layer: keras.Layer,
    own: Sequence[keras.Variable],
    variable: keras.Variable,
) -> keras.Variable | None:
    """Returns the kernel to whose units the entries of a bias belong.

    `None` for a kernel, for a bias of a layer with several kernels or none, and
    for a bias that has not one entry for each unit on the kernel's output side.

    Args:
        layer: a layer.
        own: the weights that the layer owns.
        variable: one of these weights.
    """
    kernels = [v for v in own if is_kernel(v)]
    if len(kernels) != 1 or is_kernel(variable):
        return None
    (kernel,) = kernels
    axes = sides(layer, kernel)
    units = [kernel.shape[axis] for axis in axes.outputs]
    if isinstance(layer, DEPTHWISE):  # the bias has one axis for both
        units = [math.prod(units)]
    fits = _without_ones(units) == _without_ones(variable.shape)
    return kernel if fits and axes.is_in_order else None


def _sides_in_equation(equation: str) -> Sides:
    """Returns the sides of the kernel in "inputs,kernel->outputs"."""
    left, outputs = equation.split("->")
    inputs, kernel = left.split(",")
    on_outputs = [letter for letter in kernel if letter in outputs]
    return Sides(
        tuple(axis for axis, letter in enumerate(kernel) if letter in inputs),
        tuple(axis for axis, letter in enumerate(kernel) if letter in outputs),
        on_outputs == sorted(on_outputs, key=outputs.index),
    )


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]
