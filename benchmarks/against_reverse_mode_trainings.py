"""What DrMAD and exact reverse mode take: seconds, bytes kept, peaks.

For `benchmarks/against_reverse_mode.py`, in processes of their own: `time_all`
times methods side by side, `measure_memory` measures one of them.
"""

import math
import pathlib
import re
import time

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd
from benchmarks.data import images
from examples.tanh_net import tanh_net
from keras_drmad.core.span import Span
from keras_drmad.core.state import State
from keras_drmad.differentiation.checkpointed import Checkpointed, length
from keras_drmad.differentiation.stored import Stored
from studies.papers import drmad_of_paper, papers_momentum

PAPERS = "papers"  # the base of ratios, and the training that is timed alone
# Timed by method and round, and said by each method of itself.
TIMED = ("seconds", "seconds_backward")
SAID = ("copies", "reverse_steps", "reverse_steps_used", "buffer_bits")


def method_and_momentum(name: str):
    """Returns the method of a name, and the momentum of the training."""
    if name.startswith("reversible"):
        return kd.ReverseMode("reversible"), float(name.split("_")[1])
    methods = {
        "drmad": kd.DrMAD(),
        PAPERS: drmad_of_paper(),
        "full": drmad_of_paper(1.0),
    }
    return methods.get(name) or kd.ReverseMode(name), 0.1


# ---- one training


class Competitor:
    """A compiled model with its data.

    Attributes:
        model: the `DrMADModel`.
    """

    def __init__(
        self,
        name: str,
        data,
        hidden: int,
        learning_rate: float,
        jit_compile: bool,
    ):
        """Builds the net.

        Args:
            name: str, of a method, for `method_and_momentum`.
            data: `Images`.
            hidden: int, units of each hidden layer.
            learning_rate: alpha of v <- gamma v - (1 - gamma) g, w <- w +
                alpha v.
            jit_compile: bool, whether XLA compiles the loops.
        """
        keras.utils.set_random_seed(0)
        self.data = data
        net = tanh_net(784, [hidden] * 3, 10)
        self.model = kd.DrMADModel.from_model(net)
        method, gamma = method_and_momentum(name)
        self.model.compile(
            optimizer=papers_momentum(learning_rate, gamma),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            hyperparameters=[kd.hyperparameters.L2("input", math.exp(-4))],
            hypergradient=method,
            jit_compile=jit_compile,
        )

    def kept_bytes(self, T: int) -> float:
        """Returns the bytes that the method keeps in a training of T steps."""
        weights = [v.value for v in self.model.trainable_variables]
        velocities = weights  # of their sizes
        state = State(weights, velocities, [])
        return self.model.method.nbytes(T, state, (), self.model.optimizer)

    def warm_up(self, T: int) -> None:
        """Compiles all that T steps need, with as few steps as will do."""
        steps = next(
            t
            for t in range(10, T + 1)
            if loops(self.model, t) == loops(self.model, T)
        )
        self.train(steps)
        self.hypergradient(steps)

    def train(self, T: int) -> None:
        """Trains, and computes the validation loss."""
        self.model.validation_loss_after(**self._arguments(T))

    def hypergradient(self, T: int) -> dict[str, float]:
        """Returns the diagnostics of one hypergradient."""
        return self.model.hypergradient(**self._arguments(T)).diagnostics

    def _arguments(self, T: int):
        (x, y), validation = self.data.train, self.data.validation
        return {
            "x": x,
            "y": y,
            "batch_size": 50,
            "steps_per_epoch": T,
            "validation_data": validation,
            "validation_batch_size": 1000,
        }


def loops(model, T: int):
    """Returns what the loops of T steps are compiled for: a length, or none."""
    bound = model.method.bind(T, None, (), model.optimizer)
    if isinstance(bound, Stored):
        weights = [tf.convert_to_tensor(v.value) for v in model.weights]
        return bound.pages(Span(0, T), State(weights, weights, [])).size
    return length(T) if isinstance(bound, Checkpointed) else None


# ---- cells, each in a process of its own


def time_all(
    names: list[str],
    T: int,
    rounds: int,
    memory: int,
    data_dir: str | None,
    **net,
):
    """Times methods.

    Args:
        names: list of str, the methods'.
        T: int, the steps of a training.
        rounds: int.
        memory: int, bytes; methods that would keep more are left out.
        data_dir: str, the folder with `mnist.npz`.
        **net: the other arguments of `Competitor`.

    Returns:
        Dict of arrays: `alone` `(rounds,)`, seconds of the training alone;
        `TIMED`, `(methods, rounds)`; `SAID` and `kept_bytes`, `(methods,)`;
        nan for methods that were left out.
    """
    data = images(data_dir)
    models = [Competitor(name, data, **net) for name in names]
    kept = np.array([model.kept_bytes(T) for model in models])
    found: dict[str, np.ndarray] = {
        key: np.full((len(names), rounds), np.nan) for key in TIMED
    }
    found |= {key: np.full(len(names), np.nan) for key in SAID}
    found |= {"alone": np.zeros(rounds), "kept_bytes": kept}
    fits = np.flatnonzero(kept <= memory)
    for k in fits:
        models[k].warm_up(T)
    alone = models[names.index(PAPERS)]
    for r in range(rounds):
        found["alone"][r] = _seconds(alone.train, T)[0]
        for k in fits:
            seconds, d = _seconds(models[k].hypergradient, T)
            found["seconds"][k, r] = seconds
            found["seconds_backward"][k, r] = d["seconds_backward"]
            for key in SAID:
                found[key][k] = d.get(key, np.nan)
    return found


def _seconds(function, T: int):
    """Returns how long a call took, and what it returned."""
    begin = time.perf_counter()
    returned = function(T)
    return time.perf_counter() - begin, returned


def measure_memory(
    name: str, T: int, memory: int, data_dir: str | None, **net
) -> dict[str, float]:
    """Measures a process's peak of resident memory in one hypergradient.

    The peak is set back once all is compiled. Still the process holds what
    importing, the data and compiling left, and a small need may be met from
    what was freed: so peaks are to be compared with one another.

    Args:
        name: str, the method's.
        T: int, the steps of a training.
        memory: int, bytes; nothing is done for a method that would keep more.
        data_dir: str, the folder with `mnist.npz`.
        **net: the other arguments of `Competitor`.

    Returns:
        Dict: `peak`, bytes.
    """
    model = Competitor(name, images(data_dir), **net)
    if model.kept_bytes(T) > memory:
        return {"peak": math.nan}
    model.warm_up(T)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    model.hypergradient(T)
    return {"peak": _peak_bytes()}


def _peak_bytes() -> float:
    text = pathlib.Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", text)
    return 1024.0 * int(kilobytes)
