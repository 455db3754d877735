"""Which lines change where programs in plain Keras tune hyperparameters."""

import pathlib

FOLDER = pathlib.Path(__file__).parent
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


def converted(name):
    """Returns a program before and after the conversion."""
    before = (FOLDER / f"{name}.py").read_text("utf-8")
    after = before
    for old, new in CHANGES[name]:
        assert after.count(old) == 1, old
        after = after.replace(old, new)
    return before, after
