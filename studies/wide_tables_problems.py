"""The nets, and linear models, that a study tunes for wide tables."""

from __future__ import annotations  # TensorFlow waits for good flags

from typing import TYPE_CHECKING, NamedTuple

from examples import tables

if TYPE_CHECKING:
    import keras_drmad as kd


class Problem(NamedTuple):
    """How a table is trained on.

    Attributes:
        hidden: int, units of the hidden layer; 0 for a linear model.
        kind: str, `"L1"` or `"L2"`, of the penalties of the columns.
        initial: float, the penalty at first.
        reach: float, of `SignConsensus`.
        steps: int, T, elementary steps of a training.
        meta_iterations: int, trainings of a tuning.
    """

    hidden: int
    kind: str
    initial: float
    reach: float
    steps: int
    meta_iterations: int


PROBLEMS = {
    "friedman": Problem(32, "L2", 3e-2, 6.0, 800, 40),
    "classes": Problem(32, "L2", 3e-2, 6.0, 800, 40),
    "diabetes": Problem(0, "L1", 1e-1, 3.0, 400, 20),
    "cancer": Problem(0, "L1", 1e-2, 3.0, 400, 20),
    "digits": Problem(32, "L2", 1e-2, 6.0, 800, 40),
}


def model(name: str, kind: str, steps: int) -> kd.DrMADModel:
    """Returns the net of a table with a penalty for each column, compiled.

    The rate of Adam falls to 0 along a cosine: weights come to rest, also those
    that an L1 penalty holds at 0, about which they would hop otherwise, and
    with them hypergradients.

    Args:
        name: of `PROBLEMS`.
        kind: `"L1"` or `"L2"`.
        steps: int, T.
    """
    import keras

    import keras_drmad as kd

    problem, classes = PROBLEMS[name], tables.CLASSES.get(name, 0)
    _, useful, noise = tables.SIZES[name]
    inputs = x = keras.Input((useful + noise,))
    if problem.hidden:
        x = keras.layers.Dense(problem.hidden, "relu", name="first")(x)
    outputs = keras.layers.Dense(max(1, classes), name="last")(x)
    tuned = kd.DrMADModel(inputs, outputs)
    losses = keras.losses
    penalty = getattr(kd.hyperparameters, kind)(
        per="input",
        initial=problem.initial,
        bounds=(1e-6, 10.0),
        layers="first" if problem.hidden else "last",
    )
    tuned.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.01, steps)
        ),
        losses.SparseCategoricalCrossentropy(from_logits=True)
        if classes
        else losses.MeanSquaredError(),
        metrics=["accuracy"] if classes else [],
        hyperparameters=[penalty],
        meta_optimizer=kd.SignConsensus(reach=problem.reach),
        jit_compile=True,
    )
    return tuned
