"""The rule of `SignConsensus` in NumPy, and a kind on which to try the rule."""

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd
from keras_drmad import hyperparameters as kinds

FREE = (-np.inf, np.inf)


class Kind(kinds.Hyperparameter):
    """A kind that acts nowhere, of two layers of 4 and 2 entries and a third.

    The third layer has a single entry.
    """

    transform = kinds.Identity()
    unit = np.array([0.5, 0.5, 2.0, 0.5, 1.0, 1.0, 0.25])
    layers = np.array([1, 1, 1, 1, 2, 2, 0])

    def bind(self, model, optimizer):
        self.create((7,), np.linspace(-0.3, 0.3, 7))

    def by_layer(self, values):
        return {str(k): values[..., self.layers == k] for k in (1, 2, 0)}


def bound(bounds=(None, None), kind_of=Kind):
    kind = kind_of("kind", bounds)
    kind.bind(None, None)
    kind.raw = keras.Variable(kind.raw, dtype="float64")
    return kind


def built(kind, **options):
    optimizer = kd.SignConsensus(**options)
    optimizer.know([kind])
    optimizer.build([kind.raw])
    return optimizer


def step(optimizer, kind, gradient):
    """Steps as a meta-iteration does, which clips what was moved."""
    optimizer.apply([tf.constant(gradient)], [kind.raw])
    kind.clip()
    return kind.raw.numpy()


class Rule:
    """The formula, for a vector of at least two entries."""

    def __init__(
        self,
        start,
        unit=1.0,
        layers=None,
        bounds=FREE,
        rate=0.3,
        reach=3.0,
        prior=6.0,
        layer_rate=0.5,
        forget=1.0,
    ):
        self.raw = np.array(start, float)
        self.size = len(self.raw)
        self.unit = np.broadcast_to(unit, self.size)
        self.layers = np.zeros(self.size) if layers is None else layers
        self.bounds = bounds
        # Keras keeps a rate in float32.
        self.rate = rate if callable(rate) else lambda t: np.float32(rate)
        self.reach, self.prior = reach, prior
        self.layer_rate, self.forget = layer_rate, forget
        self.t = 0
        self.origin = self.raw.copy()
        self.common = 0.0
        self.part = np.zeros(self.size)  # of each entry's layer
        self.signs = [[] for _ in range(self.size)]

    def consensus(self):
        own = np.zeros(self.size)
        for i, signs in enumerate(self.signs):
            weights = [self.forget**k for k in range(len(signs))][::-1]
            total = -np.dot(weights, signs) if signs else 0.0
            own[i] = self.reach * total / (sum(weights) + self.prior)
        return own

    def shared_step(self, which, g, now, without, rate):
        """Returns a part after a step that keeps a mean within the bounds."""
        new = now - rate * np.sign(np.sum((self.unit * g)[which]))
        unit, mean = self.unit[which].mean(), without[which].mean()
        low, high = ((b - mean) / unit for b in self.bounds)
        if new < now:
            return max(new, min(low, now))
        return min(new, max(high, now))

    def step(self, gradient):
        rate = float(self.rate(self.t))
        g = np.where(np.isfinite(gradient), gradient, 0.0)
        for i in np.flatnonzero(g):
            self.signs[i].append(np.sign(g[i]))
        everywhere = np.full(self.size, True)
        self.common = self.shared_step(
            everywhere, g, self.common, self.origin, rate
        )
        without = self.origin + self.unit * self.common
        for layer in set(self.layers[self.layers > 0]):
            which = self.layers == layer
            self.part[which] = self.shared_step(
                which,
                g,
                self.part[which][0],
                without,
                self.layer_rate * rate,
            )
        self.t += 1
        self.raw = np.clip(self.target(), *self.bounds)
        return self.raw

    def target(self):
        moved = self.common + self.part + self.consensus()
        return self.origin + self.unit * moved

    def assign(self, raw):
        changed = raw != self.raw
        self.origin[changed] += (raw - self.target())[changed]
        self.raw = np.array(raw)


def gradients(count, size, bias=0.7, seed=0):
    """Returns random gradients of many sizes, some of them 0 or nan."""
    generator = np.random.default_rng(seed)
    mean = bias * generator.normal(size=size)
    size = (count, size)
    g = (mean + generator.normal(size=size)) * np.exp(
        3 * generator.normal(size=size)
    )
    g[generator.random(size) < 0.1] = 0.0
    g[generator.random(size) < 0.03] = np.nan
    return g
