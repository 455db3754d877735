"""A model with the strengths of its random layers made tunable."""

import inspect
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras

from keras_drmad import arguments, keras_internals
from keras_drmad.layers.dropout import Dropout
from keras_drmad.layers.gaussian_noise import GaussianNoise
from keras_drmad.layers.image_augmentation import STRENGTHS, ImageAugmentation
from keras_drmad.training import kept_initializers
from keras_drmad.wrapper import check_built

L = keras.layers
# The axes over which a spatial dropout shares its mask, channels last.
SPATIAL = {
    L.SpatialDropout1D: (None, 1, None),
    L.SpatialDropout2D: (None, 1, 1, None),
    L.SpatialDropout3D: (None, 1, 1, 1, None),
}
# Layers near to those that can be replaced, about which a user may wonder.
NEAR = (
    L.AlphaDropout,
    L.GaussianDropout,
    L.RandomBrightness,
    L.RandomContrast,
    L.RandomCrop,
    L.RandomFlip,
    L.RandomRotation,
    L.RandomTranslation,
    L.RandomZoom,
    L.Dropout,
    L.GaussianNoise,
    *SPATIAL,
)


ATTENTION = (L.MultiHeadAttention, L.GroupQueryAttention)


class Replacement(NamedTuple):
    """A layer whose strength is, or is not, made tunable.

    Attributes:
        layer: `keras.layers.Layer`, the layer of Keras.
        make: function without arguments that returns the layer that takes its
            place; `None` where there is none.
        words: str, what would be tuned, or why nothing is.
    """

    layer: keras.layers.Layer
    make: Callable[[], keras.layers.Layer] | None
    words: str

    def described(self) -> str:
        """Returns a line on the layer."""
        return f"{self.layer.name} ({type(self.layer).__name__}): {self.words}"


def tunable(model: keras.Model) -> keras.Model:
    """Returns a copy of a model whose random layers have tunable strengths.

    `Dropout`, `SpatialDropout1D` to `3D`, `GaussianNoise`, `RandomBrightness`,
    `RandomContrast`, `RandomRotation` and `RandomTranslation` of Keras, in
    Sequential and Functional models, nested ones, and as attributes of a
    user's own layers, are replaced by `keras_drmad.layers.Dropout`,
    `GaussianNoise` and `ImageAugmentation` of the same strengths and names,
    each of which `DrMADModel` finds and tunes. The weights are those of the
    model, as are the initializers that draw them anew, which of them are
    frozen, their regularizers and constraints, and what the model computes in
    inference. In training the masks of dropout are nearly zeros and ones, by
    the concrete relaxation; contrast is changed by a factor whose logarithm is
    uniform, about the mean of the whole image; pixels from outside of an image
    are those of the nearest edge, unless `fill_mode="constant"`; and numbers
    are not clipped.

    Layers with ranges that are not symmetric, flips, zooms and crops stay as
    they are, and so does dropout inside of recurrent and attention layers.

    Example:

    ```python
    model = kd.DrMADModel(kd.tunable(model))  # as DrMADModel.from_model does
    model.compile("adam", "mse", hyperparameters="auto")
    model.hyperparameter_summary()
    ```

    Args:
        model: a built Sequential or Functional model, or one of a class with a
            `get_config`, that Keras can copy from its config.

    Returns:
        A `keras.Model`, which is not compiled, with weights of its own.
        Initializers, and regularizers that weights were given later, are the
        very objects of the model.

    Raises:
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if the model is not built, can't be copied from its config,
            or has no layer to replace.
    """
    check_built(model)
    found = replacements(model)
    if not any(one.make for one in found):
        stay = "; ".join(one.described() for one in found)
        raise ValueError(
            f"The model '{model.name}' has no layer whose strength could be "
            f"tuned. {stay or 'There is no random layer in it'}. Add one of "
            "`keras_drmad.layers`, or `keras.layers.Dropout` and its like."
        )
    copier = _Copier()
    try:
        copy = copier.copied(model)
    except Exception as error:
        raise ValueError(
            f"The model '{model.name}' can't be copied from its config, which "
            "replacing layers asks for: give the classes of your own a "
            "`get_config`, or put layers of `keras_drmad.layers` into them. "
            f"{type(error).__name__}: {error}"
        ) from error
    copier.copy_state(model, copy)
    left = [one for one in replacements(copy) if one.make]
    if left:
        names = ", ".join(f"'{one.layer.name}'" for one in left)
        words = (
            f"Layers of the model '{model.name}' stay as they are: {names}. A "
            "layer of a class of its own keeps them where they can't be "
            "replaced: keep each in an attribute, or in a list."
        )
        if not copier.made:
            raise ValueError(words)
        warnings.warn(words, UserWarning, stacklevel=arguments.users_level())
    return copy


def replacements(model: keras.Model) -> list[Replacement]:
    """Returns the layers of a model that `tunable` replaces, or that stay.

    Args:
        model: a model, built or not.
    """
    layers = keras_internals.layers_within(model)
    inside = {
        id(part)
        for layer in layers
        if isinstance(layer, ATTENTION)
        for part in keras_internals.layers_within(layer)
    }
    return [
        Replacement(layer, None, "is inside of attention")
        if id(layer) in inside
        else _replacement(layer)
        for layer in layers
        if type(layer) in NEAR
    ]


# ---- which layer takes a layer's place


def _replacement(layer: keras.layers.Layer) -> Replacement:
    """Returns the replacement of a layer of `NEAR`."""
    find = FINDERS.get(type(layer))
    if find is None:
        return Replacement(layer, None, "has no strength to tune here")
    kind, options, name = find(layer)
    if kind is None:
        return Replacement(layer, None, name)
    given = options | {
        "name": layer.name,
        "dtype": layer.dtype_policy,
        "seed": getattr(layer, "seed", None),
    }
    said = f"its {name}, {options[name]:.4g} now"
    return Replacement(layer, lambda: kind(**given), said)


def _dropout(layer: Any) -> tuple:
    if not layer.rate:
        return None, {}, "its rate is 0, from which nothing can start"
    options = {"rate": layer.rate}
    if type(layer) in SPATIAL:
        shape = SPATIAL[type(layer)]
        if getattr(layer, "data_format", "") == "channels_first":
            shape = (None, None, *shape[1:-1])
        options["noise_shape"] = shape
    elif layer.noise_shape is not None:
        options["noise_shape"] = tuple(layer.noise_shape)
    return Dropout, options, "rate"


def _noise(layer: Any) -> tuple:
    if not layer.stddev:
        return None, {}, "its stddev is 0, from which nothing can start"
    return GaussianNoise, {"stddev": layer.stddev}, "stddev"


def _brightness(layer: Any) -> tuple:
    low, high = layer.value_range
    return _augmentation(layer, "brightness", layer.factor, high - low)


def _contrast(layer: Any) -> tuple:
    # Of 1 - lower and 1 + upper. Of a number Keras makes (0, number), although
    # it documents (number, number).
    lower, upper = layer.factor
    return _augmentation(layer, "contrast", (-(lower or upper), upper))


def _rotation(layer: Any) -> tuple:
    return _augmentation(layer, "rotation", layer.factor)


def _translation(layer: Any) -> tuple:
    height = layer.height_lower, layer.height_upper
    width = layer.width_lower, layer.width_upper
    if height != width:
        return None, {}, "its factors of height and width differ"
    return _augmentation(layer, "translation", height)


def _augmentation(
    layer: Any, name: str, ends: tuple[float, float], size: float = 1.0
) -> tuple:
    """Returns an `ImageAugmentation` of one strength.

    Args:
        layer: the layer of Keras.
        name: str, of the strength.
        ends: `(lower, upper)` of the strength's draws.
        size: float, the unit of the ends.
    """
    lower, upper = (float(end) for end in ends)
    if lower != -upper:
        return (
            None,
            {},
            f"its range ({lower:.4g}, {upper:.4g}) is not symmetric",
        )
    if not upper:
        return None, {}, "its factor is 0, from which nothing can start"
    if getattr(layer, "data_format", None) == "channels_first":
        return None, {}, "its images have their channels first"
    options: dict[str, Any] = dict.fromkeys(STRENGTHS)
    options[name] = upper * size
    if getattr(layer, "fill_mode", None) == "constant":
        options |= {"fill_mode": "constant", "fill_value": layer.fill_value}
    return ImageAugmentation, options, name


FINDERS: dict[type, Callable[[Any], tuple]] = {
    L.Dropout: _dropout,
    **dict.fromkeys(SPATIAL, _dropout),
    L.GaussianNoise: _noise,
    L.RandomBrightness: _brightness,
    L.RandomContrast: _contrast,
    L.RandomRotation: _rotation,
    L.RandomTranslation: _translation,
}


# ---- the copy


def _from_config(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a new layer of the same config, name and type of numbers.

    Of a class whose constructor does not hand arguments on to
    `keras.layers.Layer`, or that has no `get_config`, as in many programs,
    these are set afterwards.
    """
    config = layer.get_config()
    taken = inspect.signature(type(layer).__init__).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        for name in ("name", "trainable", "dtype"):
            if name not in taken:
                config.pop(name, None)
    copy = type(layer).from_config(config)
    copy.name = layer.name
    if "dtype" not in config:
        copy.dtype_policy = layer.dtype_policy
    return copy


class _Copier:
    """Copies a model with replaced layers.

    Attributes:
        made: list of the layers that took the place of others.
    """

    def __init__(self):
        self.made: list[keras.layers.Layer] = []
        self._taken: dict[int, Any] = {}  # places of layers, by their ids

    def copied(self, model: Any) -> Any:
        """Returns the copy of a model or layer, or what takes its place."""
        if keras_internals.is_graph(model):
            copy = keras_internals.clone_of_graph(model, self.copied)
            copy.name = model.name
            return copy
        replaced = self._replaced(model)
        if replaced is not None:
            return replaced
        copy = _from_config(model)
        self._replace_attributes(copy, model, set())
        if isinstance(copy, keras.Model) and not copy.built:
            copy.build_from_config(model.get_build_config())
            copy.built = True  # which Keras leaves out for some
        return copy

    def _replaced(self, layer: Any) -> Any:
        make = _replacement(layer).make if type(layer) in NEAR else None
        if make is None:
            return None
        self.made.append(make())
        return self.made[-1]

    def _replace_attributes(
        self, copy: Any, layer: Any, seen: set[int]
    ) -> None:
        """Replaces layers that a layer of a user's own keeps as attributes.

        Args:
            copy: the copy of the layer, not built yet.
            layer: the layer, whose parts have the names that users know.
            seen: the ids of copies that were looked at.
        """
        seen.add(id(copy))
        for name, part in list(vars(copy).items()):
            if isinstance(part, list) and not name.startswith("_"):
                self._replace_in_list(
                    copy, part, getattr(layer, name, []), seen
                )
            if not isinstance(part, keras.layers.Layer) or id(part) in seen:
                continue
            known = getattr(layer, name, None)
            known = known if type(known) is type(part) else part
            new = self._in_place_of(part, known, seen)
            if new is not None:
                setattr(copy, name, new)
                keras_internals.replace_layer(copy, part, new)

    def _in_place_of(self, part: Any, known: Any, seen: set[int]) -> Any:
        """Returns what takes the place of a part; `None` for nothing.

        Args:
            part: the part, of a copy.
            known: the part of the layer that was copied.
            seen: as for `_replace_attributes`.
        """
        if id(part) not in self._taken:
            if keras_internals.is_graph(known):
                new = self.copied(known)
            else:
                new = self._replaced(known)
            if new is None:
                self._replace_attributes(part, known, seen)
            self._taken[id(part)] = new
        return self._taken[id(part)]

    def _replace_in_list(
        self, copy: Any, parts: list, known: Any, seen: set[int]
    ) -> None:
        """Replaces layers that a layer of a user's own keeps in a list."""
        for k, part in enumerate(parts):
            if not isinstance(part, keras.layers.Layer) or id(part) in seen:
                continue
            one = known[k] if len(known) == len(parts) else part
            one = one if type(one) is type(part) else part
            new = self._in_place_of(part, one, seen)
            if new is not None:
                parts[k] = new
                keras_internals.replace_layer(copy, part, new)

    def copy_state(self, model: keras.Model, copy: keras.Model) -> None:
        """Gives a copy what a model has beside its config.

        Weights, which of them are trained, the regularizers and constraints
        that they were given later, the initializers that drew them, each with
        its seed, and what `adapt` has told preprocessing layers.

        Raises:
            ValueError: if the copy has other weights or layers.
        """
        new = {id(v) for layer in self.made for v in layer.weights}
        after = [v for v in copy.weights if id(v) not in new]
        shapes = [
            [tuple(v.shape) for v in each] for each in (model.weights, after)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"A copy of the model '{model.name}' from its config has other "
                f"weights, of shapes {shapes[1]} for {shapes[0]}. Let the "
                "classes of your own build from what `get_config` returns "
                "alone."
            )
        # Outer layers before inner ones, to which Keras hands `trainable` on.
        pairs = list(self._pairs(model, copy, set()))
        for theirs, ours in pairs:
            ours.trainable = theirs.trainable
            kept_initializers.hand_over(theirs, ours)
        for ours, theirs in zip(after, model.weights, strict=True):
            ours.assign(theirs)
            ours.trainable = theirs.trainable
            for name in ("regularizer", "constraint"):
                given = getattr(theirs, name)
                if not _is_alike(getattr(ours, name), given):
                    setattr(ours, name, given)
        for theirs, ours in pairs:
            if hasattr(theirs, "finalize_state"):
                _hand_over_adapted(theirs, ours)

    def _pairs(
        self, layer: keras.Layer, copy: keras.Layer, seen: set[int]
    ) -> Iterator[tuple[keras.Layer, keras.Layer]]:
        """Yields each layer within a layer, itself first, with its copy.

        Args:
            layer: a layer or model.
            copy: its copy, built.
            seen: the ids of layers that were met.

        Raises:
            ValueError: if there are other layers within the copy.
        """
        if id(layer) in seen:
            return
        seen.add(id(layer))
        yield layer, copy
        if any(copy is one for one in self.made):
            return
        inner, copies = (
            [
                part
                for part in keras_internals.layers_directly_within(one)
                if not isinstance(part, L.InputLayer)
            ]
            for one in (layer, copy)
        )
        if len(inner) != len(copies):
            raise ValueError(
                f"A copy of '{layer.name}' from its config has other layers, "
                f"{[one.name for one in copies]} for "
                f"{[one.name for one in inner]}. Let the classes of your own "
                "build from what `get_config` returns alone."
            )
        for pair in zip(inner, copies, strict=True):
            yield from self._pairs(*pair, seen)


def _hand_over_adapted(layer: Any, copy: Any) -> None:
    """Gives a preprocessing layer what another one was adapted to, as a file.

    Statistics and vocabularies are more than its weights.
    """
    has_words = hasattr(layer, "get_vocabulary")
    if has_words and not layer.get_vocabulary(include_special_tokens=False):
        return  # not adapted yet
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    copy.load_own_variables(store)
    if has_words:
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)


def _is_alike(one: Any, other: Any) -> bool:
    """Returns whether two regularizers or constraints do the same.

    Equal by their configs: those of a class of one's own may hold values.
    """
    if one is None or other is None or type(one) is not type(other):
        return one is other
    try:
        return repr(one.get_config()) == repr(other.get_config())
    except (AttributeError, NotImplementedError):
        return one is other
