"""Trains a plain net, step by step, with a rate for each step.

For studies that train many nets in the usual way: one compiled loop serves
training sets of any size, where `keras.Model.fit` begins anew each time.
"""

import keras
import numpy as np
import tensorflow as tf

ROWS = 5000  # at a time, where losses are computed


class Trainer:
    """Trains a net with logits as outputs on minibatches of one size.

    Attributes:
        net: `keras.Model`.
        optimizer: `keras.Optimizer`.
        batch_size: int.
        smoothing: float in [0, 1), of the labels.
    """

    def __init__(
        self,
        net: keras.Model,
        optimizer: keras.Optimizer,
        batch_size: int,
        smoothing: float = 0.0,
    ):
        """Builds the optimizer.

        Args:
            net: `keras.Model`.
            optimizer: `keras.Optimizer`, with a number as its learning rate.
            batch_size: int.
            smoothing: float in [0, 1), the part of each label that all classes
                share.
        """
        self.net, self.optimizer = net, optimizer
        self.batch_size, self.smoothing = batch_size, smoothing
        self._rate = float(optimizer.learning_rate)
        optimizer.build(net.trainable_variables)
        self._slots = [np.array(v) for v in optimizer.variables]

    def start(self, weights) -> None:
        """Sets the first weights, and the optimizer to its first state."""
        self.net.set_weights(weights)
        for variable, value in zip(
            self.optimizer.variables, self._slots, strict=True
        ):
            variable.assign(value)

    def train(self, x, y, steps: int, seed: int, weights=None, rates=None):
        """Trains on from where the net is.

        Args:
            x: `(n, pixels)`.
            y: `(n,)`, classes.
            steps: int.
            seed: int, of the order of the examples.
            weights: `(n,)`, of the examples' losses; 1 by default.
            rates: `(steps,)`, the optimizer's own by default.
        """
        if weights is None:
            weights = np.ones(len(y))
        if rates is None:
            rates = np.full(steps, self._rate)
        self._train(
            tf.constant(x, tf.float32),
            tf.constant(y, tf.int32),
            tf.constant(weights, tf.float32),
            tf.constant(order(len(y), self.batch_size, steps, seed)),
            tf.constant(rates, tf.float32),
        )

    def losses(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """Returns the cross entropy of each example, and the net's class."""
        parts = range(0, len(x), ROWS)
        logits = np.concatenate([self.net(x[k : k + ROWS]) for k in parts])
        losses = keras.losses.sparse_categorical_crossentropy(
            y, logits, from_logits=True
        )
        return np.array(losses), logits.argmax(axis=1)

    def scores(self, x, y) -> tuple[float, float]:
        """Returns the mean loss, and the error in percent."""
        losses, classes = self.losses(x, y)
        return float(losses.mean()), float(100 * np.mean(classes != y))

    @tf.function(reduce_retracing=True)
    def _train(self, x, y, weights, batches, rates):
        variables = self.net.trainable_variables
        for k in tf.range(tf.shape(batches)[0]):
            rows = batches[k]
            with tf.GradientTape() as tape:
                logits = self.net(tf.gather(x, rows), training=True)
                losses = self._losses(tf.gather(y, rows), logits)
                loss = tf.reduce_mean(tf.gather(weights, rows) * losses)
            self.optimizer.learning_rate.assign(rates[k])
            self.optimizer.apply(tape.gradient(loss, variables), variables)

    def _losses(self, y, logits):
        """Returns the cross-entropies of labels, smoothed where that is so."""
        if not self.smoothing:
            return keras.losses.sparse_categorical_crossentropy(
                y, logits, from_logits=True
            )
        return keras.losses.categorical_crossentropy(
            tf.one_hot(y, logits.shape[-1]),
            logits,
            from_logits=True,
            label_smoothing=self.smoothing,
        )


def order(count: int, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """Returns the examples of each step, `(steps, batch_size)`.

    Args:
        count: int, how many examples there are; each comes once before any
            comes again.
        batch_size: int.
        steps: int.
        seed: int.
    """
    random = np.random.default_rng(seed)
    passes = -(-steps * batch_size // count)
    rows = np.concatenate([random.permutation(count) for _ in range(passes)])
    return rows[: steps * batch_size].reshape(steps, batch_size)
