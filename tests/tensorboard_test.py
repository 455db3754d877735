"""What the callback for TensorBoard writes, read back."""

import builtins

import keras
import numpy as np
import pytest

import keras_drmad as kd
import small_models
from small_models import fit

pytest.importorskip("tensorboard")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns a model tuned twice, its values, the events, the folder."""
    folder = tmp_path_factory.mktemp("logs")
    recorder = kd.callbacks.HyperparameterHistory()
    callbacks = [
        keras.callbacks.TensorBoard(folder),
        kd.callbacks.TensorBoard(folder),
        recorder,
    ]
    model = small_models.compiled(
        small_models.hidden(),
        hyperparameters=[kd.hyperparameters.L2("input", 1e-2)],
    )
    values = []
    for _ in range(2):
        fit(model, callbacks=callbacks, initial_weights="resample")
        values += list(recorder.values["l2"])
    events = read(folder / "tuning")
    assert (folder / "train").is_dir()  # Keras's own is beside it
    return model, np.array(values), events, folder


def read(folder):
    """Returns the events of a run."""
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(
        str(folder), size_guidance={"tensors": 0}
    )
    return events.Reload()


def scalars(events, tag):
    found = events.Tensors(tag)
    steps = [event.step for event in found]
    return steps, [
        float(np.squeeze(keras.ops.convert_to_numpy(_array(event))))
        for event in found
    ]


def _array(event):
    import tensorflow as tf

    return tf.make_ndarray(event.tensor_proto)


def test_histograms_hold_the_values_of_each_training(written):
    _, values, events, _ = written
    found = events.Tensors("hyperparameters/l2")
    assert [event.step for event in found] == [0, 1, 2, 3]
    for event, row in zip(found, values, strict=True):
        buckets = _array(event)  # rows of left, right, count
        assert buckets[:, 2].sum() == row.size
        inside = buckets[:, 2] > 0
        assert buckets[inside, 0].min() == pytest.approx(row.min(), rel=0.2)
        assert buckets[inside, 1].max() == pytest.approx(row.max(), rel=0.2)


def test_scalars_are_medians_and_diagnostics(written):
    model, values, events, _ = written
    steps, medians = scalars(events, "medians/l2")
    assert steps == [0, 1, 2, 3]
    np.testing.assert_allclose(medians, np.median(values, axis=1), rtol=1e-5)
    _, medians = scalars(events, "medians/l2/first")
    expected = np.median(values[:, :4], axis=1)
    np.testing.assert_allclose(medians, expected, rtol=1e-5)
    for name in ("hypergradient_norm", "adjoint_growth"):
        _, found = scalars(events, f"diagnostics/{name}")
        expected = model.tuning_record.series(name)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_hparams_tab_has_a_row_for_what_each_fit_kept(written):
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    model, _, _, folder = written
    rows = []
    for number in (1, 2):
        events = read(folder / f"fit_{number}")
        tags = events.PluginTagToContent(metadata.PLUGIN_NAME)
        content = tags[metadata.SESSION_START_INFO_TAG]
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        rows.append(data.session_start_info.hparams)
    kind, last = model.hyperparameters[0], rows[-1]
    for layer, own in kind.by_layer(kind.value().numpy()[np.newaxis]).items():
        number = last[f"l2/{layer}"].number_value
        assert number == pytest.approx(np.median(own))
    assert rows[0]["l2/first"].number_value != last["l2/first"].number_value
    assert last["seed"].number_value == 0
    assert last["keep"].string_value == "mean"
    _, best = scalars(events, "tuning/best_val_loss")
    losses = model.tuning_record.series("val_loss")
    assert best == [pytest.approx(losses[2:].min())]
    _, final = scalars(events, "tuning/last_val_loss")
    assert final == [pytest.approx(model.final_logs["val_loss"])]


def test_nothing_is_written_where_nothing_is_tuned(tmp_path):
    model = small_models.compiled()
    board = kd.callbacks.TensorBoard(tmp_path)
    fit(model, callbacks=[board], meta_iterations=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_new", [False, True])
def test_after_a_new_compile_all_begins_in_new_runs(is_new, tmp_path):
    model = small_models.compiled()
    board = kd.callbacks.TensorBoard(tmp_path)
    for _ in range(2):  # each as after a `compile`, and once more
        model.forget()
        for _ in range(2):
            if is_new:
                board = kd.callbacks.TensorBoard(tmp_path)
            fit(model, callbacks=[board])
    names = sorted(folder.name for folder in tmp_path.iterdir())
    assert names == ["fit_1", "fit_2", "fit_3", "fit_4", "tuning", "tuning_2"]
    for name in ("tuning", "tuning_2"):
        steps, _ = scalars(read(tmp_path / name), "medians/l2")
        assert sorted(steps) == [0, 1, 2, 3]
    for name in names[:4]:
        assert len(scalars(read(tmp_path / name), "tuning/last_val_loss")[0])


def test_without_tensorboard_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **others):
        if name.partition(".")[0] == "tensorboard":
            raise ImportError(name)
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"keras_drmad\[tensorboard\]"):
        kd.callbacks.TensorBoard("logs")
