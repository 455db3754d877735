"""What the installed version of Keras has, for tests of what it may lack."""

import pytest

from keras_drmad import keras_internals, versions

KERAS = versions.installed("keras")
HAS_SEVERAL = keras_internals.has_several_optimizers()
# For tests of optimizers with other numbers for other weights.
several_optimizers = pytest.mark.skipif(
    not HAS_SEVERAL, reason="keras.optimizers.MultiOptimizer is new in 3.15"
)
