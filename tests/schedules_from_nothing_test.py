"""Schedules from nothing beside their rivals, in small."""

import keras
import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    rows_by,
    run_program,
)
from small_nets import one_convolution
from studies import schedules_from_nothing_trainings as trainings
from studies.lenet import lenet

SMALL = (
    "--digits",
    "--seeds=1",
    "--problems=lenet",
    "--starts=from nothing",
    "--steps=20",
    "--knots=3",
    "--meta_iterations=2",
    "--grid=2",
    "--tries=1",
    "--momenta=0.5",
    "--draws=2",
    "--processes=0",
)


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow(
        "studies.schedules_from_nothing", "--steps=1"
    )


@pytest.mark.slow
def test_study_in_small(tmp_path):
    constants = {
        "studies.schedules_from_nothing_trainings.lenet": one_convolution
    }
    run_program(
        "studies.schedules_from_nothing", tmp_path, *SMALL, constants=constants
    )
    folder = tmp_path / "schedules_from_nothing" / "short"
    rows = rows_by(folder / "lenet.csv", "way")
    wider = rows["AdamW, a cosine schedule, grid of momenta"]
    assert wider["steps forward + backward"] == "80 + 0"
    ours = rows["from nothing, SignConsensus()"]
    assert ours["steps forward + backward"] == "40 + 40"
    assert rows["AdamW, a constant rate"]["steps forward + backward"] == (
        "40 + 0"
    )
    untuned = float(rows["from nothing, untuned"]["test loss"].split()[0])
    assert 2.2 < untuned < 2.4  # chance: 2.303
    assert float(ours["test loss"].split()[0]) < untuned
    assert (folder / "figures" / "lenet.png").exists()


@pytest.mark.parametrize("size, weights", [(8, 21_386), (28, 61_706)])
def test_lenet_takes_images_of_digits_and_of_mnist(size, weights):
    net = lenet((size, size, 1), 10)
    assert net.output_shape == (None, 10)
    assert net.count_params() == weights


def test_starts_are_a_hundred_times_off():
    problem = trainings.PROBLEMS["lenet"]
    low = trainings._first_optimizer(problem, "from nothing")
    high = trainings._first_optimizer(problem, "from far above")
    rates = float(low.learning_rate), float(high.learning_rate)
    np.testing.assert_allclose(rates, (problem.rate / 100, problem.rate * 100))
    assert (low.beta_1, high.beta_1) == (0.01, 0.9)
    sgd = trainings._first_optimizer(
        trainings.PROBLEMS["lenet_sgd"], "from nothing"
    )
    assert isinstance(sgd, keras.optimizers.SGD)


def test_chance_stands_for_what_diverged():
    values = np.array([[[0.3, 9.0], [np.nan, np.nan]]])
    found = trainings._with_chance(values, 10)
    np.testing.assert_allclose(found[0], [[0.3, 9.0], [np.log(10), 90.0]])


@pytest.mark.skipif(
    not hasattr(keras.optimizers, trainings.SCHEDULE_FREE),
    reason="Keras has no schedule-free optimizer before 3.14",
)
def test_schedule_free_begins_at_the_weights():
    x, y = np.eye(2, dtype="float32"), np.array([0, 1])
    start = [np.full((2, 2), 0.5), np.full(2, -0.5)]

    def trainer_of(weights):
        net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        net.set_weights(weights)
        optimizer = keras.optimizers.ScheduleFreeAdamW(0.01)
        return trainings.Trainer(net, optimizer, 2)

    new, used = trainer_of(start), trainer_of([2 * w for w in start])
    used.train(x, y, 3, 0)
    for trainer in (new, used):
        trainer.start(start)
        trainings._begin_iterates(trainer)
        trainer.train(x, y, 3, 0)
    for a, b in zip(new.net.get_weights(), used.net.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    used.start(start)  # and without: at other weights
    used.train(x, y, 3, 0)
    assert not np.allclose(used.net.get_weights()[1], a, rtol=1e-3)
