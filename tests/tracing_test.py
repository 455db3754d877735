"""Python seldom looks for garbage while steps are traced; then as before."""

import gc
import threading

import pytest
import tensorflow as tf

from keras_drmad.core.tracing import OBJECTS, undisturbed
from keras_drmad.seam import look
from keras_drmad.seam.compiler import Compiler
from small_models import compiled, fit


@pytest.fixture
def threshold():
    """Sets a threshold, and brings back what was there."""
    before = gc.get_threshold()
    gc.set_threshold(600, 9, 8)
    yield 600, 9, 8
    gc.set_threshold(*before)


def test_it_is_as_before_afterwards(threshold):
    with pytest.raises(KeyError), undisturbed():
        assert gc.get_threshold() == (OBJECTS, 9, 8)
        with undisturbed():
            pass
        assert gc.get_threshold() == (OBJECTS, 9, 8)
        raise KeyError
    assert gc.get_threshold() == threshold


@pytest.mark.parametrize("wanted", [0, 2 * OBJECTS])
def test_who_wants_less_has_less(threshold, wanted):
    gc.set_threshold(wanted, 5, 5)
    with undisturbed():
        assert gc.get_threshold() == (wanted, 5, 5)
    assert gc.get_threshold() == (wanted, 5, 5)


def test_threads_trace_at_the_same_time(threshold):
    begun, ended = threading.Event(), threading.Event()

    def trace():
        with undisturbed():
            begun.set()
            ended.wait(10)

    thread = threading.Thread(target=trace)
    with undisturbed():
        thread.start()
        assert begun.wait(10)
    assert gc.get_threshold() == (OBJECTS, 9, 8)  # the other one traces
    ended.set()
    thread.join()
    assert gc.get_threshold() == threshold


def test_loops_are_traced_undisturbed_and_run_as_ever(threshold):
    seen = []

    def function(x):
        seen.append(gc.get_threshold()[0])
        return 2 * x

    loop = Compiler(jit_compile=False)(function)
    for _ in range(2):
        assert float(loop(tf.constant(2.0))) == 4
    assert seen == [OBJECTS] and gc.get_threshold() == threshold


def test_a_model_is_looked_at_and_checked_undisturbed(threshold, monkeypatch):
    seen = []

    class Seen(look.Look):
        def __init__(self, *args):
            seen.append(gc.get_threshold()[0])
            super().__init__(*args)

    monkeypatch.setattr("keras_drmad.seam.problem.Look", Seen)
    fit(compiled(), meta_iterations=1)
    assert seen == [OBJECTS] and gc.get_threshold() == threshold
