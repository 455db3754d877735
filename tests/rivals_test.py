"""What is learned beside its rivals, in small."""

import keras
import numpy as np
import pytest

from running import (
    assert_flag_is_refused_without_tensorflow,
    rows_by,
    run_program,
)
from small_nets import convolved, one_hidden
from studies import plain_trainer, rivals_schedule

SMALL = (
    "--dataset=digits",
    "--seeds=1",
    "--draws=2",
    "--steps=10",
    "--longer=2",
    "--meta_iterations=2,1,1",
    "--processes=0",
)


def test_flags_are_answered_without_tensorflow():
    assert_flag_is_refused_without_tensorflow("studies.rivals", "--draws=1")


@pytest.mark.slow
def test_study_in_small(tmp_path):
    # A way with each optimizer, with each decay, and both kinds of weights.
    grids = {
        way: (how, rates[:2])
        for way, (how, rates) in rivals_schedule.GRIDS.items()
        if way.endswith(("first weights", "Adam, cosine decay"))
    }
    constants = {
        "studies.rivals_augmentation.FACTORS": (0.5,),
        "studies.rivals_augmentation.small_cnn": convolved,
        "studies.rivals_noisy_labels.RULES": {"plain": None, "ours": 3.0},
        "studies.rivals_schedule.GRIDS": grids,
        "studies.rivals_schedule.MOMENTA": (None, 0.9),
        "studies.rivals_schedule.tanh_net": one_hidden,
    }
    out = run_program("studies.rivals", tmp_path, *SMALL, constants=constants)
    assert "0 of 3 parts are there" in out
    folder = tmp_path / "rivals" / "short"
    rows = {}
    for experiment in ("noisy_labels", "schedule", "augmentation"):
        rows[experiment] = rows_by(folder / f"{experiment}.csv", "way")
    assert len(rows["noisy_labels"]) == 10
    assert len(rows["schedule"]) == len(rows["augmentation"]) == 5
    area = float(
        rows["noisy_labels"]["kept by 2 clean nets"]["area"].split()[0]
    )
    assert area > 0.6  # chance: 0.5 ± 0.02
    with np.load(folder / "results" / "schedule_0.npz") as arrays:
        values = arrays["values"]
    assert values.shape == (5, 2, 3)
    assert np.isfinite(values).all()
    assert (folder / "figures" / "rivals.png").exists()


def test_trainer_is_keras_training_with_the_same_batches():
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 4)).astype("float32")
    y = random.integers(0, 3, 30)
    weights = random.uniform(0.5, 1.5, 30)
    layers = [keras.Input((4,)), keras.layers.Dense(3)]
    net, other = keras.Sequential(layers), keras.Sequential(layers)
    start = net.get_weights()
    trainer = plain_trainer.Trainer(net, keras.optimizers.Adam(0.1), 10)
    trainer.train(x, y, 4, 0)  # leaves slots that `start` has to clear
    trainer.start(start)
    trainer.train(x, y, 4, 7, weights)
    ours = net.get_weights()
    other.set_weights(start)
    other.compile(
        keras.optimizers.Adam(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    for rows in plain_trainer.order(30, 10, 4, 7):
        other.train_on_batch(x[rows], y[rows], weights[rows])
    for a, b in zip(ours, other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_rates_are_those_given():
    x, y = np.eye(2, dtype="float32"), np.array([0, 1])
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    start = net.get_weights()
    trainer = plain_trainer.Trainer(net, keras.optimizers.SGD(0.5), 2)
    trainer.start(start)
    trainer.train(x, y, 2, 0, rates=[0.0, 0.0])
    np.testing.assert_array_equal(net.get_weights()[0], start[0])
    trainer.train(x, y, 1, 0)  # the optimizer's own again
    assert not np.allclose(net.get_weights()[0], start[0])


def test_examples_come_once_before_any_comes_again():
    rows = plain_trainer.order(count=10, batch_size=5, steps=5, seed=0)
    for first in (rows[:2], rows[2:4]):
        assert sorted(first.ravel()) == list(range(10))
    assert rows.shape == (5, 5)


def test_shape_of_rates():
    constant = rivals_schedule.shape_of_rates(10, False, 0.0)
    np.testing.assert_allclose(constant, 1)
    rates = rivals_schedule.shape_of_rates(100, True, 0.2)
    assert rates.argmax() in (19, 20)
    np.testing.assert_allclose(np.diff(rates[:19]), 0.05)  # 0.01 / 0.2
    assert rates[-1] < 0.001
