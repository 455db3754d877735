"""`hyperparameters="auto"`, and what the summary says."""

import keras
import pytest
import tensorflow as tf

import keras_drmad as kd
from closed_forms import tanh_net
from keras_drmad import hyperparameters as kinds
from keras_drmad.hyperparameter_summary import POSSIBLE
from small_models import VALIDATION, X, Y, compiled, cross_entropy, hidden


def kinds_of(model):
    return {h.name: tuple(h.raw.shape) for h in model.hyperparameters}


@pytest.mark.parametrize(
    "optimizer, expected",
    [
        ("sgd", {"l2": (2,), "learning_rate": (2,)}),
        (
            "adamw",
            {"l2": (2,), "learning_rate": (2,), "weight_decay": (2,)},
        ),
        ("lion", {"learning_rate": (2,)}),
    ],
)
def test_auto_takes_what_the_optimizer_has(optimizer, expected):
    model = compiled(hidden(), hyperparameters="auto", optimizer=optimizer)
    assert kinds_of(model) == expected


def test_auto_leaves_out_layers_without_a_kernel():
    x = inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="a")(x)
    x = keras.layers.BatchNormalization()(x)
    net = keras.Model(inputs, keras.layers.Dense(3, name="b")(x))
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model = compiled(
        net,
        hyperparameters="auto",
        optimizer=keras.optimizers.SGD(schedule),
        hypergradient=kd.DrMAD(),
    )
    assert kinds_of(model) == {"l2": (2,), "learning_rate": (2,)}
    assert model.hyperparameters[1].bounds == (0.01, 100.0)
    assert repr(model.method) == "DrMAD()"


def test_auto_is_printed_before_training(capsys):
    model = compiled(
        hidden(), hyperparameters="auto", meta_optimizer=kd.SignDescent(0.1)
    )
    model.fit(X, Y, validation_data=VALIDATION, meta_iterations=1, verbose=2)
    printed = capsys.readouterr().out
    table, training = printed.split("1/1", 1)[0], printed
    assert "l2 (L2)" in table and "learning_rate (LearningRate)" in table
    assert "Tuned by gradient: 4" in table
    assert "Within reach of 1 meta-iteration, at most" in table
    assert "val_loss" in training
    model.fit(X, Y, validation_data=VALIDATION, meta_iterations=1, verbose=2)
    assert "l2 (L2)" not in capsys.readouterr().out  # was said
    model._has_suggested = True
    often = dict(validation_data=VALIDATION, epochs=3, batch_size=12)
    model.fit(X, Y, **often, tune_every=1, verbose=2)
    assert "Within reach of 6 meta-iterations" in capsys.readouterr().out


def test_auto_is_saved_with_its_values(tmp_path):
    model = compiled(hidden(), hyperparameters="auto")
    model.fit(X, Y, validation_data=VALIDATION, meta_iterations=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for h, other in zip(
        model.hyperparameters, loaded.hyperparameters, strict=True
    ):
        assert h.value().numpy().tolist() == other.value().numpy().tolist()


def summary_of(**options):
    model = compiled(
        keras.Model(*tanh_net()), **{"loss": cross_entropy()} | options
    )
    text: list[str] = []
    model.hyperparameter_summary(print_fn=text.append)
    return "\n".join(text)


def test_summary_has_shape_count_values_and_bounds():
    text = summary_of(
        hyperparameters=[
            kinds.L2("input", 0.25),
            kinds.LearningRate(initial=0.5, bounds=(0.1, 1.0)),
        ]
    )
    rows = {line.split(" ")[0]: line.split() for line in text.splitlines()}
    assert rows["l2"] == ["l2", "(L2)", "(7,)", "7", "0.25", "0,", "inf"]
    assert rows["learning_rate"][2:] == ["()", "1", "0.5", "0.1,", "1"]
    assert "Tuned by gradient: 8" in text


def moved_by(meta_optimizer):
    """Returns the summary for a meta-optimizer and bounded penalties."""
    hyperparameters = [
        kinds.L2("input", 1e-2, bounds=(1e-6, 10.0)),
        kinds.LearningRate(initial=0.1),
    ]
    return summary_of(
        hyperparameters=hyperparameters, meta_optimizer=meta_optimizer
    )


def below(head, text):
    """Returns the lines under a head, by the names of hyperparameters."""
    lines = text.partition(head)[2].splitlines()[1:]
    words = [line.strip().partition(": ") for line in lines]
    return {name: value for name, _, value in reversed(words)}


def test_summary_says_how_far_values_can_get():
    found = below(
        "Within reach of 20 meta-iterations",
        moved_by(kd.SignDescent(0.1)),
    )
    # Two steps on the scale of logarithms.
    assert found["l2"].startswith("0.0014 to 0.074. WARNING: that is 25% of")
    assert found["learning_rate"] == "0.014 to 0.74."
    found = below(
        "Within reach of 20 meta-iterations",
        moved_by(kd.SignConsensus()),
    )
    assert found["l2"] == "1e-06 to 10."
    # A single entry has steps alone: 20 · 0.3.
    assert found["learning_rate"] == "0.00025 to 40."


def test_summary_of_what_other_optimizers_move():
    text = moved_by({"l2": "adam"})
    assert "Within reach" not in text and "Certainty" not in text


def test_summary_says_how_certain_signs_were():
    model = compiled(meta_optimizer=kd.SignConsensus())
    raw = model.hyperparameters[0].raw
    for signs in ([1, 1, 1, 1], [1, -1, 1, 0], [1, -1, -1, 0], [1, 1, 0, 0]):
        gradient = tf.constant(signs, "float32")
        model.meta_optimizer.apply([gradient], [raw])
    text: list[str] = []
    model.hyperparameter_summary(print_fn=text.append)
    # Certainties are 1, 0, 1/3, 1.
    assert below("Certainty of the gradients' signs", text[0])["l2"] == (
        "median 0.67, above 0.5 for 50% of the entries, by up to 4 gradients."
    )
    assert max(map(len, text[0].splitlines())) <= 104


@pytest.mark.parametrize("make", POSSIBLE)
def test_a_check_changes_nothing(make):
    model = keras.Model(*tanh_net())
    model.compile("adamw", loss=cross_entropy())
    kind = make()
    before = dict(vars(kind))
    if make is kinds.LossWeights:
        with pytest.raises(ValueError, match="needs .* several outputs"):
            kind.check(model, model.optimizer)
    else:
        kind.check(model, model.optimizer)
    assert vars(kind) == before
    assert kind.raw is None


@pytest.mark.parametrize(
    "options, refused, allowed",
    [
        (
            {"optimizer": "adam"},
            {"WeightDecay", "LossWeights"},
            {"Momentum", "LabelSmoothing"},
        ),
        (
            {"optimizer": "adamw", "hypergradient": kd.OneStep()},
            {"LearningRate", "WeightDecay", "InitialScale"},
            {"LabelSmoothing", "Temperature"},
        ),
        (
            {"optimizer": "sgd", "loss": "mse"},
            {"Momentum", "LabelSmoothing", "Temperature"},
            {"InitialScale"},
        ),
    ],
)
def test_summary_says_what_cannot_be_tuned_and_why(options, refused, allowed):
    text = summary_of(hyperparameters=[kinds.L2()], **options)
    _, _, below = text.partition("Can't be tuned here:")
    for name in refused:
        assert f"   {name}: The " in below
    assert "Received" not in below and "Invalid" not in below
    for name in allowed:
        assert f"   {name}: " not in below
