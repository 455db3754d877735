"""What a `fit` was given, in a few words for each argument, to compare."""

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

LONGEST = 200  # letters of the words for a list, or an entry of a config
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_COUNTED = re.compile(r'_\d+(?=["./])')


def of_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Returns words for each argument: equal arguments have equal words.

    Arrays are known by all their bytes, data sets by the shapes of what they
    yield and by their length.

    Args:
        arguments: the arguments of `fit` by name.
    """
    return {name: _words(value) for name, value in arguments.items()}


def of_model(
    model: keras.Model, given_to_compile: Mapping[str, Any]
) -> dict[str, str]:
    """Returns words for a model, and for what it was compiled with.

    Args:
        model: the elementary model, built.
        given_to_compile: the arguments of `compile` by name.
    """
    words: dict[str, str] = {}
    for name, thing in given_to_compile.items():
        words |= dict(entries(name, _config(thing)))
    weights = [f"{v.dtype}{tuple(v.shape)}" for v in model.variables]
    return words | {"model's weights": ", ".join(weights)}


def check(saved: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Checks that a `fit` has the arguments of the one that was saved.

    Raises:
        ValueError: if it has others; it says which.
    """
    names = [n for n in {**saved, **given} if saved.get(n) != given.get(n)]
    if not names:
        return
    rows = "".join(
        f"\n  {name}: {_short(saved, given, name)}" for name in names
    )
    raise ValueError(
        "The folder of `keras.callbacks.BackupAndRestore` has the backup of a "
        f"`fit` with other arguments. Different are:{rows}\nPass the same "
        "arguments to go on with it, or another `backup_dir` (or delete the "
        "folder) to begin anew."
    )


def _short(saved, given, name: str, most: int = 60) -> str:
    """Returns both words, cut down to where they begin to differ."""
    before, now = saved.get(name, "nothing"), given.get(name, "nothing")
    pairs = enumerate(zip(before, now, strict=False))
    first = next((k for k, (a, b) in pairs if a != b), 0)
    begin = max(0, first - most // 2) if first > most // 2 else 0
    shown = [
        ("..." if begin else "")
        + words[begin : begin + most]
        + ("..." if len(words) > begin + most else "")
        for words in (before, now)
    ]
    return f"{shown[0]} in the backup, {shown[1]} now"


def _words(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        words = f"({', '.join(map(_words, value))})"
        return words if len(words) <= LONGEST else _long(value, words)
    if isinstance(value, Mapping):
        items = [f"{k!r}: {_words(v)}" for k, v in value.items()]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, tf.data.Dataset):
        length = int(value.cardinality())
        return f"Dataset of {length} times {value.element_spec}"
    if isinstance(value, keras.utils.PyDataset):
        return f"{type(value).__name__} of {value.num_batches} batches"
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor)):
        parts = tf.nest.flatten(value, expand_composites=True)
        return f"{type(value).__name__} of {_words(parts)}"
    if hasattr(value, "columns") and hasattr(value, "items"):
        columns = {str(k): np.asarray(v) for k, v in value.items()}
        return f"{type(value).__name__} of {_words(columns)}"
    if tf.is_tensor(value) or hasattr(value, "__array__"):
        return _array(np.asarray(value))
    return type(value).__name__


def _array(array: np.ndarray) -> str:
    if array.dtype.hasobject:
        data: Any = repr(array.tolist()).encode()
    else:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return f"{array.dtype} array {array.shape} with digest {_digest(data)}"


def _long(value: Any, words: str) -> str:
    """Returns a short form of the long words for a value."""
    what = "entries" if isinstance(value, (list, tuple)) else "letters"
    count = len(value) if what == "entries" else len(words)
    return f"{count} {what} with digest {_digest(words.encode())}"


def _digest(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def _config(thing: Any) -> Any:
    """Returns what makes a thing, as Keras saves it; its class if none can."""
    if isinstance(thing, (list, tuple)):
        return [_config(one) for one in thing]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a lambda could not be loaded
        try:
            return keras.saving.serialize_keras_object(thing)
        except Exception:
            return type(thing).__name__


def entries(name: str, config: Any) -> Iterator[tuple[str, str]]:
    """Yields the name and the words of each entry of a config, at any depth."""
    if isinstance(config, list) and any(isinstance(x, dict) for x in config):
        config = dict(enumerate(config))
    if isinstance(config, dict) and config:
        for key, value in config.items():
            is_within = key == "config" and isinstance(value, dict)
            yield from entries(name if is_within else f"{name}.{key}", value)
    else:
        words = _ADDRESS.sub("", json.dumps(config, default=str))
        # Keras counts the objects of a process in their names.
        if name.endswith(".name"):
            words = _COUNTED.sub("", words)
        yield name, words if len(words) <= LONGEST else _long(config, words)
