"""Problems small enough to know the answer, or to difference it."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_drmad as kd
from keras_drmad.core.state import State
from keras_drmad.hyperparameters import Hyperparameter
from keras_drmad.hyperparameters.groups import Member
from keras_drmad.hyperparameters.transforms import Identity


def regression(size: int, features: int = 4, targets: int = 2, seed: int = 0):
    """Returns x `(size, features)` and y `(size, targets)`, standard normal."""
    generator = np.random.default_rng(seed)
    return (
        generator.normal(size=(size, features)),
        generator.normal(size=(size, targets)),
    )


def tanh_net(hidden: int = 3) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns inputs and outputs of a 4-hidden-2 net, layers "a" and "b"."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(hidden, activation="tanh", name="a")(inputs)
    return inputs, keras.layers.Dense(2, name="b")(x)


def linear_net() -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns inputs and outputs of y = x W: with mse, a quadratic loss."""
    inputs = keras.Input((4,))
    return inputs, keras.layers.Dense(2, use_bias=False, name="a")(inputs)


def exact_model(net, hyperparameters, optimizer=None, **arguments):
    """Returns a compiled model that differentiates by reverse mode.

    Args:
        net: inputs and outputs, or a built `keras.Model`.
        hyperparameters: list of kinds.
        optimizer: a Keras optimizer, momentum by default.
        **arguments: others of `compile`.
    """
    net = net if isinstance(net, tuple) else (net,)
    model = kd.DrMADModel(*net)
    defaults = {
        "optimizer": optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        "loss": "mse",
        "hypergradient": kd.ReverseMode(),
        "jit_compile": False,
    }
    model.compile(hyperparameters=hyperparameters, **defaults | arguments)
    return model


def bound(kind, net=None, optimizer=None):
    """Returns a kind bound to a model, and the model.

    Args:
        kind: a hyperparameter kind.
        net: inputs and outputs, or a built model; `tanh_net()` by default.
        optimizer: a Keras optimizer, SGD by default.
    """
    net = tanh_net() if net is None else net
    model = keras.Model(*net) if isinstance(net, tuple) else net
    kind.bind(model, optimizer or keras.optimizers.SGD())
    return kind, model


def penalty(kind, model) -> float:
    """Returns the penalty of a bound kind at the weights of its model."""
    params = {id(v): v.value for v in model.trainable_variables}
    return float(kind.penalty(kind.raw.value, params))


class QuarticByMomentum:
    """A loss of degree four, by momentum in the paper's velocity form.

        L(w) = ½ wᵀA w + batchᵀw + Σ exp(λ) w² + ¼ Σ w⁴
        v' = γ v − (1 − γ) ∇L,   w' = w + α v'

    The hyperparameters are `[λ, α, γ]`, λ of the shape of w. The buffer counts
    the batches, so that the state has a leaf that is not a floating one.
    """

    update_is_smooth = True
    unread_slots = ()  # γ is tuned, so its derivative is v
    takes_any_size = True

    def __init__(self, A: np.ndarray):
        self.A = A

    def loss(self, w, hparams, batch):
        quadratic = tf.tensordot(w, tf.linalg.matvec(self.A, w), 1) / 2
        penalty = tf.reduce_sum(tf.exp(hparams[0]) * w**2 + w**4 / 4)
        return quadratic + tf.tensordot(batch, w, 1) + penalty

    def gradient(self, state, hparams, batch):
        (w,) = state.params
        with tf.GradientTape() as tape:
            tape.watch(w)
            loss = self.loss(w, hparams, batch)
        called = state._replace(buffers=[state.buffers[0] + 1])
        return [tape.gradient(loss, w)], called

    def update(self, state, gradients, hparams):
        (w,), (v,), (g,) = state.params, state.slots, gradients
        _, alpha, gamma = hparams
        v = gamma * v - (1 - gamma) * g
        return [w + alpha * v], [v]

    def by_hand(self, state, hparams, batch, dw, dv):
        """Returns the lines of Algorithm 1: (dw, dv), (dλ, dα, dγ)."""
        w, v = state.params[0].numpy(), state.slots[0].numpy()
        penalty, alpha, gamma = (h.numpy() for h in hparams)
        g = self.A @ w + batch.numpy() + 2 * np.exp(penalty) * w + w**3
        hessian = self.A + np.diag(2 * np.exp(penalty) + 3 * w**2)
        mixed = np.diag(2 * np.exp(penalty) * w)  # ∂²L/∂λ∂w
        d_alpha = dw @ (gamma * v - (1 - gamma) * g)
        dv = dv + alpha * dw
        d_gamma = dv @ (v + g)
        dw = dw - (1 - gamma) * hessian @ dv
        d_penalty = -(1 - gamma) * mixed.T @ dv
        return (dw, gamma * dv), (d_penalty, d_alpha, d_gamma)

    def random_point(self, seed: int = 3):
        """Returns a state, hyperparameters, a batch, and dw, dv."""
        generator = np.random.default_rng(seed)
        n = len(self.A)
        w, v, penalty, batch, dw, dv = generator.normal(size=(6, n))
        state = State([tf.constant(w)], [tf.constant(v)], [tf.constant(5)])
        hparams = [tf.constant(penalty), tf.constant(0.3), tf.constant(0.8)]
        hparams = [tf.cast(h, tf.float64) for h in hparams]
        return state, hparams, tf.constant(batch), dw, dv


class LinearTerm(Hyperparameter):
    """Adds Σ λ · w to the training loss, λ of the shape of one kernel.

    Neither the Hessian nor the mixed derivative ∂²L/∂λ∂w = 1 depends on w.
    """

    transform = Identity()

    def __init__(self, name: str = "linear"):
        super().__init__(name, None)

    def bind(self, model, optimizer) -> None:
        (kernel,) = model.trainable_variables
        self._member = Member(kernel, 0, tuple(kernel.shape))
        self.create(tuple(kernel.shape), 0.1)

    def penalty(self, raw: tf.Tensor, params: dict[int, Any]) -> tf.Tensor:
        return tf.reduce_sum(raw * params[id(self._member.variable)])
