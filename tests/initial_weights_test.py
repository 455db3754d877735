"""Where each training of a `fit` starts."""

import keras
import numpy as np
import pytest

from keras_drmad import hyperparameters as kinds
from small_models import (
    FIT,
    VALIDATION,
    At,
    X,
    Y,
    assert_same,
    at_each_end,
    built_once,
    compiled,
    fit,
    hidden,
)

TRAINING = dict(
    batch_size=FIT["batch_size"],
    epochs=FIT["epochs"],
    validation_data=VALIDATION,
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
        keep="last",
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
            keep="last",
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


class NoConfig(keras.Model):
    """A model that can't be built again from a config."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        raise NotImplementedError("no config")


def test_resample_needs_no_config():
    plain = NoConfig(3)
    plain(X[:1])
    model = compiled(plain)
    starts, _ = starts_and_ends(model, "resample")
    assert np.all(starts[0][0] != starts[1][0])


# ---- a second fit


def first_start(model, **options):
    """Returns the weights from which the first training of a fit starts."""
    callback, found = at_each_end(
        model, lambda m: [np.array(w) for w in m.start_weights]
    )
    fit(model, callbacks=[callback], meta_iterations=1, **options)
    return found[0]


@pytest.mark.parametrize("policy", ["same", "resample"])
def test_a_second_fit_starts_where_the_first_did(model, policy):
    start = first_start(model, initial_weights=policy)
    assert np.any(model.get_weights()[0] != start[0])
    assert_same(first_start(model, initial_weights=policy), start)


ONE_TRAINING = (dict(meta_iterations=0), dict(tune_every=3))


@pytest.mark.parametrize("how", ONE_TRAINING, ids=str)
def test_one_training_goes_on_and_puts_no_weights_in(model, how, tmp_path):
    how = dict(initial_weights="resample", meta_iterations=None) | how
    before = model.get_weights()
    fit(model, **how)
    trained = model.get_weights()
    assert np.any(before[0] != trained[0])
    fit(model, **how)
    assert_same([np.array(w) for w in model.start_weights], trained)
    model.save(tmp_path / "model.keras")
    options = TRAINING | dict(draws=2, verbose=0)  # warns of weights that stay
    model.untuned = [h.raw.numpy() for h in model.hyperparameters]
    model.check_hyperparameters(X, Y, **options)
    drawn = first_start(model, initial_weights="resample")
    assert np.abs(drawn[0] - before[0]).min() > 0
    assert_same(first_start(model, initial_weights="same"), before)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(first_start(loaded, initial_weights="same"), before)


def test_weights_that_the_net_itself_was_trained_to_are_where_to_start(model):
    fit(model, initial_weights="resample")
    before = model.get_weights()
    model.elementary_model.fit(X, Y, verbose=0)
    trained = model.get_weights()
    assert np.any(before[0] != trained[0])
    assert_same(first_start(model, initial_weights="resample"), trained)
    with pytest.warns(UserWarning, match="0 of 43 trainable numbers"):
        model.check_hyperparameters(X, Y, **TRAINING, draws=2, verbose=0)
    with pytest.warns(UserWarning, match="All draws start from the same"):
        model.hypergradient(X, Y, **TRAINING, draws=2)
    model.set_weights(before)
    assert_same(first_start(model, initial_weights="resample"), before)


def test_a_new_head_on_a_body_that_stays(model):
    """One part of the weights is loaded between two fits, the other is not."""
    fit(model, initial_weights="resample")
    body = [np.ones((4, 5), "float32"), np.full(5, 0.5, "float32")]
    model.get_layer("first").set_weights(body)
    one = first_start(model, initial_weights="resample", seed=1)
    other = first_start(model, initial_weights="resample", seed=2)
    assert_same(one[:2], body)
    assert_same(other[:2], body)
    assert np.abs(one[2] - other[2]).min() > 0


def test_who_looks_within_a_fit_puts_no_other_weights_in(model):
    start = first_start(model, initial_weights="resample")
    for meta_iterations in (2, 0):
        look = At(0, lambda: model.summary(print_fn=lambda *_, **__: None))
        starts, at_end = at_each_end(model, lambda m: m.start_weights[0] + 0)
        fit(
            model,
            initial_weights="resample",
            meta_iterations=meta_iterations,
            callbacks=[look, starts],
            seed=5,
        )
        if meta_iterations:
            assert np.abs(at_end[0] - at_end[1]).min() > 0
        assert_same(first_start(model, initial_weights="resample"), start)


def test_early_stopping_that_restores_puts_no_other_weights_in(model):
    early = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    start = first_start(model, initial_weights="resample")
    fit(model, callbacks=[early], meta_iterations=3, seed=5)
    assert_same(first_start(model, initial_weights="resample"), start)


@pytest.mark.parametrize("policy", ["same", "resample"])
def test_a_saved_model_starts_where_its_trainings_did(model, policy, tmp_path):
    start = first_start(model, initial_weights=policy)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(first_start(loaded, initial_weights=policy), start)
    loaded.save_weights(tmp_path / "model.weights.h5")
    again = compiled(hidden())
    again.load_weights(tmp_path / "model.weights.h5")
    assert_same(first_start(again, initial_weights=policy), start)


def test_an_interrupted_fit_leaves_the_start_to_the_next(model):
    def interrupt():
        raise KeyboardInterrupt

    start = first_start(model, initial_weights="resample")
    at = At(1, interrupt, within=True)
    with pytest.raises(KeyboardInterrupt):
        fit(
            model,
            initial_weights="resample",
            meta_iterations=3,
            callbacks=[at],
            seed=7,
        )
    assert_same(first_start(model, initial_weights="resample"), start)


def test_first_weights_that_nobody_tuned_are_those_that_were_put_in(tmp_path):
    kind = kinds.InitialWeights("first", bounds=(-9.0, 9.0))
    model = compiled(hidden(), hyperparameters=[kind])

    def put_in(value, model=model):
        layer = model.get_layer("first")
        layer.set_weights([np.full((4, 5), value), np.zeros(5)])
        return [np.full((4, 5), np.clip(value, -9, 9)), np.zeros(5)]

    def values(kind=kind):
        flat = kind.value().numpy()
        return [flat[:20].reshape(4, 5), flat[20:]]

    expected = put_in(0.5)
    model.save(tmp_path / "model.keras")
    assert_same(values(), expected)
    fit(model, meta_iterations=0)
    model.hypergradient(X, Y, **TRAINING)
    assert_same(values(), expected)  # not what this `fit` has left
    model.save(tmp_path / "left.keras")
    for name in ("model", "left"):  # as before this `fit`, and after
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        own = loaded.hyperparameters[0]
        loaded.follow_weights()
        assert_same(values(own), expected)
        other = put_in(0.25, loaded)
        loaded.follow_weights()
        assert_same(values(own), other)
    expected = put_in(10.0)
    model.hypergradient(X, Y, **TRAINING)
    assert_same(values(), expected)
    expected = put_in(-1.0)
    assert_same(first_start(model)[:2], expected)
    kind.assign(0.75)
    put_in(0.25)
    model.hypergradient(X, Y, **TRAINING)
    assert set(kind.value().numpy()) == {0.75}
    model.save(tmp_path / "assigned.keras")
    loaded = keras.models.load_model(tmp_path / "assigned.keras")
    put_in(0.25, loaded)
    loaded.follow_weights()
    assert set(loaded.hyperparameters[0].value().numpy()) == {0.75}
