"""Models that go to disk and come back."""

import keras
import numpy as np
import pytest

import keras_drmad as kd
from conftest import reseed
from small_models import (
    CLASSES,
    FEATURES,
    VALIDATION,
    X,
    as_if_tuned,
    assert_same,
    built_once,
    compiled,
    fit,
    hidden,
    numbers,
    variables,
)


@keras.saving.register_keras_serializable("keras_drmad_tests")
class Robust(keras.Model):
    """A subclassed model with a loss of its own."""

    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = keras.layers.Dense(units, activation="tanh")
        self.last = keras.layers.Dense(CLASSES)

    def call(self, x):
        return self.last(self.first(x))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 0.1 * keras.ops.mean(keras.ops.abs(y_pred))

    def get_config(self):
        return super().get_config() | {"units": self.units}

    def build(self, input_shape):
        self.first.build(input_shape)
        self.last.build((None, self.units))
        self.built = True


def subclassed():
    reseed()
    model = Robust(6)
    model(X[:1])
    return model


def sequential():
    reseed()
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(CLASSES),
        ]
    )


MODELS = {f.__name__: f for f in (hidden, sequential, subclassed)}


@pytest.fixture(scope="module")
def trained():
    """Returns a function from names to models after a `fit`, each as then."""
    return built_once(fitted)


def fitted(name):
    """Returns a model after a `fit`, nothing in it at its default."""
    model = compiled(
        MODELS[name](),
        optimizer=keras.optimizers.SGD(0.05, momentum=0.7, nesterov=True),
        metrics=["accuracy"],
        hyperparameters=[
            kd.hyperparameters.L2(per="input", bounds=(1e-6, 0.1), biases=True),
            kd.hyperparameters.L1(per="layer", initial=1e-3, name="sparse"),
            kd.hyperparameters.LearningRate(layers="dense.*|first|last"),
        ],
        hypergradient=kd.DrMAD(reverse_steps=4),
        meta_optimizer=keras.optimizers.RMSprop(0.2, rho=0.8),
        self_check=False,
    )
    fit(model)
    return model


def saved(model):
    """Returns what is saved: not the seeds of Dropout, as in Keras."""
    keep = [v.name != "seed_generator_state" for v in variables(model)]
    return [a for a, k in zip(numbers(model), keep, strict=True) if k]


@pytest.mark.parametrize("kind", MODELS)
def test_saved_and_loaded(trained, kind, tmp_path):
    model = trained(kind)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is kd.DrMADModel
    assert type(loaded.elementary_model) is type(model.elementary_model)
    assert_same(saved(loaded), saved(model))
    assert loaded.get_compile_config() == model.get_compile_config()
    said: list[str] = []
    loaded.summary(print_fn=lambda text, **_: said.append(text))
    assert "Self-check: off" in "".join(said)
    # Losses of subclassed models and dropout masks come along too.
    assert_same(
        loaded.evaluate(*VALIDATION, verbose=0),
        model.evaluate(*VALIDATION, verbose=0),
    )
    assert fit(loaded) == fit(model)
    assert_same(numbers(loaded), numbers(model))


def test_what_was_not_compiled_is_loaded_so(tmp_path):
    model = kd.DrMADModel.from_model(hidden(), name="plain")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.compiled
    assert loaded.name == "plain"
    assert_same(loaded.get_weights(), model.get_weights())


def frozen(model):
    model.trainable = False


def without_first(model):
    model.get_layer("first").trainable = False


def quantized(model):
    model.get_layer("first").quantize("int8")


def with_lora(model):
    model.get_layer("first").enable_lora(2)


@pytest.mark.parametrize(
    "change", [frozen, without_first, quantized, with_lora]
)
def test_what_was_changed_after_compile_is_loaded(change, tmp_path):
    model = as_if_tuned(compiled(hidden()))
    model.tuned_from = "resample"
    model.origin_of_trainings().leave()
    change(model)
    with pytest.warns(RuntimeWarning, match="changed after `compile`"):
        model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.compiled
    assert_same(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    loaded.origin_of_trainings()  # can begin where these weights are


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_hyperparameters_that_still_fit_are_saved(tmp_path):
    kinds = [kd.hyperparameters.L2(initial=1e-2)]
    model = as_if_tuned(compiled(hidden(), hyperparameters=kinds))
    without_first(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same([loaded.hyperparameters[0].raw], [kinds[0].raw])


def test_saved_and_loaded_weights(trained, tmp_path):
    model = trained("hidden")
    model.save_weights(tmp_path / "model.weights.h5")
    other = compiled(
        hidden(units=5),
        hyperparameters=[
            type(h).from_config(h.get_config()) for h in model.hyperparameters
        ],
        optimizer=keras.optimizers.SGD(0.05, momentum=0.7, nesterov=True),
        meta_optimizer=keras.optimizers.RMSprop(0.2, rho=0.8),
    )
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(numbers(other), numbers(model))


def test_weights_of_a_plain_model_leave_the_tuning(trained, tmp_path):
    model = trained("hidden")
    model.elementary_model.save_weights(tmp_path / "plain.weights.h5")
    model.elementary_model.save(tmp_path / "plain.keras")
    weights = model.get_weights()
    model.set_weights([0 * w for w in weights])
    for name in ("plain.weights.h5", "plain.keras"):
        values = [h.value().numpy() for h in model.hyperparameters]
        untuned, record = model.untuned, model.tuning_record
        assert len(untuned) == 3 and record.rows
        model.load_weights(tmp_path / name)
        assert_same([h.value().numpy() for h in model.hyperparameters], values)
        assert model.untuned is untuned and model.tuning_record is record
        assert_same(model.get_weights(), weights)


@pytest.mark.parametrize("kind", MODELS)
def test_config(kind):
    model = kd.DrMADModel.from_model(MODELS[kind](), name="wrapped")
    for copy in (
        kd.DrMADModel.from_config(model.get_config()),
        keras.models.clone_model(model),
    ):
        assert copy.name == "wrapped"
        assert copy.get_config() == model.get_config()
        copy.set_weights(model.get_weights())
        np.testing.assert_array_equal(copy(X), model(X))


@keras.saving.register_keras_serializable("keras_drmad_tests")
class Unnamed(keras.layers.Layer):
    """A layer whose constructor takes no name."""

    def __init__(self):
        super().__init__()
        self.slopes = [kd.layers.LearnedValue(0.1)]

    def call(self, x):
        return keras.ops.maximum(x, self.slopes[0].value() * x)

    def get_config(self):
        return {}


def unnamed():
    layers = [
        keras.Input((FEATURES,)),
        keras.layers.Dense(2),
        Unnamed(),
        kd.layers.Dropout(0.2),
        keras.layers.Dense(CLASSES),
    ]
    return compiled(
        keras.Sequential(layers), hyperparameters=[kd.hyperparameters.L2()]
    )


def test_names_that_keras_has_counted_may_be_others(tmp_path):
    model = as_if_tuned(unnamed())
    l2, *within = (h.name for h in model.hyperparameters)
    model.tuning_record.rows[0][f"{within[1]}/mean"] = 0.5
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [h.name for h in loaded.hyperparameters] == [l2, *within]
    again = unnamed()
    names = [h.name for h in again.hyperparameters]
    assert not set(names[1:]) & set(within)
    again.load_weights(tmp_path / "m.weights.h5")
    for copy in (loaded, again):
        assert_same(
            [h.raw for h in copy.hyperparameters],
            [h.raw for h in model.hyperparameters],
        )
        copy.results_summary(print_fn=str)
        kd.plots.course(copy)
    assert again.tuning_record.rows[0][f"{names[2]}/mean"] == 0.5
    other = compiled(hyperparameters=[kd.hyperparameters.L2(name="other")])
    with pytest.raises(ValueError, match="Expected a file"):
        other.load_own_variables({"hyperparameter_l2": np.zeros(4)})


@pytest.mark.filterwarnings("ignore")  # Keras tells of weights
def test_hyperparameters_of_other_shapes_may_be_skipped(tmp_path):
    path = tmp_path / "m.weights.h5"
    model, other = (as_if_tuned(compiled(hidden(n))) for n in (5, 6))
    model.save_weights(path)
    before = other.hyperparameters[0].raw.numpy()
    weights = other.get_weights()
    with pytest.raises(ValueError):
        other.load_weights(path)
    with pytest.warns(UserWarning, match=r"stay as.*\(10,\).*\(9,\)"):
        other.load_weights(path, skip_mismatch=True)
    np.testing.assert_array_equal(other.hyperparameters[0].raw, before)
    np.testing.assert_array_equal(other.get_weights()[0], weights[0])
    last = model.get_weights()[3]  # of the same shape in both
    np.testing.assert_array_equal(other.get_weights()[3], last)


class Mine(kd.DrMADModel):
    """With arguments of its own."""

    def __init__(self, inputs, outputs=None, name=None, *, note):
        super().__init__(inputs, outputs, name)
        self.note = note

    def get_config(self):
        return super().get_config() | {"note": self.note}

    def compile(self, *args, strength, **kwargs):
        super().compile(*args, **kwargs)


def test_config_of_a_subclass_keeps_arguments_of_its_own():
    model = Mine(hidden(), note="mine")
    for copy in (
        Mine.from_config(model.get_config()),
        keras.models.clone_model(model),
    ):
        assert type(copy) is Mine and copy.note == "mine"


def test_a_subclass_is_not_compiled_without_arguments_of_its_own(tmp_path):
    model, path = Mine(hidden(), note="mine"), tmp_path / "m.keras"
    options = dict(loss="mse", hyperparameters=[kd.hyperparameters.L2("all")])
    model.compile("sgd", **options, strength=1)
    model.hyperparameters[0].assign(0.5)
    model.save(path)
    with pytest.raises(ValueError, match=r"'strength'.*get_compile_config"):
        keras.models.load_model(path, {"Mine": Mine})
    copy = keras.models.load_model(path, {"Mine": Mine}, compile=False)
    copy.compile("sgd", **options, strength=1)
    copy.load_weights(path)
    assert copy.hyperparameters[0].value().numpy() == 0.5


@pytest.mark.parametrize(
    "constructed",
    [
        kd.DrMAD(reverse_steps=7),
        kd.DrMAD(reverse_steps=0.5),
        kd.ReverseMode(),
        kd.SignDescent(0.3),
        kd.SignConsensus(0.2, reach=4.0, single="both"),
        kd.hyperparameters.L1(per="layer", layers=["a", "b.*"], biases=True),
        kd.hyperparameters.L2(initial=0.5, bounds=(None, 2.0), name="x"),
        kd.hyperparameters.LearningRate(per="layer", bounds=(1e-3, None)),
    ],
    ids=lambda constructed: type(constructed).__name__,
)
def test_config_of_what_a_user_constructs(constructed):
    config = constructed.get_config()
    assert type(constructed).from_config(config).get_config() == config
    serialized = keras.saving.serialize_keras_object(constructed)
    copy = keras.saving.deserialize_keras_object(serialized)
    assert type(copy) is type(constructed)
    assert copy.get_config() == config
