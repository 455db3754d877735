"""What `core.derivatives.vjp` takes for the derivatives of some operations.

TensorFlow's derivative of an operation can be missing (the gradient of a
softsign has none), wrong in a kernel (max pooling, where in- and output have
one shape), or on purpose none at all (`tf.stop_gradient`,
`tf.custom_gradient`). Tapes follow TensorFlow, as Keras's training does. The
rules here hold for `vjp`, for operations made `within()`.
"""

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from keras_drmad import keras_internals


@contextlib.contextmanager
def within() -> Iterator[None]:
    """Gives the operations made in this context the rules below, for `vjp`.

    Nothing outside of the graph that is built now is changed.
    """
    if tf.executing_eagerly():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    first = len(graph.get_operations())
    rules = {kind: _name(kind) for kind in _RULES}
    with graph.gradient_override_map(rules):
        yield
    for op in graph.get_operations()[first:]:
        # `tf.custom_gradient` ends with such an operation, to which it ties
        # its gradient. The function itself is in the graph before that.
        if op.type == "IdentityN":
            keras_internals.set_gradient(op, _name("IdentityN"))


def _name(kind: str) -> str:
    return f"KerasDrMAD{kind}"


_RULES: dict[str, Callable] = {}


def _rule(kind: str) -> Callable:
    """Registers a function (operation, *d_outputs) -> d_inputs."""

    def register(function: Callable) -> Callable:
        _RULES[kind] = tf.RegisterGradient(_name(kind))(function)
        return function

    return register


# ---- no derivatives on purpose: `vjp` sees what the operation computes


@_rule("StopGradient")
def _stop_gradient(op, d):
    del op
    return d


@tf.RegisterGradient(_name("IdentityN"))
def _identity_n(op, *d):
    del op
    return d


# ---- cross-entropy


@_rule("SoftmaxCrossEntropyWithLogits")
def _cross_entropy(op, d_loss, d_slope):
    """Also for labels that do not add up to 1.

    The operation gives −Σ_k y_k log p_k of each row, and p − y, which is its
    slope in the logits where Σ_k y_k = 1.
    """
    logits, labels = op.inputs
    p, d = tf.nn.softmax(logits), d_loss[:, tf.newaxis]
    mass = tf.reduce_sum(labels, -1, keepdims=True)
    through_p = p * (d_slope - tf.reduce_sum(d_slope * p, -1, keepdims=True))
    d_logits = d * (p * mass - labels) + through_p
    return d_logits, -d * tf.nn.log_softmax(logits) - d_slope


# ---- gradients that TensorFlow has no gradient of


@_rule("SoftsignGrad")
def _softsign(op, d):
    slope, x = op.inputs
    size = 1 + tf.abs(x)
    return d / size**2, -2 * d * slope * tf.sign(x) / size**3


@_rule("ResizeNearestNeighborGrad")
@_rule("ResizeBilinearGrad")
@_rule("ResizeBicubicGrad")
def _resize(op, d):
    """The gradient is linear: its derivative resizes d as the images were."""
    resize = getattr(tf.raw_ops, op.type.removesuffix("Grad"))
    slope = op.inputs[0]
    resized = resize(
        images=d,
        size=tf.shape(slope)[1:3],
        align_corners=op.get_attr("align_corners"),
        half_pixel_centers=op.get_attr("half_pixel_centers"),
    )
    return tf.cast(resized, slope.dtype), None


@_rule("ScaleAndTranslateGrad")
def _scale_and_translate(op, d):
    slope, _, scale, translation = op.inputs
    resized = tf.raw_ops.ScaleAndTranslate(
        images=d,
        size=tf.shape(slope)[1:3],
        scale=scale,
        translation=translation,
        kernel_type=op.get_attr("kernel_type"),
        antialias=op.get_attr("antialias"),
    )
    return tf.cast(resized, slope.dtype), None, None, None


@_rule("CropAndResizeGradImage")
def _crop_and_resize(op, d):
    slope, boxes, index, _ = op.inputs
    crops = tf.raw_ops.CropAndResize(
        image=d,
        boxes=boxes,
        box_ind=index,
        crop_size=tf.shape(slope)[1:3],
        method=op.get_attr("method"),
    )
    return crops, None, None, None


@_rule("MaxPoolGradWithArgmax")
def _max_pool_with_argmax(op, d):
    places = op.inputs[2]
    if not op.get_attr("include_batch_in_index"):
        size = tf.size(d[0], tf.int64)
        first = size * tf.range(tf.shape(d)[0], dtype=tf.int64)
        places += tf.reshape(first, [-1, 1, 1, 1])
    return None, tf.gather(tf.reshape(d, [-1]), places), None


# ---- a kernel that writes over its input


@_rule("MaxPoolGrad")
def _max_pool_2d(op, d):
    return _max_pool(tf.raw_ops.MaxPoolGradGrad, op, d)


@_rule("MaxPool3DGrad")
def _max_pool_3d(op, d):
    return _max_pool(tf.raw_ops.MaxPool3DGradGrad, op, d)


def _max_pool(picked_at_maxima, op, d):
    """Picks d at the maxima.

    Where in- and output have one shape, the kernel takes d's memory for its
    output, and reads from d what it has written there. With explicit padding
    the input is larger.
    """
    x, y, _ = op.inputs
    options = {
        k: op.get_attr(k)
        for k in ("ksize", "strides", "padding", "data_format")
    }
    sizes = options["ksize"]
    has_one_shape = options["padding"] == b"SAME" and {*options["strides"]} == {
        1
    }
    if {*sizes} == {1} and {*options["strides"]} == {1}:
        return None, None, d
    if has_one_shape:
        around = [((k - 1) // 2, k // 2) for k in sizes]
        x = tf.pad(x, around, constant_values=x.dtype.min)
        d = tf.pad(d, around)
        options["padding"] = "VALID"
    picked = picked_at_maxima(orig_input=x, orig_output=y, grad=d, **options)
    return None, None, picked


# ---- a gradient that is about the derivative, and no more


@_rule("ImageProjectiveTransformV3")
def _image_projective_transform(op, d):
    """Refuses: TensorFlow moves d back by the inverse, and interpolates again.

    So does Keras's training. What is moved before any weight, as images are
    that a layer augments, asks for no derivative.
    """
    del d
    raise LookupError(
        f"No gradient defined for operation '{op.name}' (op type: {op.type})."
    )
