"""Times a meta-iteration with 100,000 hyperparameters beside one with one.

    python -m benchmarks.many_hyperparameters

The paper's net on all of MNIST (or noise of its shape), DrMAD with T/10
reverse steps: one L2 penalty; one for each weight; one weight for each of the
60,000 examples; and both together. Rounds alternate between the competitors,
and each prints the median of its rounds as a ratio to the first.
"""

import math
import pathlib
import statistics
import time

from absl import app, flags

from benchmarks import data

FLAGS = flags.FLAGS
data.define_flags()
flags.DEFINE_integer("rounds", 5, "How often each competitor runs.", 1)
flags.DEFINE_integer("steps", 2000, "T, the elementary steps.", 10)
flags.DEFINE_integer("hidden", 100, "Units of each hidden layer.", 1)


def arrays():
    """Returns `(x, y)` of 60,000 training and 5,000 validation examples."""
    import numpy as np

    path = pathlib.Path(FLAGS.data_dir or "", "mnist.npz")
    if FLAGS.data_dir and path.exists():
        with np.load(path) as file:
            x = np.concatenate([file["x_train"], file["x_test"][:5000]])
            y = np.concatenate([file["y_train"], file["y_test"][:5000]])
    else:
        random = np.random.default_rng(0)
        x = random.integers(0, 256, (65000, 28, 28))
        y = random.integers(0, 10, 65000)
    x = (x / 255.0).astype("float32").reshape(-1, 784)
    y = y.astype("int32")
    return (x[:60000], y[:60000]), (x[60000:], y[60000:])


def competitors(size: int):
    """Returns functions that make lists of kinds, by name."""
    from keras_drmad.hyperparameters import L2, ExampleWeights

    return {
        "one L2 penalty": lambda: [L2("all")],
        "L2 of each weight": lambda: [L2("weight")],
        "weight of each example": lambda: [ExampleWeights(size)],
        "both": lambda: [L2("weight"), ExampleWeights(size)],
    }


def build(kinds):
    """Returns the compiled net."""
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((784,))
    for _ in range(3):
        x = keras.layers.Dense(FLAGS.hidden, "tanh")(x)
    model = kd.DrMADModel(inputs, keras.layers.Dense(10)(x))
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=kinds,
    )
    return model


def seconds(model, training, validation) -> float:
    """Returns the time of one meta-iteration."""
    begin = time.perf_counter()
    model.fit(
        *training,
        batch_size=50,
        steps_per_epoch=FLAGS.steps,
        validation_data=validation,
        validation_batch_size=1000,
        meta_iterations=1,
        keep="last",
        seed=0,
        verbose=0,
    )
    return time.perf_counter() - begin


def main(_):
    training, validation = arrays()
    models = {
        name: build(make())
        for name, make in competitors(len(training[0])).items()
    }
    for model in models.values():
        seconds(model, training, validation)  # compiles
    rounds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(FLAGS.rounds):
        for name, model in models.items():
            rounds[name].append(seconds(model, training, validation))
    first, *_ = rounds.values()
    print(f"{'tuned':26}{'how many':>10}{'seconds':>10}{'ratio':>8}")
    for name, model in models.items():
        count = sum(math.prod(h.raw.shape) for h in model.hyperparameters)
        ratios = [a / b for a, b in zip(rounds[name], first, strict=True)]
        print(
            f"{name:26}{count:10,}{statistics.median(rounds[name]):10.2f}"
            f"{statistics.median(ratios):8.2f}"
        )


if __name__ == "__main__":
    app.run(main)
