"""Continued trainings with wrong labels: is the best state what one gets?

    python -m studies.hold_the_peak --dataset=mnist --data_dir=FOLDER

Data hyper-cleaning on a short leash: a part of the training labels is wrong,
each example has a weight, and each meta-iteration goes on from the weights at
which the last one ended (`initial_weights="continue"`) for T = 10 steps on the
full batch. The best state may come early, and further steps leave it. `fit`
keeps the best by default; `ReduceMetaRateOnPlateau` makes the steps of the
hyperparameters smaller when nothing improves. Beside these: plain trainings of
the same length on all labels as given, and on the clean validation images.

Prints Markdown, and writes a table and a picture of the accuracies on the way.
"""

import math

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags(datasets=["mnist", "digits"], seeds=3)
flags.DEFINE_list("noise", ["30", "50"], "Percent of wrong labels, of each.")
flags.DEFINE_enum("net", "dense", ["dense", "cnn"], "Which small net.")
flags.DEFINE_integer("steps", 10, "T, elementary steps of a training.", 1)
flags.DEFINE_integer("meta_iterations", 200, "Trainings, one step each.", 2)
flags.DEFINE_float("meta_rate", 0.1, "Of Adam, on the weights' logits.", 0)
flags.DEFINE_integer("patience", 5, "Of `ReduceMetaRateOnPlateau`.", 0)
PLAIN, SLOWER = "learned weights", "learned weights, slower on plateaus"
GIVEN, CLEAN = "labels as given", "clean images alone"
CURVES = ("val_loss", "val_accuracy", "test_loss", "test_accuracy")


def net_of(images, kind: str):
    """Returns a new net, 784-50-10, or of three convolutions of 8 channels."""
    import keras

    L = keras.layers
    if kind == "dense":
        x = first = keras.Input((math.prod(images.shape),))
        x = L.Dense(50, "relu")(x)
    else:
        x = first = keras.Input((math.prod(images.shape),))
        x = L.Reshape((*images.shape, 1))(x)
        for _ in range(3):
            x = L.Conv2D(8, 3, 2, "same", activation="relu")(x)
        x = L.Flatten()(x)
    return keras.Model(first, L.Dense(images.classes)(x))


def cell(
    dataset: str,
    data_dir: str | None,
    net: str,
    percent: int,
    seed: int,
    steps: int,
    meta_iterations: int,
    meta_rate: float,
    patience: int,
) -> dict[str, np.ndarray]:
    """Trains in each way.

    Returns:
        Dict with `names` of the ways; `curves`, `(ways, measures,
        meta_iterations)`; and `kept`, `(ways, measures)`, of the model that
        each way leaves.
    """
    import keras

    from examples import datasets

    is_small = dataset == "digits"
    sizes = (300, 300, 397) if is_small else (1000, 1000, 5000)
    images = datasets.load(dataset, data_dir, sizes, seed)
    given, _ = images.with_wrong_labels(percent / 100, seed + 1)
    noisy = images.train[0], given
    found = {}
    for name in (PLAIN, SLOWER):
        found[name] = tuned(
            images,
            noisy,
            net,
            seed,
            steps,
            meta_iterations,
            meta_rate,
            patience if name == SLOWER else None,
        )
    for name, data in ((GIVEN, noisy), (CLEAN, images.validation)):
        keras.utils.set_random_seed(seed)
        found[name] = plainly_trained(
            images, data, net, seed, steps, meta_iterations
        )
    return {
        "names": np.array(list(found)),
        "curves": np.array([curves for curves, _ in found.values()]),
        "kept": np.array([kept for _, kept in found.values()]),
    }


def tuned(images, data, net, seed, steps, meta_iterations, rate, patience):
    """Returns the curves of a tuning, and the scores of the model returned.

    Args:
        images: `datasets.Images`.
        data: images and labels to train on.
        net: str, the net's kind.
        seed: int.
        steps: int, T.
        meta_iterations: int.
        rate: float, of the meta-optimizer at first.
        patience: int, of `ReduceMetaRateOnPlateau`; `None` for no such.
    """
    import keras

    import keras_drmad as kd

    keras.utils.set_random_seed(seed)
    model = kd.DrMADModel.from_model(net_of(images, net))
    model.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        hyperparameters=[kd.hyperparameters.ExampleWeights(len(data[1]))],
        meta_optimizer=keras.optimizers.Adam(rate),
    )
    callbacks = [kd.callbacks.HeldOut(*images.test, batch_size=5000)]
    if patience is not None:
        callbacks.append(
            kd.callbacks.ReduceMetaRateOnPlateau(factor=0.5, patience=patience)
        )
    history = model.fit(
        *data,
        batch_size=len(data[1]),
        steps_per_epoch=steps,
        validation_data=images.validation,
        validation_batch_size=len(images.validation[1]),
        meta_iterations=meta_iterations,
        initial_weights="continue",
        seed=seed,
        callbacks=callbacks,
        verbose=0,
    ).history
    curves = [history[name] for name in CURVES]
    kept = []
    for part in (images.validation, images.test):
        scores = model.evaluate(
            *part, batch_size=5000, verbose=0, return_dict=True
        )
        kept += [scores["loss"], scores["accuracy"]]
    return curves, kept


def plainly_trained(images, data, net, seed, steps, meta_iterations):
    """Returns the curves of a plain training, and the scores at its end."""
    import keras

    from studies.plain_trainer import Trainer

    model = net_of(images, net)
    momentum = keras.optimizers.SGD(0.1, momentum=0.9)
    trainer = Trainer(model, momentum, len(data[1]))
    rows = []
    for k in range(meta_iterations):
        trainer.train(*data, steps, seed + k)
        row = []
        for part in (images.validation, images.test):
            loss, error = trainer.scores(*part)
            row += [loss, 1 - error / 100]
        rows.append(row)
    return np.transpose(rows), rows[-1]


# ---- the table and the picture


def row(noise: str, name: str, found: list) -> dict[str, str]:
    """Returns the row of a way: means and deviations over seeds, in percent."""

    def column(values):
        return study.mean_and_deviation(100 * np.array(values), 1)

    place = found[0]["names"].tolist().index(name)
    curves = np.array([own["curves"][place] for own in found])
    kept = np.array([own["kept"][place] for own in found])
    # On clean images the validation images are what the net is trained on.
    is_known = name != CLEAN
    return {
        "wrong labels, %": noise,
        "way": name,
        "seeds": str(len(found)),
        "best validation accuracy": column(curves[:, 1].max(axis=1))
        if is_known
        else "-",
        "at the last": column(curves[:, 1, -1]) if is_known else "-",
        "of the model returned": column(kept[:, 1]) if is_known else "-",
        "test accuracy: best": column(curves[:, 3].max(axis=1)),
        "test: at the last": column(curves[:, 3, -1]),
        "test: of the model returned": column(kept[:, 3]),
    }


def draw(run, results) -> None:
    """Writes test accuracies on the way, a panel for each part of noise."""
    axes = study.panels(1, len(results), (5.5 * len(results), 4))[0]
    for (noise, found), one in zip(results.items(), axes, strict=True):
        for place, name in enumerate(found[0]["names"].tolist()):
            curves = [100 * own["curves"][place, 3] for own in found]
            for k, curve in enumerate(curves):
                label = name if k == 0 else None
                times = np.arange(1, len(curve) + 1)
                one.plot(times, curve, color=f"C{place}", lw=1, label=label)
            if name in (PLAIN, SLOWER):
                kept = np.mean([100 * own["kept"][place, 3] for own in found])
                label = f"{name}: returned"
                one.axhline(kept, color=f"C{place}", ls=":", label=label)
        one.set_title(f"{noise} % of the labels wrong")
        one.set_ylabel("test accuracy, %")
        study.number_meta_iterations(one)
        one.grid(alpha=0.3)
    study.legend_below(axes[0], 2)
    run.write_figure(axes[0], "test_accuracy")


def main(_):
    common = study.values(
        *("dataset", "data_dir", "net", "steps", "meta_iterations"),
        *("meta_rate", "patience"),
    )
    cells = {
        f"{percent}_seed_{seed}": common | {"percent": percent, "seed": seed}
        for percent in study.whole("noise")
        for seed in range(FLAGS.seeds)
    }
    run = study.begin("hold_the_peak")
    results = study.by_seed(study.run_cells(run, cell, cells))
    rows = [
        row(noise, name, found)
        for noise, found in results.items()
        for name in found[0]["names"].tolist()
    ]
    study.report(run, rows, "hold_the_peak")
    draw(run, results)
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
