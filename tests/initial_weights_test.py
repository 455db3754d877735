"""Where each training of a `fit` starts."""

import keras
import numpy as np
import pytest

from small_models import (
    X,
    assert_same,
    at_each_end,
    built_once,
    compiled,
    fit,
    hidden,
)


@pytest.fixture(scope="module")
def model_of():
    return built_once(lambda: compiled(hidden()))


@pytest.fixture
def model(model_of):
    """One model for all tests here: one trace."""
    return model_of()


def starts_and_ends(model, policy):
    def ends(model):
        return [
            [np.array(w) for w in weights]
            for weights in (model.start_weights, model.end_weights)
        ]

    callback, found = at_each_end(model, ends)
    fit(
        model,
        callbacks=[callback],
        initial_weights=policy,
        meta_iterations=3,
        restore_best=False,
    )
    starts, ends = zip(*found, strict=True)
    assert_same(ends[-1], model.get_weights())
    return starts, ends


def test_same_starts_from_the_weights_at_the_call(model):
    before = model.get_weights()
    starts, ends = starts_and_ends(model, "same")
    for start in starts:
        assert_same(start, before)
    assert np.any(ends[0][0] != before[0])


def test_continue_starts_from_the_last_end(model):
    before = model.get_weights()
    starts, ends = starts_and_ends(model, "continue")
    assert_same(starts[0], before)
    assert_same(starts[1], ends[0])
    assert_same(starts[2], ends[1])


def test_resample_draws_from_the_initializers(model):
    # Layers made without a seed have drawn one, once; a new draw is another.
    before = model.get_weights()
    starts, _ = starts_and_ends(model, "resample")
    kernels = [before[0], *(start[0] for start in starts)]
    for k, kernel in enumerate(kernels):
        assert np.abs(kernel).max() <= np.sqrt(6 / sum(kernel.shape))
        for other in kernels[:k]:
            assert np.abs(kernel - other).min() > 0
    for start in starts:
        assert np.all(start[1] == 0)  # biases
    again, _ = starts_and_ends(model, "resample")
    assert_same(again[2], starts[2])


def test_resample_leaves_what_training_leaves():
    normalization = keras.layers.Normalization()
    normalization.adapt(3 * X + 1)
    pretrained = keras.layers.Dense(5)
    pretrained.trainable = False
    moving = keras.layers.BatchNormalization()
    inputs = keras.Input((X.shape[1],))
    h = moving(pretrained(normalization(inputs)))
    model = compiled(keras.Model(inputs, keras.layers.Dense(3)(h)))

    def frozen():
        return [*normalization.get_weights(), *pretrained.get_weights()]

    def means(policy):
        callback, found = at_each_end(model, lambda m: moving.get_weights()[2])
        fit(
            model,
            callbacks=[callback],
            initial_weights=policy,
            restore_best=False,
        )
        return found

    before, kernel = frozen(), model.get_weights()[-2]
    first, second = means("resample")
    assert_same(frozen(), before)
    assert np.abs(model.get_weights()[-2] - kernel).max() > 0.1
    # Moving averages begin anew: as many steps take them as far.
    assert np.abs(second - first).max() < 0.1 * np.abs(first).max()
    first, second = means("continue")
    assert np.abs(second - first).max() > 0.1 * np.abs(first).max()


def test_resample_needs_a_model_that_can_be_built_again():
    class NoConfig(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.dense = keras.layers.Dense(units)

        def call(self, x):
            return self.dense(x)

        def get_config(self):
            raise NotImplementedError("no config")

    plain = NoConfig(3)
    plain(X[:1])
    model = compiled(plain)
    before = model.get_weights()
    with pytest.raises(ValueError, match="`initial_weights`.*'resample'"):
        fit(model, initial_weights="resample")
    assert_same(model.get_weights(), before)
    fit(model, initial_weights="same")
