"""`MetaRateSearch`: its stopping rule, where losses are known."""

import math
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_drmad as kd
from keras_drmad.meta_rate_search import NOT_OF_SEARCH
from running import forked
from small_models import assert_helps, compiled, linear

# One weight w starts at 0, and one step of SGD with rate 1 on the training loss
# (w - a - b)^2 / 2 takes it to a + b. The validation loss is then
# (1 - a - b)^2 / 2. From a = b = 0, where it is 1/2, sign descent moves one of
# them to its rate r, and the loss to (1 - r)^2 / 2: lower if r < 2. If r > 2,
# the next step goes back to 0, and the loss to 1/2.
X = np.zeros((2, 1), "float32")
DATA = dict(
    x=X,
    y=X,
    batch_size=2,
    validation_data=(X, X + 1),
    verbose=0,
)
A, B = "weight.a", "weight.b"
WIDE = {A: (0.02, 200.0), B: (0.02, 200.0)}  # half of the draws lower the loss


class Weight(keras.layers.Layer):
    """Adds w in validation, and w - a - b in training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a = kd.layers.LearnedValue(0.0, "identity")
        self.b = kd.layers.LearnedValue(0.0, "identity")

    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer="zeros")

    def call(self, x, training=False):
        if training:
            x = x - self.a.value() - self.b.value()
        return x + self.w


def half_square(y, y_pred):
    return tf.reduce_mean((y_pred - y) ** 2, axis=-1) / 2


def build_model(rates):
    inputs = keras.Input((1,))
    model = kd.DrMADModel(inputs, Weight(name="weight")(inputs))
    model.compile(
        keras.optimizers.SGD(1.0),
        half_square,
        meta_optimizer={k: kd.SignDescent(rate) for k, rate in rates.items()},
        hypergradient=kd.ReverseMode(),
        jit_compile=False,
    )
    return model


def search_in(folder, rates=None, build_model=build_model, **options):
    return kd.MetaRateSearch(
        build_model, rates or WIDE, directory=str(folder), **options
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns a search that came to its end."""
    search = search_in(tmp_path_factory.mktemp("whole"), seed=1)
    search.search(**DATA)
    return search


def test_stops_for_each_hyperparameter_once_the_loss_is_lower(whole):
    search = whole
    tried = {
        name: [d for d in search.draws if d.hyperparameter == name]
        for name in (A, B)
    }
    assert search.draws == tried[A] + tried[B]
    for name, draws in tried.items():
        assert [draw.rate < 2 for draw in draws[:-1]] == [False] * (
            len(draws) - 1
        )
        assert draws[-1].rate < 2
        assert search.rates[name] == draws[-1].rate
    assert len(search.draws) > 3  # some rates failed
    for draw in search.draws:
        assert draw.start_loss == 0.5
        # The other one is held, or it would have moved the loss as well.
        loss = (1 - draw.rate) ** 2 / 2
        np.testing.assert_allclose(draw.val_loss, min(loss, 0.5), rtol=1e-5)
        assert draw.meta_iterations == (2 if draw.rate < 2 else 3)


def test_without_a_lower_loss_takes_the_best_and_warns(tmp_path):
    search = search_in(
        tmp_path, {A: (3.0, 30.0)}, max_trials=3, meta_iterations=2
    )
    with pytest.warns(RuntimeWarning, match="'weight.a' lowered.*0.5.*Try"):
        search.search(**DATA)
    assert len(search.draws) == 3
    assert search.rates == {A: min(draw.rate for draw in search.draws)}


def test_of_rates_that_diverge_takes_the_lowest(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_drmad.training.meta_training.RETREATS", 0)

    # From w = 0, the rate of a linear net's SGD overflows at a factor e^100.
    def diverging(rates):
        return compiled(
            hyperparameters=[kd.hyperparameters.LearningRate()],
            meta_optimizer=kd.SignDescent(rates["learning_rate"]),
        )

    search = search_in(
        tmp_path, {"learning_rate": (100, 150)}, diverging, max_trials=2
    )
    x = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
    y = np.arange(24) % 3
    with pytest.warns(RuntimeWarning) as caught:
        search.search(
            x, y, batch_size=8, epochs=4, validation_data=(x, y), verbose=0
        )
    assert "No rate drawn" in str(caught[-1].message)
    assert [draw.val_loss for draw in search.draws] == [math.inf] * 2
    low = min(draw.rate for draw in search.draws)
    assert search.rates == {"learning_rate": low}


class Values(keras.callbacks.Callback):
    """Keeps the values that each meta-iteration trained with."""

    rows: list = []  # of all copies

    def on_epoch_end(self, epoch, logs=None):
        kinds = self.model.hyperparameters
        self.rows.append({kind.name: float(kind.value()) for kind in kinds})


@pytest.mark.parametrize("is_one", [False, True])
def test_past_the_edge_a_held_rate_stands_and_what_is_tried_moves(
    is_one, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_drmad.training.edge.GROWTH", -1.0)
    monkeypatch.setattr(Values, "rows", [])

    def build(rates):
        one = kd.SignDescent(rates["l2"])
        rate = {"learning_rate": kd.SignDescent(0.25)}
        return compiled(
            hyperparameters=[
                kd.hyperparameters.L2("all", 0.01),
                kd.hyperparameters.LearningRate(),
            ],
            meta_optimizer=one if is_one else {"l2": one} | rate,
            hypergradient=kd.ReverseMode(),
        )

    search = search_in(tmp_path, {"l2": (0.5, 0.6)}, build, max_trials=1)
    x = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
    given = dict(validation_data=(x, np.arange(24) % 3), verbose=0)
    search.search(x, np.arange(24) % 3, callbacks=[Values()], **given)
    first, second, *_ = Values.rows
    factor = second["l2"] / first["l2"]
    np.testing.assert_allclose(abs(np.log(factor)), search.rates["l2"], 1e-4)
    assert len({row["learning_rate"] for row in Values.rows}) == 1


def test_the_global_random_state_stays_as_it_was(tmp_path):
    def drawn():
        return [
            *(random.random(), np.random.rand()),
            *(float(keras.random.normal(())), float(tf.random.normal(()))),
        ]

    keras.utils.set_random_seed(5)
    expected = drawn()
    keras.utils.set_random_seed(5)
    search_in(tmp_path, {A: (0.1, 1.0)}, max_trials=1).search(**DATA)
    assert drawn() == expected


def drawn(search, count=20):
    """Returns the rates of the first trials, all at work at once."""
    trials = [search.oracle.create_trial(f"tuner_{k}") for k in range(count)]
    return [trial.hyperparameters.values for trial in trials]


def test_draws_follow_from_the_seed(tmp_path):
    first, same, other = (
        drawn(search_in(tmp_path / str(k), seed=seed, max_trials=20))
        for k, seed in enumerate((0, 0, 1))
    )
    assert first == same
    assert first != other


def test_draws_are_uniform_in_the_logarithm(tmp_path):
    search = search_in(tmp_path, {A: (0.01, 100.0)}, max_trials=400)
    logs = [np.log10(v[f"{A}/rate"]) for v in drawn(search, 400)]
    assert -2 <= min(logs) < -1.9 and 1.9 < max(logs) <= 2
    # Deviations of a uniform variable of width 4: 1.155; of the mean: 0.06.
    assert abs(np.mean(logs)) < 0.2
    np.testing.assert_allclose(np.std(logs), 4 / math.sqrt(12), rtol=0.1)


def ended(search, trial, change):
    """Ends a trial as a worker does."""
    search.oracle.update_trial(
        trial.trial_id,
        {
            "val_loss_change": change,
            "start_loss": 1.0,
            "val_loss": 1.0 + change,
            "meta_iterations": 2,
        },
    )
    trial.status = "COMPLETED"
    search.oracle.end_trial(trial)


def test_workers_try_different_hyperparameters_first(tmp_path):
    search = search_in(tmp_path, max_trials=2)
    tried = [values["hyperparameter"] for values in drawn(search, 4)]
    assert tried == [A, B, A, B]


def test_what_parallel_workers_find_is_what_one_would(tmp_path):
    search = search_in(tmp_path, {A: (0.1, 1.0)}, max_trials=5)
    trials = [search.oracle.create_trial(f"tuner_{k}") for k in range(3)]
    rates = [trial.hyperparameters.values[f"{A}/rate"] for trial in trials]
    ended(search, trials[2], -0.5)  # the fastest, and the lowest loss
    assert search.oracle.create_trial("tuner_2").status == "STOPPED"
    assert search.rates == {}  # the first draw may still be good enough
    ended(search, trials[0], 0.1)
    assert search.rates == {}
    ended(search, trials[1], -0.1)
    assert search.rates == {A: rates[1]}
    assert [draw.rate for draw in search.draws] == rates


class Killed(Exception):
    pass


def test_goes_on_where_it_was_killed(whole, tmp_path):
    def killed_after(trials):
        left = iter(range(trials))

        def build(rates):
            if next(left, None) is None:
                raise Killed
            return build_model(rates)

        with pytest.raises(Killed):
            search_in(tmp_path, build_model=build, seed=1).search(**DATA)
        done = search_in(tmp_path, seed=1)
        assert done.draws == whole.draws[: len(done.draws)]
        return len(done.draws)

    assert killed_after(0) == 0
    assert killed_after(2) == 2
    rest = search_in(tmp_path, seed=1)
    rest.search(**DATA)
    assert rest.draws == whole.draws
    assert rest.rates == whole.rates
    # Once more: nothing is left to do.
    again = search_in(tmp_path, build_model=lambda rates: None, seed=1)
    again.search(**DATA)
    assert again.rates == whole.rates


def test_goes_on_after_work_in_another_role(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    search = search_in(tmp_path, {A: (0.1, 1.0)})
    ended(search, search.oracle.create_trial("worker"), -0.1)
    found = search.rates
    monkeypatch.delenv("KERASTUNER_TUNER_ID")
    assert search_in(tmp_path, {A: (0.1, 1.0)}).rates == found


def test_other_arguments_in_the_same_folder(tmp_path):
    search_in(tmp_path, {A: (0.1, 1.0)}, max_trials=2).search(**DATA)
    with pytest.raises(ValueError, match="other arguments.*`overwrite=True`"):
        search_in(tmp_path, {A: (0.1, 1.0)}, seed=1)
    search_in(tmp_path, {A: (0.1, 1.0)}, max_trials=3)  # more are fine
    assert not search_in(tmp_path, seed=1, overwrite=True).draws


def test_a_worker_does_not_know_the_rates(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    search = search_in(tmp_path, overwrite=True)
    for ask in (lambda: search.rates, lambda: search.draws):
        with pytest.raises(RuntimeError, match="chief"):
            ask()


# ---- bad arguments


@pytest.mark.parametrize(
    "rates",
    [
        {},
        {A: 0.1},
        {A: (0.1,)},
        {A: (0.0, 1.0)},
        {A: (1.0, 0.1)},
        {A: (0.1, math.inf)},
        {A: ("a", "b")},
        {3: (0.1, 1.0)},
        [(0.1, 1.0)],
    ],
)
def test_wrong_rates(rates, tmp_path):
    with pytest.raises(ValueError) as error:
        kd.MetaRateSearch(build_model, rates, directory=str(tmp_path))
    assert_helps(error, "rates", repr(rates))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kind, options, argument, received",
    [
        (TypeError, {"build_model": "net"}, "build_model", "'net'"),
        (ValueError, {"max_trials": 0}, "max_trials", "0"),
        (ValueError, {"meta_iterations": 1}, "meta_iterations", "1"),
        (TypeError, {"meta_iterations": 2.5}, "meta_iterations", "2.5"),
        (TypeError, {"seed": None}, "seed", "None"),
        (ValueError, {"seed": -1}, "seed", "-1"),
    ],
)
def test_wrong_options(kind, options, argument, received, tmp_path):
    with pytest.raises(kind) as error:
        search_in(tmp_path, **options)
    assert_helps(error, argument, received)


@pytest.mark.parametrize(
    "options, argument",
    [({name: 1}, name) for name in NOT_OF_SEARCH]
    + [({"initial_weights": "continue"}, "initial_weights")],
)
def test_arguments_of_fit_that_are_not_of_search(options, argument, tmp_path):
    with pytest.raises(ValueError) as error:
        search_in(tmp_path).search(**DATA | options)
    assert_helps(error, argument, str(options[argument]))


@pytest.mark.parametrize(
    "kind, build, rates, match",
    [
        (TypeError, lambda rates: linear(), WIDE, "`build_model`.*compiled"),
        (
            ValueError,
            lambda rates: build_model({A: 0.1}),
            {"l2": (0.1, 1.0)},
            r"`rates`.*\['l2'\]",
        ),
        (KeyError, lambda rates: rates["no"], WIDE, "no"),
    ],
)
def test_wrong_models(kind, build, rates, match, tmp_path):
    with pytest.raises(kind, match=match):
        search_in(tmp_path, rates, build).search(**DATA)


def test_wrong_data(tmp_path):
    with pytest.raises(ValueError, match="validation_data"):
        search_in(tmp_path).search(**DATA | {"validation_data": None})


# ---- the extra


def test_without_keras_tuner():
    done = forked(
        "-c",
        "import sys\n"
        "sys.modules['keras_tuner'] = None\n"
        "import keras_drmad as kd\n"
        "from keras_drmad import *\n"
        "kd.MetaRateSearch(None, {})\n",
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert "pip install keras_drmad[tuner]" in last


def test_keras_tuner_is_imported_when_it_is_needed():
    done = forked(
        "-c",
        "import sys, keras_drmad as kd\n"
        "assert 'keras_tuner' not in sys.modules\n"
        "kd.MetaRateSearch\n"
        "assert 'keras_tuner' in sys.modules\n",
    )
    assert done.returncode == 0, done.stderr


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="SuperParameters"):
        kd.SuperParameters  # noqa: B018
