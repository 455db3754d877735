"""What the tests share: seeds, and numbers in double precision."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Problems are small, and pytest has a process for each core.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras  # noqa: E402  (TensorFlow reads the lines above at its import)
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same random numbers, whichever ran before."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def float64():
    """Keras in float64, where finite differences are worth something.

    Ask for it in the whole module, `pytestmark = usefixtures("float64")`, so
    that the fixtures that build models come after it.
    """
    before = keras.config.floatx()
    set_precision("float64")
    yield
    set_precision(before)


def set_precision(floatx, layers=None):
    """Sets the dtype of numbers, and of layers: Keras remembers them apart."""
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(layers or floatx)
