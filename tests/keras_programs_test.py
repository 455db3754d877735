"""Programs in plain Keras, of the kinds of keras.io, converted in a few lines."""

import pathlib
import warnings

import keras
import pytest

import keras_drmad as kd

FOLDER = pathlib.Path(__file__).parent / "keras_programs"
IMPORT = ("import keras\n", "import keras\nimport keras_drmad as kd\n")
AUTO = (
    "    metrics=[",
    '    hyperparameters="auto",\n    metrics=[',
)
MODEL = "model = keras.Model(inputs, outputs)\n"
# What is changed in each of them: at most four lines.
CHANGES = {
    "tabular": [
        IMPORT,
        (MODEL, "model = kd.DrMADModel(inputs, outputs)\n"),
        AUTO,
    ],
    "images": [
        IMPORT,
        (
            "model = make_model((12, 12, 3), 2)\n",
            "model = make_model((12, 12, 3), 2)\n"
            "model = kd.DrMADModel.from_model(model, tunable=True)\n",
        ),
        AUTO,
    ],
    "text": [
        IMPORT,
        (
            MODEL,
            MODEL + "model = kd.DrMADModel.from_model(model, tunable=True)\n",
        ),
        AUTO,
    ],
}
# What is tuned: the strengths of layers, beside penalties and rates.
STRENGTHS = {
    "tabular": [],
    "images": ["contrast", "rate", "rotation"],
    "text": ["rate"] * 4,
}


def converted(name):
    """Returns a program before and after the conversion."""
    before = (FOLDER / f"{name}.py").read_text("utf-8")
    after = before
    for old, new in CHANGES[name]:
        assert after.count(old) == 1, old
        after = after.replace(old, new)
    return before, after


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
