"""A layer of a user's own with a learned value inside: its bandwidths."""

import keras
import numpy as np

import keras_drmad as kd


@keras.saving.register_keras_serializable("examples")
class FourierFeatures(keras.layers.Layer):
    """Random Fourier features of a Gaussian kernel, its widths learned.

    z = √(2 / n) cos((b ∘ x) W + φ), with W ~ N(0, 1) `(inputs, n)` and φ ~
    U(0, 2π) `(n,)` drawn once, and a positive bandwidth b_i for each input i:
    z(x)ᵀ z(x') is about exp(−Σ_i b_i² (x_i − x'_i)² / 2). A value inside a
    layer that training would overfit, so that validation data choose the value.

    References: Rahimi, Recht, *Random Features for Large-Scale Kernel
    Machines*, NeurIPS 2007.
    """

    def __init__(self, units, inputs, bandwidth=0.1, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.inputs, self.seed = units, inputs, seed
        random = np.random.default_rng(seed)
        self.directions = random.normal(size=(inputs, units))
        self.phases = random.uniform(0, 2 * np.pi, units)
        self.bandwidth = kd.layers.LearnedValue(
            np.full(inputs, bandwidth), bounds=(1e-4, 10.0)
        )

    def call(self, x):
        x = keras.ops.matmul(
            x * self.bandwidth.value(),
            keras.ops.cast(self.directions, x.dtype),
        )
        phases = keras.ops.cast(self.phases, x.dtype)
        return np.sqrt(2 / self.units) * keras.ops.cos(x + phases)

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "inputs": self.inputs,
            "seed": self.seed,
        }
