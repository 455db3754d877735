"""Pictures of a tuned model, and the page: they show what is there."""

import builtins
import html.parser
import io
import re

import keras
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

import keras_drmad as kd
import small_models
from closed_forms import exact_model, tanh_net
from keras_drmad import plots
from keras_drmad.plots import scales
from keras_drmad.plots.page import Page
from small_models import as_if_tuned

mpl.use("Agg")
kinds = kd.hyperparameters
N = 20
X = np.random.default_rng(0).uniform(size=(N, 4))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def unpainted(monkeypatch):
    """Pictures of a page are made, but not painted, where words are read."""

    def nothing(self, file, **options):
        file.write(b"")

    monkeypatch.setattr(mpl.figure.Figure, "savefig", nothing)


def tuned(*hyperparameters, net=None):
    small_models.reseed()
    model = exact_model(
        net or tanh_net(),
        list(hyperparameters),
        keras.optimizers.SGD(0.1, momentum=0.5),
        loss=small_models.cross_entropy(),
    )
    return as_if_tuned(model)


def ends(model, k=0):
    """Returns the values at the start and now of a hyperparameter."""
    kind = model.hyperparameters[k]
    start = kind.transform.value(model.untuned[k]).numpy()
    return start, kind.value().numpy()


def of_label(axes, label):
    return next(x for x in axes.lines if x.get_label() == label)


# ---- a form each


def test_single_numbers_are_bars_from_start_to_end():
    model = tuned(kinds.L2("layer", 0.01))
    (axes,) = plots.values(model).axes
    start, end = ends(model)
    bars = [line for line in axes.lines if line.get_linewidth() == 7]
    drawn = np.array([line.get_xdata() for line in bars])
    np.testing.assert_allclose(drawn, np.stack([start, end], 1))
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["a/kernel", "b/kernel"]
    assert axes.get_xscale() == "log"


def test_a_tiny_move_looks_tiny():
    model = tuned(kinds.L2("all", 0.01))
    model.hyperparameters[0].assign(0.01001)
    (axes,) = plots.values(model).axes
    low, high = axes.get_xlim()
    assert high / low > 1.3


def test_schedules_are_curves_over_the_steps():
    rate = kinds.LearningRate("layer", schedule="step", steps=6)
    model = tuned(rate)
    (axes,) = plots.values(model).axes
    _, end = ends(model)
    for k, layer in enumerate("ab"):
        line = of_label(axes, layer)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(6))
        np.testing.assert_allclose(line.get_ydata(), end[:, k])
    np.testing.assert_allclose(of_label(axes, "start").get_ydata(), 0.1)


def test_knots_are_where_the_training_has_them():
    momentum = kinds.Momentum("all", schedule="piecewise", knots=3)
    model = tuned(momentum)
    momentum.prepare(kinds.base.Training(101, None, None))
    (axes,) = plots.values(model).axes
    line = of_label(axes, "all layers")
    np.testing.assert_allclose(line.get_xdata(), [0, 50, 100])


def test_one_number_for_each_pixel_is_an_image():
    model = tuned(kinds.L2("input", 0.01, layers="a"))
    figure = plots.values(model, shape=(2, 2))
    (image,) = [x for axes in figure.axes for x in axes.images]
    _, end = ends(model)
    np.testing.assert_allclose(image.get_array(), end.reshape(2, 2))
    # The start is the middle of the colors.
    assert image.norm(0.01) == pytest.approx(0.5)


def test_all_on_one_side_of_the_start_have_all_colors():
    model = tuned(kinds.L2("input", 0.01, layers="a"))
    model.hyperparameters[0].assign(np.array([1e-6, 2e-6, 3e-6, 4e-6]))
    figure = plots.values(model, shape=(2, 2))
    image = figure.axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == pytest.approx((1e-6, 4e-6))
    assert "start: 0.01" in figure.axes[0].get_title()


def test_an_image_is_known_by_the_models_input():
    inputs = keras.Input((3, 2))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    model = tuned(kinds.L2("input", 0.01), net=(inputs, outputs))
    figure = plots.values(model)
    _, end = ends(model)
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, end.reshape(3, 2))


def images_of(model, **given):
    """Returns the shapes of the images in a picture of values, by title."""
    axes = plots.values(model, **given).axes
    return {
        a.get_title(): a.images[0].get_array().shape for a in axes if a.images
    }


def test_as_many_features_are_no_image():
    layers = keras.layers
    x = inputs = keras.Input((4, 4, 1))
    x = layers.MaxPooling2D()(layers.Conv2D(4, 3, padding="same")(x))
    features = keras.Input((16,))
    outputs = layers.Dense(2, name="head")(features)
    head = keras.Model(features, outputs)(layers.Flatten()(x))  # 16 as well
    body = keras.Sequential([layers.Rescaling(0.1), layers.Flatten()])
    scaled = body(layers.Dropout(0.1)(inputs / 255.0))
    skip = layers.Dense(2, name="skip")(scaled)
    square = layers.Dense(16, name="square")(layers.Flatten()(inputs))
    turned = layers.Flatten()(layers.Permute((2, 1, 3))(inputs))
    outputs = [head, skip, layers.Dense(2, name="turned")(turned)]
    outputs = layers.Concatenate()([*outputs, square])
    model = tuned(kinds.L2("input", 0.01), net=(inputs, outputs))
    of_pixels = {"skip/kernel": (4, 4), "square/kernel": (4, 4)}
    assert images_of(model) == of_pixels
    assert images_of(model, shape=(2, 8)) == dict.fromkeys(of_pixels, (2, 8))
    model = tuned(
        kinds.L2("output", 0.01, layers="square"), net=(inputs, outputs)
    )
    assert not images_of(model)


def test_of_a_model_without_a_graph_the_shape_tells_of_an_image():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten = keras.layers.Flatten()
            self.head = keras.layers.Dense(2, name="head")

        def call(self, x):
            return self.head(self.flatten(x))

    net = Net()
    net(np.zeros((1, 2, 2)))
    model = kd.DrMADModel.from_model(net)
    model.compile("sgd", "mse", hyperparameters=[kinds.L2("input", 0.01)])
    as_if_tuned(model)
    assert list(images_of(model, shape=(2, 2)).values()) == [(2, 2)]
    assert not images_of(model)


def test_other_inputs_are_a_row_of_bars():
    model = tuned(kinds.L2("input", 0.01, layers="a"))
    (axes,) = plots.values(model).axes
    start, end = ends(model)
    np.testing.assert_allclose(of_label(axes, "end").get_ydata(), end)
    np.testing.assert_allclose(of_label(axes, "start").get_ydata(), start)
    assert axes.get_xlabel() == "input"


def test_examples_are_sorted_and_the_worst_are_shown():
    model = tuned(kinds.ExampleWeights(N))
    labels = np.arange(N) % 2
    figure = plots.values(model, x=X, y=labels, shape=(2, 2))
    _, end = ends(model)
    line = of_label(figure.axes[0], "end")
    np.testing.assert_allclose(line.get_ydata(), np.sort(end))
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 12
    worst = np.argsort(end)[:12]
    for axes, k in zip(shown, worst, strict=True):
        pixels = axes.images[0].get_array()
        np.testing.assert_allclose(pixels, X[k].reshape(2, 2))
        assert axes.get_title().startswith(f"{k}:\n")
        assert axes.get_title().endswith(f"label {labels[k]}")
    assert len([a for a in plots.values(model).axes if a.images]) == 0


@pytest.mark.parametrize("first", [0, 100])
def test_labels_go_by_their_places_whatever_their_index(first):
    pandas = pytest.importorskip("pandas")
    model = tuned(kinds.ExampleWeights(N))
    order = np.random.default_rng(1).permutation(N)
    labels = pandas.Series(np.arange(N) % 3, index=first + order)
    figure = plots.values(model, x=X, y=labels, shape=(2, 2))
    worst = np.argsort(ends(model)[1], kind="stable")[:12]
    shown = [axes.get_title() for axes in figure.axes if axes.images]
    said = [int(title.rpartition("label ")[2]) for title in shown]
    assert said == list(worst % 3)


def test_labels_of_other_examples_are_refused(tmp_path):
    model = tuned(kinds.ExampleWeights(N))
    given = dict(x=X, y=np.arange(N - 1), shape=(2, 2))
    for draw in (plots.values, lambda m, **k: plots.report(m, tmp_path, **k)):
        with pytest.raises(ValueError) as error:
            draw(model, **given)
        small_models.assert_helps(error, "y", "(19,)")
    assert not list(tmp_path.iterdir())


def test_titles_of_examples_do_not_run_into_each_other():
    x = np.random.default_rng(0).uniform(size=(2000, 2, 2))
    model = tuned(kinds.ExampleWeights(2000))
    weights = np.full(2000, 1e-4)
    weights[:-12] = 0.5
    model.hyperparameters[0].assign(weights)
    figure = plots.values(model, x=x)
    figure.canvas.draw()
    titles = [a.title for a in figure.axes if a.title.get_text()]
    boxes = [title.get_window_extent() for title in titles]
    assert len(boxes) == 12
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_a_matrix_is_a_heat_map_of_start_and_end():
    inputs = keras.Input((4,))
    h = keras.layers.Dense(4, name="a")(inputs)
    net = inputs, keras.layers.Dense(4, name="b")(h)
    model = tuned(kinds.WeightSharing([["a", "b"]], 0.25), net=net)
    figure = plots.values(model)
    maps = [x.get_array() for axes in figure.axes for x in axes.images]
    start, end = ends(model)
    np.testing.assert_allclose(maps, [start[0], end[0]])
    assert figure.axes[0].get_xlabel() == "source"


def test_learned_images_are_shown_before_and_after():
    model = tuned(kinds.LearnedData(X[:3]))
    figure = plots.values(model, shape=(2, 2))
    images = [axes.images[0].get_array() for axes in figure.axes]
    expected = np.reshape([*ends(model)], (6, 2, 2))
    np.testing.assert_allclose(images, expected, rtol=1e-6)


def test_a_kind_of_ones_own_names_its_axis():
    class OfClass(kinds.Hyperparameter):
        transform = kinds.Log()
        axes = ("class",)

        def bind(self, model, optimizer):
            self.create((3,), 1.0)

    model = tuned(OfClass("of_class", None))
    (axes,) = plots.values(model).axes
    assert axes.get_xlabel() == "class"
    told = []
    model.results_summary(print_fn=told.append)
    assert re.search(r"class [012]: 1 → ", told[0])


def test_names_are_checked():
    model = tuned(kinds.L2("layer", 0.01), kinds.Temperature())
    assert len(plots.values(model, ["l2", "temperature"]).axes) == 1
    for name in ("l3", ["l2", "l3"], []):
        with pytest.raises(ValueError) as error:
            plots.values(model, name)
        small_models.assert_helps(error, "name", "Received")


# ---- over meta-iterations


def test_the_course_has_quantiles_and_what_was_kept():
    model = tuned(kinds.ExampleWeights(N))
    axes = plots.course(model)
    rows = np.array(model.tuning_record.spreads["example_weights"][""])
    line = of_label(axes, "example_weights")
    np.testing.assert_allclose(line.get_ydata(), rows[:, 2])
    kept = next(x for x in axes.lines if list(x.get_xdata()) == [3])
    _, end = ends(model)
    np.testing.assert_allclose(kept.get_ydata(), [np.median(end)])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(band.max(), rows[:, 3].max())
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["example_weights", "10 to 90 %", "kept"]


def test_several_kinds_together_are_told_apart():
    model = tuned(kinds.L2("layer", 0.01), kinds.LearningRate("layer"))
    axes = plots.course(model)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    names = ["l2: a", "l2: b", "learning_rate: a", "learning_rate: b"]
    assert labels == [*names, "kept"]
    (axes,) = plots.values(model, ["l2", "learning_rate"]).axes
    # The bars of both are in one panel.
    labels = [text.get_text() for text in axes.get_yticklabels()]
    names[:2] = "l2: a/kernel", "l2: b/kernel"
    assert labels == names


def test_small_values_are_told_apart_beside_those_of_another_scale():
    model = tuned(kinds.L2("layer", 1e-6), kinds.Momentum(), kinds.L1("all"))
    (axes,) = plots.values(model).axes
    assert axes.get_xscale() == "log"
    assert plots.course(model).get_yscale() == "log"
    model.hyperparameters[0].raw.assign([-200.0, -200.0])  # 0 in a float
    (axes,) = plots.values(model).axes
    assert axes.get_xscale() == "linear"
    assert plots.course(model).get_yscale() == "linear"


def test_names_are_in_the_legend_as_they_are():
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(2, name="_$x_$")(inputs)
    model = tuned(kinds.L2("layer"), net=(inputs, outputs))
    model.tuning_record.rows[0]["_own_loss"] = 1.0
    for axes, name in (
        (plots.course(model), r"_\$x_\$"),
        (plots.losses(model), "_own_loss"),
        (plots.values_by_layer({"_a": np.ones((2, 3))}), "_a (3)"),
    ):
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert f" {name}" in labels
    plots.values(model).savefig(io.BytesIO())


def test_numbers_at_ticks_are_whole_and_apart():
    model = tuned(kinds.L2("layer"))
    model.tuning_record.rows.pop()
    for axes in plots.diagnostics(model).axes:
        assert all(tick == round(tick) for tick in axes.get_xticks())
    axes = plt.figure().add_subplot()
    axes.imshow(np.zeros((4, 20_000)), aspect="auto")
    scales.whole_ticks(axes.xaxis)
    scales.whole_ticks(axes.yaxis)
    assert len(axes.get_xticks()) <= 6  # one outside on each side
    assert [*axes.get_yticks()][1:-1] == [0, 1, 2, 3]


def far(model):
    """Returns how far parts moved, by hyperparameter and label."""
    return {
        (one.name, part.label): np.mean(np.abs(part.of(one.moved)))
        for one in kd.results.of_model(model)
        for part in one.kind.parts()
    }


def several_layers(count, *others):
    x = inputs = keras.Input((2,))
    for k in range(count):
        x = keras.layers.Dense(2, name=f"l{k}")(x)
    return tuned(kinds.L2("weight", 0.01), *others, net=(inputs, x))


def test_of_many_parts_those_that_moved_most_are_drawn_and_counted():
    model = several_layers(8)
    figure = plots.values(model)
    drawn = {a.get_title() for a in figure.axes if a.images}
    most = sorted(far(model).items(), key=lambda one: -one[1])[:6]
    assert drawn == {label for (_, label), _ in most}
    assert figure.get_suptitle() == "l2\n6 that moved most of 8"
    assert plots.values(several_layers(6)).get_suptitle() == "l2"


def test_each_hyperparameter_is_drawn_before_a_second_part_of_any():
    rate = kinds.LearningRate(schedule="piecewise", knots=3)
    model = several_layers(8, rate)
    model.hyperparameters[1].raw.assign(model.untuned[1])  # moved least
    figure = plots.values(model)
    axes = {a.get_ylabel(): a for a in figure.axes}
    end = of_label(axes["learning_rate"], "learning_rate: all layers")
    np.testing.assert_allclose(end.get_ydata(), ends(model, 1)[1])
    assert sum(bool(a.images) for a in figure.axes) == 5
    _, words = figure.get_suptitle().split("\n")
    assert words == "l2: 5 that moved most of 8"


def test_of_many_hyperparameters_the_pictures_tell_how_many_are_left_out():
    x = inputs = keras.Input((2,))
    for k in range(45):
        x = kd.layers.Dropout(0.3, name=f"drop_{k}")(x)
    model = tuned(net=(inputs, keras.layers.Dense(2)(x)))
    moved = {name: size for (name, _), size in far(model).items()}
    most = sorted(moved, key=lambda name: -moved[name])
    figure = plots.values(model)
    bars = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert {bar.replace("/", ".") for bar in bars} == set(most[:40])
    names, words = figure.get_suptitle().split("\n")
    assert names.endswith("drop_5.rate, 39 more")
    assert words == "40 that moved most of 45"
    labels = plots.course(model).get_legend().get_texts()
    *lines, _, last = [text.get_text() for text in labels]
    assert set(lines) == set(most[:8])
    assert last == "37 more, which moved less"


def test_losses_and_diagnostics_are_those_of_the_record():
    model = tuned(kinds.ExampleWeights(N))
    model.tuning_record.finish({"val_loss": 0.25})
    axes = plots.losses(model)
    line = of_label(axes, "validation")
    np.testing.assert_array_equal(line.get_ydata(), [0.75, 0.5])
    assert any(list(x.get_ydata()) == [0.25] for x in axes.lines)
    left, right = plots.diagnostics(model).axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [0.1, 0.1])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [1.0, 1.0])


# ---- the page


class Reader(html.parser.HTMLParser):
    """Collects what a page links to, and its text."""

    def __init__(self):
        super().__init__()
        self.links, self.alts, self.texts, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.links += [
            given[k] for k in ("src", "href", "srcset") if k in given
        ]
        self.alts += [given["alt"]] if "alt" in given else []
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_has_all_and_needs_nothing_from_elsewhere(tmp_path):
    model = tuned(
        kinds.L2("input", 0.01, layers="a"),
        kinds.LearningRate("layer", schedule="step", steps=6),
        kinds.ExampleWeights(N),
    )
    before = dict(mpl.rcParams)
    path = plots.report(model, tmp_path / "new" / "run", x=X, shape=(2, 2))
    assert dict(mpl.rcParams) == before and not plt.get_fignums()
    assert path == tmp_path / "new" / "run" / "report.html"
    text = path.read_text("utf-8")
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    assert all(x.startswith(("#", "data:image/png")) for x in reader.links)
    assert not re.search(r"url\(|@import|<script|https?:", text)
    assert "viewport" in text and "prefers-color-scheme: dark" in text
    # Losses, diagnostics, and two pictures of each hyperparameter.
    assert len(reader.alts) == 2 + 2 * 3
    seen = " ".join(reader.texts)
    for words in (
        "l2",
        "LearningRate",
        "SGD(",
        "keras_drmad",
        "seed",
        "2 of 2",
    ):
        assert words in seen
    told = []
    model.results_summary(print_fn=told.append)
    assert "carries over" in told[0]


@pytest.mark.usefixtures("unpainted")
def test_settings_read_as_they_are_written(tmp_path):
    small_models.reseed()
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 300, 0.1)
    optimizer = keras.optimizers.Adam(schedule)
    penalties = [kinds.L2("layer", 0.01)]
    model = as_if_tuned(exact_model(tanh_net(), penalties, optimizer))
    text = plots.report(model, tmp_path).read_text("utf-8")
    assert (
        "learning_rate=CosineDecay(initial_learning_rate=0.01, "
        "decay_steps=300, alpha=0.1, "
    ) in text
    assert "class_name" not in text


@pytest.mark.usefixtures("unpainted")
def test_settings_name_the_meta_optimizer_of_each_kind(tmp_path):
    small_models.reseed()
    model = as_if_tuned(
        exact_model(
            tanh_net(),
            [kinds.L2("layer", 0.01), kinds.LearningRate()],
            meta_optimizer={
                "l2": kd.SignDescent(0.25),
                "learning_rate": keras.optimizers.SGD(0.5),
            },
        )
    )
    text = plots.report(model, tmp_path).read_text("utf-8")
    assert "l2: SignDescent(learning_rate=0.25" in text
    assert "learning_rate: SGD(learning_rate=0.5" in text
    assert "lambda" not in text


def test_names_are_escaped(tmp_path):
    name = "<script>alert('x')</script>&"
    page = Page(name)
    page.heading(name)
    page.paragraph(name)
    page.sentences([name])
    page.verbatim(name)
    page.table([name], [[name]])
    page.table([], [[name]])
    page.picture({"light": b"", "dark": b""}, f'"{name}')
    text = page.text()
    assert "<script" not in text
    reader = Reader()
    reader.feed(text)
    assert reader.texts.count(name) == 10  # title, h1, link, h2, ...
    assert reader.alts == [f'"{name}']


@pytest.mark.usefixtures("unpainted")
def test_a_layer_with_an_unkind_name_is_escaped(tmp_path):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(2, name="<b>bold")(inputs)
    model = tuned(kinds.L2("layer", 0.01), net=(inputs, outputs))
    text = plots.report(model, tmp_path).read_text("utf-8")
    assert "<b>" not in text


@pytest.mark.usefixtures("unpainted")
def test_the_page_has_the_check(tmp_path):
    model = tuned(kinds.L2("layer", 0.01))
    text = plots.report(model, tmp_path).read_text("utf-8")
    assert "Not known" in text
    found = {"val_loss": np.array([0.5, 0.6])}
    start = {"val_loss": np.array([0.7, 0.9])}
    model.tuning_record.check = kd.hyperparameter_check.HyperparameterCheck(
        {"start": start, "found": found},
        {
            "val_loss": kd.hyperparameter_check.difference(
                [0.5, 0.6], [0.7, 0.9]
            )
        },
        "carries over",
        "The loss is lower.",
    )
    text = plots.report(model, tmp_path).read_text("utf-8")
    assert (
        "carries over. The loss is lower." in text and "Not known" not in text
    )


@pytest.mark.usefixtures("unpainted")
def test_rates_of_several_layers_are_one_picture(tmp_path):
    x = inputs = keras.Input((4,))
    for k in range(3):
        x = kd.layers.Dropout(0.3, name=f"drop_{k}")(x)
    net = inputs, keras.layers.Dense(2)(x)
    model = tuned(kinds.L2("layer", 0.01), net=net)
    reader = Reader()
    reader.feed(plots.report(model, tmp_path).read_text("utf-8"))
    assert "rate of 3 layers" in reader.texts
    assert len(reader.alts) == 2 + 2 * 2


@pytest.mark.parametrize("draw", ["values", "losses", "course", "diagnostics"])
def test_before_a_fit_there_is_nothing_to_draw(draw):
    model = small_models.compiled()
    with pytest.raises(ValueError, match="Call `fit"):
        getattr(plots, draw)(model)
    with pytest.raises(ValueError, match="Call `fit"):
        plots.report(model, "nowhere")


def test_without_matplotlib_the_error_says_what_to_install(
    monkeypatch, tmp_path
):
    model = tuned(kinds.L2("layer", 0.01))
    real = builtins.__import__

    def without(name, *rest, **others):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install keras_drmad\[plots\]"):
        plots.values(model)
    with pytest.raises(ImportError, match=r"pip install keras_drmad\[plots\]"):
        plots.report(model, tmp_path)
    assert not (tmp_path / "report.html").exists()
