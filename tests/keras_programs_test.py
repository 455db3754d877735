"""Programs in plain Keras, of kinds that keras.io has, converted by lines."""

import warnings

import keras
import pytest

import keras_drmad as kd
from tests.keras_programs.changes import CHANGES, converted

# What is tuned: the strengths of layers, beside penalties and rates.
STRENGTHS = {
    "tabular": [],
    "images": ["contrast", "rate", "rotation"],
    "text": ["rate"] * 4,
}


def run(source):
    """Runs a program, whose layers are named from the beginning."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    names = {"__name__": "program"}
    with warnings.catch_warnings():
        # Keras itself says so of any data set, as `shuffle` is True.
        warnings.filterwarnings("ignore", "`shuffle=True` was passed")
        exec(compile(source, "program", "exec"), names)
    return names["model"]


@pytest.mark.parametrize("name", CHANGES)
def test_a_program_of_keras_is_converted_in_four_lines(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    before, after = converted(name)
    own = set(before.splitlines())
    changed = [line for line in after.splitlines() if line not in own]
    assert 0 < len(changed) <= 4
    run(before)
    assert "Epoch 1/2" in capsys.readouterr().out
    short = after.replace("epochs=2,\n", "epochs=2,\n    meta_iterations=2,\n")
    model = run(short)
    assert "Training 2/2" in capsys.readouterr().out
    assert isinstance(model, kd.DrMADModel)
    names = [h.name for h in model.hyperparameters]
    assert names[:2] == ["l2", "learning_rate"]
    found = sorted(name.split(".")[1] for name in names[2:])
    assert found == STRENGTHS[name]
    assert set(model.history.history) >= {"loss", "val_loss", "l2/mean"}
    if name == "images":  # as many files as trainings
        files = sorted(tmp_path.glob("at_*.keras"))
        assert [f.stem for f in files] == ["at_1", "at_2"]
