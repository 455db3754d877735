"""The nets of several alphabets, and how much each layer of them shares.

For `studies/omniglot_sharing.py`, in processes of their own: `cell` learns or
fixes how much is shared, trains at last, and returns what that is good for.
"""

import math
import time

import keras
import numpy as np

import keras_drmad as kd
from studies import omniglot
from studies.papers import papers_momentum

# Drawings of each character.
TRAINING, VALIDATION = 10, 2  # and 3 for the test


def matrices(start: str, own_part: float, depths: int, tasks: int):
    """Returns the T of each depth to start from, `(depths, tasks, tasks)`."""
    own = {"separate": [1.0] * depths, "tied": [0.0] + [1.0] * (depths - 1)}
    parts = np.array(own.get(start, [own_part] * depths))[:, None, None]
    return parts * np.eye(tasks) + (1 - parts) / tasks


def towers(counts: list[int], hidden: list[int], scale: float):
    """Returns a model with a net for the characters of each task.

    It takes a drawing of every character of all tasks at a time, `(characters,
    pixels)`; so no task needs padding, whatever the size of its alphabet.
    """
    ops, draw = keras.ops, keras.initializers.RandomNormal
    inputs = keras.Input((sum(counts), 28 * 28))
    ends = np.cumsum([0, *counts])
    outputs = []
    for task, count in enumerate(counts):
        x = ops.reshape(inputs[:, ends[task] : ends[task + 1]], (-1, 28 * 28))
        for depth, units in enumerate([*hidden, omniglot.CLASSES]):
            x = keras.layers.Dense(
                units,
                "tanh" if depth < len(hidden) else None,
                kernel_initializer=draw(stddev=scale),
                bias_initializer=draw(stddev=scale),
                name=f"layer{depth}_task{task}",
            )(x)
        outputs.append(ops.reshape(x, (-1, count, omniglot.CLASSES)))
    return keras.Model(inputs, ops.concatenate(outputs, axis=1))


def method_of(name: str):
    """Returns a method by the name of its cells."""
    if name == "drmad":
        # Of 50 steps, with such large ones at first, a tenth says too little:
        # the hypergradient is less than half as long, and tuning as slow.
        return kd.DrMAD(1.0, average=False)
    return kd.ReverseMode() if name == "reverse" else kd.DrMAD()


def build_model(counts, hidden, T, method, seed, numbers):
    """Returns the towers as a compiled `DrMADModel`.

    Args:
        counts: the characters of each task.
        hidden: units of the hidden layers.
        T: matrices to start from.
        method: its name.
        seed: int, of the weights.
        numbers: dict of the flags that are numbers of the training.
    """
    keras.utils.set_random_seed(seed)
    model = kd.DrMADModel.from_model(
        towers(counts, hidden, math.exp(numbers["log_init_scale"]))
    )
    depths = [f"layer{depth}_.*" for depth in range(len(T))]
    penalty, gamma = math.exp(numbers["log_penalty"]), numbers["momentum"]
    model.compile(
        optimizer=papers_momentum(numbers["learning_rate"], gamma),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        hyperparameters=[
            kd.hyperparameters.WeightSharing(depths, T),
            # A regularizer of Keras would act on w. The bounds keep it fixed.
            kd.hyperparameters.L2(
                initial=penalty,
                biases=True,
                bounds=(penalty, penalty * (1 + 1e-6)),
            ),
        ],
        hypergradient=method_of(method),
        meta_optimizer=keras.optimizers.SGD(numbers["meta_step"]),
        # It takes XLA a minute to compile this, which runs no faster then.
        jit_compile=False,
    )
    return model


def batch(images, drawings, is_sum: bool = False):
    """Returns all images as one batch `(x, y, sample_weight)`.

    Args:
        images: `(n, characters, pixels)`.
        drawings: `Drawings`.
        is_sum: bool, whether the loss is the sum over tasks, which is what the
            papers train by; otherwise the mean, which they report and tune by.
    """
    counts = np.array(drawings.counts)
    weights = counts.sum() / np.repeat(counts, counts).astype("float32")
    weights /= 1 if is_sum else len(counts)
    n = len(images)
    return images, np.tile(drawings.labels, (n, 1)), np.tile(weights, (n, 1))


def fit(model, data, steps: int, **kwargs):
    """Fits to one batch; returns what is logged."""
    x, y, weights = data
    return model.fit(
        x,
        y,
        batch_size=len(x),
        steps_per_epoch=steps,
        sample_weight=weights,
        verbose=0,
        **kwargs,
    ).history


def learn(model, drawings, train, test, seed, steps, meta_iterations):
    """Tunes the matrices; returns what each training reached.

    As in the papers each training has a new split into training and validation
    drawings, and new first weights.
    """
    x, y, weights = batch(test, drawings)
    held_out = kd.callbacks.HeldOut(x, y, sample_weight=weights)
    record = {
        "val_loss": [],
        "test_loss": [],
        "hypergradient_norm": [],
        "T": [],
        "seconds": [],
    }
    for k in range(meta_iterations):
        parts = omniglot.split(train, TRAINING, [seed, k])
        record["T"].append(model.hyperparameters[0].value().numpy())
        begin = time.perf_counter()
        history = fit(
            model,
            batch(parts[0], drawings, is_sum=True),
            steps,
            validation_data=batch(parts[1], drawings),
            meta_iterations=1,
            initial_weights="resample",
            keep="last",  # T goes one step further
            callbacks=[held_out, kd.callbacks.Diagnostics()],
            seed=1000 * seed + k,
        )
        record["seconds"].append(time.perf_counter() - begin)
        for name in ("val_loss", "test_loss", "hypergradient_norm"):
            record[name].append(history[name][0])
    return {name: np.array(rows) for name, rows in record.items()}


def train_at_last(model, data, steps: int) -> None:
    """Trains with the matrices as they are, from the model's weights as z."""
    sharing = model.hyperparameters[0]
    variables = model.trainable_variables
    z = {id(v): v.value for v in variables}
    # Training goes on from weights w, of which it finds z by itself.
    mixed = sharing.weights(sharing.raw.value, z)
    for v in variables:
        v.assign(mixed[id(v)])
    fit(model, data, steps, meta_iterations=0)


def cell(
    way: str,
    is_learned: bool,
    seed: int,
    data_dir: str | None,
    alphabets: list[str],
    hidden: list[int],
    steps: int,
    meta_iterations: int,
    numbers: dict[str, float],
):
    """Returns the matrices of one way to share, and what they are good for."""
    drawings = omniglot.load(data_dir, alphabets, seed)
    train, test = omniglot.split(drawings.images, TRAINING + VALIDATION, [seed])
    T = matrices(way, numbers["own_part"], len(hidden) + 1, len(drawings.tasks))
    found = {}
    if is_learned:
        model = build_model(drawings.counts, hidden, T, way, seed, numbers)
        found = learn(
            model, drawings, train, test, seed, steps, meta_iterations
        )
        T = model.hyperparameters[0].value().numpy()
    # The first z are the same for all ways.
    model = build_model(drawings.counts, hidden, T, way, seed, numbers)
    train_at_last(model, batch(train, drawings, is_sum=True), steps)
    losses = [
        model.evaluate(x, y, sample_weight=weights, verbose=0)
        for x, y, weights in (batch(part, drawings) for part in (train, test))
    ]
    return found | {
        "last_T": T,
        "correlations": model.hyperparameters[0].correlations(),
        "last_train_loss": losses[0],
        "last_test_loss": losses[1],
    }
