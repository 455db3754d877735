"""A `fit` that crashed and goes on from its backup."""

import keras
import pytest

import keras_drmad as kd
from small_models import (
    At,
    assert_same,
    compiled,
    fit,
    hidden,
    numbers,
    put_back,
)


class Crash(Exception):
    pass


def crash():
    raise Crash


def with_all_kinds_of_state():
    return compiled(
        hidden(dropout=0.3),
        hyperparameters=[
            kd.hyperparameters.L2(per="input", initial=1e-2),
            kd.hyperparameters.LearningRate(),
        ],
        meta_optimizer=keras.optimizers.Adam(0.3),
    )


@pytest.fixture(scope="module")
def pair():
    return with_all_kinds_of_state(), with_all_kinds_of_state()


@pytest.mark.parametrize("policy", ["same", "continue", "resample"])
@pytest.mark.parametrize("crashes", ["after 0", "after 2", "within 3"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    pair, policy, crashes, tmp_path
):
    within, epoch = "within" in crashes, int(crashes[-1])
    often = {"save_freq": 1} if within else {}
    model, resumed = pair
    new = numbers(with_all_kinds_of_state())
    options = dict(meta_iterations=5, initial_weights=policy, seed=3)

    put_back(model, new)
    backup = keras.callbacks.BackupAndRestore(tmp_path, **often)
    with pytest.raises(Crash):
        fit(model, **options, callbacks=[backup, At(epoch, crash, within)])
    put_back(model, new)
    whole = fit(model, **options)

    # Another model, with other weights, that has nothing but the files.
    put_back(resumed, new)
    for weight in resumed.trainable_variables:
        weight.assign(weight + 1.0)
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    rest = fit(resumed, **options, callbacks=[backup])

    assert rest == whole
    assert_same(numbers(resumed), numbers(model))
    again = fit(resumed, **options)  # resumes nothing
    assert len(again["loss"]) == 5


def test_a_resumed_run_says_so(tmp_path, capsys):
    model = compiled()
    with pytest.raises(Crash):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        fit(model, callbacks=[backup, At(1, crash)], verbose=2)
    assert "Goes on" not in capsys.readouterr().out
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    fit(model, callbacks=[backup], verbose=2)
    said = capsys.readouterr().out
    assert f"Goes on from the backup in '{tmp_path / 'backup'}'\n" in said
    fit(model, verbose=2)  # resumes nothing
    assert "Goes on" not in capsys.readouterr().out


def test_a_backup_within_the_first_training_begins_anew(tmp_path):
    model = compiled()

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path, save_freq=1)

    before = numbers(model)
    with pytest.raises(Crash):
        fit(model, callbacks=[backup(), At(0, crash, within=True)])
    whole = fit(model)
    put_back(model, before)
    assert fit(model, callbacks=[backup()]) == whole
