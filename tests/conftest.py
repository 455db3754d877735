"""What the tests share: seeds, and numbers in double precision."""

import contextlib
import gc
import os
import random

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Problems are small, and pytest has a process for each core.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # scikit-learn's threads spin

import keras  # noqa: E402  (TensorFlow reads the lines above at its import)
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

import quick_tracing  # noqa: E402
from running import spare_self_checks  # noqa: E402

# XLA optimizes less, and compiles in a third of the time; not for programs that
# tests start, which XLA compiles as it does a user's. It reads the flags when
# it first compiles, and ends the process at one that it does not know.
FLAGS = ["--xla_backend_optimization_level=0"]
if tf.__version__.startswith(("2.20.", "2.21.")):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))


# Files that take half a minute and more, the dearest ones first: a process that
# got one of them last would let the others wait.
LONG = (
    "replicas",
    "benchmarks",
    "tuners_outside",
    "feature_selection",
    "weight_penalties",
    "documents",
    "tuning_while_training_study",
    "super_parameters",
    "killed_fit",
    "conformance_of_layers",
    "conformance",
    "common_methods",
    "kinds",
    "faults_in_variables",
    "optimizers",
    "forward_mode",
    "faults_in_weights",
    "against_reverse_mode",
    "faults_in_kinds",
    "faults_in_derivatives",
    "notebooks",
    "search_outside",
    "meta_rate_search",
    "keras_programs",
    "lint",
)


def pytest_collection_modifyitems(items):
    """Puts the files that take longest first."""
    rank = {f"{name}_test": k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


def pytest_collection_finish():
    """Lets the collector of garbage pass over what all imports have made."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def seeded_tensorflow():
    """Seeds TensorFlow, too, once a file.

    TensorFlow's seed makes it load all compiled loops anew, which would take
    more time than most tests that share a model.
    """
    quick_tracing.begin_anew(0)
    yield
    gc.collect()  # the graphs of the file's models


@pytest.fixture(scope="module", autouse=True)
def self_check(request):
    """Models check themselves in files marked `self_check`, to save time."""
    if request.node.get_closest_marker("self_check"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        spare_self_checks(patch.setattr)
        yield


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same random numbers, whichever ran before."""
    reseed()


def reseed(seed=0):
    """Seeds Python and NumPy; layers take their seeds from Python."""
    random.seed(seed)
    np.random.seed(seed)


@pytest.fixture(scope="module")
def float64():
    """Keras in float64, where finite differences are worth something.

    Ask for it in the whole module, `pytestmark = usefixtures("float64")`, so
    that the fixtures that build models come after it.
    """
    with precision("float64"):
        yield


@contextlib.contextmanager
def precision(floatx):
    """Sets the dtype of numbers and layers within a `with` statement."""
    before = keras.config.floatx()
    set_precision(floatx)
    try:
        yield
    finally:
        set_precision(before)


def set_precision(floatx, layers=None):
    """Sets the dtype of numbers, and of layers: Keras remembers them apart."""
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(layers or floatx)
