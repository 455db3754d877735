"""The versions of Keras and TensorFlow that this package works with.

Read before anything else is imported, so that what is missing is said in words.
The package is installed without a TensorFlow: several distributions
(`tensorflow`, `tensorflow-cpu`, nightly ones) own one folder, and pip would put
one over the other.
"""

import importlib
import importlib.metadata
import importlib.util
from typing import Any

# The oldest versions that the package works with, and the newest with which it
# was tested; `docs/versions.md` says how.
OLDEST = {"keras": (3, 10), "tensorflow": (2, 18)}
NEWEST = {"keras": (3, 15), "tensorflow": (2, 21)}
NAMES = {"keras": "Keras", "tensorflow": "TensorFlow"}


def release(version: str) -> tuple[int, int]:
    """Returns the major and the minor number of a version."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def words(numbers: tuple[int, int]) -> str:
    """Returns major and minor number as text."""
    return ".".join(map(str, numbers))


def installed(name: str) -> tuple[int, int]:
    """Returns the major and the minor number of an installed library.

    Args:
        name: str, "keras" or "tensorflow".
    """
    return release(importlib.import_module(name).__version__)


def check() -> None:
    """Checks that Keras and TensorFlow are there, and new enough.

    Raises:
        ImportError: if TensorFlow is not installed, or Keras has another
            backend, or one of the two is too old.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise ImportError(
            "keras_drmad computes with TensorFlow, which is not installed. "
            "Install it with pip install 'keras_drmad[tensorflow]', or "
            "without support of GPUs with "
            "pip install 'keras_drmad[tensorflow-cpu]'."
        )
    keras = _keras()
    _check_is_new("keras")
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ImportError(
            "keras_drmad computes with TensorFlow. The backend of Keras is "
            f"'{backend}': set the environment variable "
            'KERAS_BACKEND=tensorflow, or "backend" in ~/.keras/keras.json, '
            "before Keras is imported."
        )
    _check_is_new("tensorflow")


def _check_is_new(name: str) -> None:
    """Checks that a library is new enough.

    Args:
        name: str, the library's.

    Raises:
        ImportError: if it is too old.
    """
    if installed(name) < OLDEST[name]:
        version = importlib.import_module(name).__version__
        # `tensorflow` put over `tensorflow-cpu` would spoil both.
        owners = importlib.metadata.packages_distributions()
        distribution = owners.get(name, [name])[0]
        raise ImportError(
            f"keras_drmad needs {NAMES[name]} {words(OLDEST[name])} or newer. "
            f"Received: {version}. Install a newer one with pip install "
            f"--upgrade {distribution}."
        )


def _keras() -> Any:
    """Returns Keras.

    Raises:
        ImportError: if its backend is not installed.
    """
    try:
        return importlib.import_module("keras")
    except (ImportError, ValueError) as error:  # or no such backend
        raise ImportError(
            f"keras_drmad needs Keras, which cannot be imported: {error}. "
            "keras_drmad computes with TensorFlow: if the environment variable "
            "KERAS_BACKEND or ~/.keras/keras.json names another backend, name "
            "'tensorflow' there."
        ) from error


def untested() -> str:
    """Returns a sentence on versions with which no test was run, or ""."""
    newer = [
        f"{NAMES[name]} {importlib.import_module(name).__version__} (tested up "
        f"to {words(newest)})"
        for name, newest in NEWEST.items()
        if installed(name) > newest
    ]
    if not newer:
        return ""
    return (
        f"This version of keras_drmad is older than {' and '.join(newer)}. "
        "Before its first training a model is compared with Keras's own step "
        "and with differences: what differs is refused."
    )
