"""Draws DrMAD on two hyperparameters: a curve, and a line.

Logistic regression on two features of scikit-learn's breast cancer data has two
elementary parameters w, and an L2 penalty for each of them is two
hyperparameters: so all that DrMAD does can be seen. Of two meta-iterations the
program draws the training's way from w_0 to w_T over the training loss, and the
line along which DrMAD walks backward; and both steps over the validation loss
as a function of the penalties, with the exact hypergradient beside DrMAD's and
beside that with a tenth of the reverse steps, as in the paper's code. With so
few steps on so short a training its direction depends on where the line starts,
and may be opposite to the exact one.

Every number comes from trainings by the package (the paper's figure of this is
a sketch).

    python -m studies.two_hyperparameters
"""

import numpy as np
from absl import app, flags

from studies import study

FLAGS = flags.FLAGS
study.define_flags()

flags.DEFINE_list("features", ["mean radius", "mean texture"], "Two of them.")
flags.DEFINE_integer("train_size", 40, "Training examples.", 1)
flags.DEFINE_integer("validation_size", 200, "Validation examples.", 1)
flags.DEFINE_integer("steps", 100, "T, elementary steps.", 1)
flags.DEFINE_float(
    "reverse_steps", 1.0, "R of the meta-steps, a fraction of T.", 0, 1
)
flags.DEFINE_float("learning_rate", 0.2, "Of SGD, on all the data.", 0)
flags.DEFINE_float("momentum", 0.9, "Of SGD.", 0, 1)
flags.DEFINE_multi_float("first_weights", [1.0, -6.0], "w_0, two numbers.")
flags.DEFINE_multi_float(
    "log_penalties", [-3.0, -7.0], "Logarithms of the two penalties at first."
)
flags.DEFINE_float("meta_rate", 20.0, "Of gradient descent on them.", 0)
flags.DEFINE_integer("points", 21, "Values of each penalty on the surface.", 2)
flags.DEFINE_integer("seed", 0, "Of the choice of examples.", 0)

META_ITERATIONS = 2
SETTINGS = (
    "features",
    "train_size",
    "validation_size",
    "steps",
    "reverse_steps",
    "learning_rate",
    "momentum",
    "first_weights",
    "log_penalties",
    "meta_rate",
    "seed",
)


def load(features, train_size, validation_size, seed):
    """Returns training and validation data `(x, y)`, x with unit variance."""
    from sklearn import datasets

    data = datasets.load_breast_cancer()
    names = [str(name) for name in data.feature_names]
    x = data.data[:, [names.index(feature) for feature in features]]
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")
    y = data.target[:, None].astype("float32")
    order = np.random.default_rng(seed).permutation(len(x))
    train = order[:train_size]
    validation = order[train_size : train_size + validation_size]
    return (x[train], y[train]), (x[validation], y[validation])


def loss_at(weights, x, y):
    """Returns the mean cross-entropy at weights `(..., 2)`, by its formula."""
    logits = weights @ x.T
    return np.mean(np.logaddexp(0, logits) - y[:, 0] * logits, axis=-1)


class Problem:
    """The data, and trainings on them from the same first weights."""

    def __init__(self, settings):
        self.settings = settings
        names = ("features", "train_size", "validation_size", "seed")
        self.train, self.validation = load(*(settings[k] for k in names))
        steps = {"steps_per_epoch": settings["steps"]}
        self.training = {
            "x": self.train[0],
            "y": self.train[1],
            "batch_size": settings["train_size"],  # all examples in each step
            "validation_data": self.validation,
            "shuffle": False,
        } | steps

    def model(self, method=None, log_penalties=None):
        """Returns a new model, at the first weights."""
        import keras

        import keras_drmad as kd

        given = self.settings
        inputs = keras.Input((2,))
        outputs = keras.layers.Dense(1, use_bias=False)(inputs)
        model = kd.DrMADModel(inputs, outputs)
        model.set_weights([np.array(given["first_weights"])[:, None]])
        model.compile(
            optimizer=keras.optimizers.SGD(
                given["learning_rate"], given["momentum"]
            ),
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
            hyperparameters=[kd.hyperparameters.L2("input")],
            hypergradient=method or self.drmad(),
            meta_optimizer=keras.optimizers.SGD(given["meta_rate"]),
        )
        if log_penalties is None:
            log_penalties = given["log_penalties"]
        model.hyperparameters[0].raw.assign(log_penalties)
        return model

    def drmad(self, part=None):
        """Returns DrMAD as in the paper: its line goes from w_0 to w_T."""
        from studies.papers import drmad_of_paper

        return drmad_of_paper(part or self.settings["reverse_steps"])

    def way_forward(self, log_penalties):
        """Returns the weights w_0 ... w_T of a training, `(T + 1, 2)`."""
        import keras

        model = self.model(log_penalties=log_penalties)
        way = [model.get_weights()[0][:, 0]]

        def record(epoch, logs):
            way.append(model.get_weights()[0][:, 0])

        model.fit(
            **self.training | {"steps_per_epoch": 1, "validation_data": None},
            epochs=self.settings["steps"],
            meta_iterations=0,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=record)],
        )
        return np.stack(way)

    def way_backward(self, w_0, w_T):
        """Returns the places that DrMAD visits, `(R, 2)`, the first one last.

        As `differentiation.line` has them: w(β) at β = t / T.
        """
        T = self.settings["steps"]
        beta = iterations(self.drmad(), T)[::-1, None] / T
        return (1 - beta) * w_0 + beta * w_T


def iterations(method, T: int) -> np.ndarray:
    """Returns the iterations of T that a method walks backward."""
    from keras_drmad.core.span import Span

    return method.bind(T, None).iterations(Span(0, T))


def meta_training(**settings):
    """Runs the meta-iterations; returns what happened in each."""
    import keras

    import keras_drmad as kd

    problem = Problem(settings)
    model = problem.model()
    ends, raws = [], []

    def record(epoch, logs):
        weights = model.start_weights + model.end_weights
        ends.append([w.numpy()[:, 0] for w in weights])
        raws.append(model.hyperparameters[0].raw.numpy())

    history = model.fit(
        **problem.training,
        meta_iterations=META_ITERATIONS,
        initial_weights="same",
        keep="last",
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=record)],
    ).history
    reached = [*raws, model.hyperparameters[0].raw.numpy()]

    def gradients(method):
        return np.stack(
            [
                problem.model(method, raw)
                .hypergradient(**problem.training)
                .gradients["l2"]
                for raw in raws
            ]
        )

    return {
        "log_penalties": np.stack(reached),
        "val_loss": history["val_loss"],
        "ends": np.array(ends),
        "way_forward": np.stack([problem.way_forward(raw) for raw in raws]),
        "way_backward": np.stack(
            [problem.way_backward(*pair) for pair in ends]
        ),
        "drmad": gradients(problem.drmad()),
        "tenth": gradients(problem.drmad(0.1)),
        "exact": gradients(kd.ReverseMode()),
    }


def surface(points, **settings):
    """Returns the validation loss after training, on a grid of penalties."""
    problem = Problem(settings)
    model = problem.model()
    places = np.linspace(-9, 0, points)
    losses = np.empty((points, points))
    for (i, j), _ in np.ndenumerate(losses):
        model.hyperparameters[0].raw.assign([places[j], places[i]])
        losses[i, j] = model.validation_loss_after(**problem.training)
    return {"places": places, "losses": losses}


def draw_weights(axes, problem, found, k):
    """Draws both ways of a meta-iteration over its training loss."""
    from scipy import optimize

    forward, backward = found["way_forward"][k], found["way_backward"][k]
    best = optimize.minimize(loss_at, np.zeros(2), problem.validation).x
    shown = np.concatenate([found["way_forward"].reshape(-1, 2), best[None]])
    low, high = shown.min(axis=0), shown.max(axis=0)
    room = 0.12 * (high - low)
    grid = np.meshgrid(*np.linspace(low - room, high + room, 80).T)
    weights = np.stack(grid, axis=-1)
    penalties = np.exp(found["log_penalties"][k])
    loss = loss_at(weights, *problem.train) + weights**2 @ penalties
    levels = np.geomspace(loss.min() * 1.002, loss.max(), 16)
    axes.contour(*grid, loss, levels, colors="0.75", linewidths=0.7)
    axes.plot(*forward.T, ".-", color="C0", ms=3, lw=1, label="way forward")
    axes.plot(*forward[[0, -1]].T, "--", color="C1", lw=1)
    axes.plot(*backward.T, "o", color="C1", ms=2.5, label="way backward")
    axes.plot(*best, "*", color="C2", ms=11, label="best for validation")
    for w, name in zip(forward[[0, -1]], ("$w_0$", "$w_T$"), strict=True):
        axes.plot(*w, "ks", ms=4)
        axes.annotate(
            name, w, xytext=(6, 6), textcoords="offset points", fontsize=12
        )
    axes.set_title(f"meta-iteration {k + 1}: training loss", fontsize="medium")
    names = problem.settings["features"]
    axes.set_xlabel(f"weight of {names[0]}")
    axes.set_ylabel(f"weight of {names[1]}")


def draw_penalties(axes, problem, found, validation):
    """Draws the steps over the validation loss, with both hypergradients."""
    filled = axes.contourf(
        validation["places"], validation["places"], validation["losses"], 20
    )
    axes.figure.colorbar(filled, ax=axes, label="validation loss (nats)")
    steps = found["log_penalties"]
    axes.plot(*steps.T, "o-", color="white", mec="black", label="meta-steps")
    arrows = {
        "exact": ("red", "exact"),
        "tenth": ("0.8", "DrMAD, R = T / 10"),
        "drmad": ("C1", f"DrMAD, R = {len(found['way_backward'][0])}"),
    }
    for name, (color, label) in arrows.items():
        down = -found[name]
        down /= np.linalg.norm(down, axis=1, keepdims=True)
        axes.quiver(
            *steps[:-1].T,
            *down.T,
            color=color,
            angles="xy",
            scale_units="xy",
            scale=0.7,
            width=0.008,
            zorder=3,
            label=label,
        )
    axes.set_title(
        "validation loss after training; arrows of one length show directions",
        fontsize="medium",
    )
    names = problem.settings["features"]
    axes.set_xlabel(f"log L2 of {names[0]}")
    axes.set_ylabel(f"log L2 of {names[1]}")


def draw(run, problem, found, validation):
    """Writes the picture."""
    (panels,) = study.panels(1, 3, (14, 4.8))
    for k in range(META_ITERATIONS):
        draw_weights(panels[k], problem, found, k)
    draw_penalties(panels[2], problem, found, validation)
    for axes in panels[1:]:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=9
        )
    T, R = problem.settings["steps"], len(found["way_backward"][0])
    panels[0].figure.suptitle(
        f"Two meta-iterations of DrMAD: {T} steps forward, {R} backward along "
        "the line"
    )
    run.write_figure(panels[0], "two_hyperparameters")


def rows_of(found) -> list[dict]:
    """Returns what is to be said of each meta-iteration."""
    rows = []
    for k in range(META_ITERATIONS):
        names = ("way_forward", "tenth", "drmad", "exact")
        forward, *slopes = (found[name][k] for name in names)
        norms = np.linalg.norm(slopes, axis=1)
        cosines = [study.cosine(slope, slopes[-1]) for slope in slopes]
        length = np.linalg.norm(np.diff(forward, axis=0), axis=1).sum()
        line = np.linalg.norm(forward[-1] - forward[0])
        numbers = {
            "log L2 of 1": found["log_penalties"][k, 0],
            "log L2 of 2": found["log_penalties"][k, 1],
            "val_loss": found["val_loss"][k],
            "way / line": length / line,
            "exact norm": norms[2],
            "DrMAD's norm": norms[1],
            "cosine for R = T/10": cosines[0],
            "DrMAD's cosine": cosines[1],
        }
        rows.append(
            {"meta-iteration": k + 1}
            | {name: f"{number:.4f}" for name, number in numbers.items()}
        )
    return rows


def main(_):
    run = study.begin("two_hyperparameters")
    settings = study.values(*SETTINGS)
    found = study.run_cells(run, meta_training, {"meta_training": settings})
    settings_of_surface = settings | {"points": FLAGS.points}
    grid = study.run_cells(run, surface, {"surface": settings_of_surface})
    draw(run, Problem(settings), found["meta_training"], grid["surface"])
    study.report(run, rows_of(found["meta_training"]), "results")
    print(f"Kept in {run.folder}")


if __name__ == "__main__":
    app.run(main)
