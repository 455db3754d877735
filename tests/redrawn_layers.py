"""Layers of Keras with initializers, to be drawn anew."""

import functools

import keras

layers = keras.layers
initializers = keras.initializers
SEQUENCE, IMAGE, VOLUME, ROW = (6, 5), (8, 8, 3), (4, 4, 4, 2), (5,)


class Attention(layers.Layer):
    """A layer of Keras that attends a sequence to itself."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape, shape)

    def call(self, x):
        return self.inner(x, x)


class Pairs(layers.Layer):
    """A layer of a list, called with two tensors."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, first, second):
        self.inner.build([first, second])

    def call(self, first, second):
        return self.inner([first, second])


# Layers, the shape of an example, and how many of their variables are drawn.
LAYERS = {
    "Dense": (lambda: layers.Dense(4), ROW, 1),
    "Dense, RandomNormal bias": (
        lambda: layers.Dense(4, bias_initializer="random_normal"),
        ROW,
        2,
    ),
    "Dense, Orthogonal": (
        lambda: layers.Dense(4, kernel_initializer="orthogonal"),
        ROW,
        1,
    ),
    "Dense, Identity": (
        lambda: layers.Dense(5, kernel_initializer="identity"),
        ROW,
        0,
    ),
    "Dense, an int seed": (
        lambda: layers.Dense(4, kernel_initializer=initializers.HeNormal(3)),
        ROW,
        1,
    ),
    "Conv1D": (lambda: layers.Conv1D(4, 2), SEQUENCE, 1),
    "Conv2D": (lambda: layers.Conv2D(4, 2, groups=1), IMAGE, 1),
    "Conv3D": (lambda: layers.Conv3D(4, 2), VOLUME, 1),
    "Conv1DTranspose": (lambda: layers.Conv1DTranspose(4, 2), SEQUENCE, 1),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(4, 2), IMAGE, 1),
    "Conv3DTranspose": (lambda: layers.Conv3DTranspose(4, 2), VOLUME, 1),
    "DepthwiseConv1D": (lambda: layers.DepthwiseConv1D(2), SEQUENCE, 1),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(2), IMAGE, 1),
    "SeparableConv1D": (lambda: layers.SeparableConv1D(4, 2), SEQUENCE, 2),
    "SeparableConv2D": (lambda: layers.SeparableConv2D(4, 2), IMAGE, 2),
    "ConvLSTM1D": (lambda: layers.ConvLSTM1D(2, 2), (3, 6, 2), 2),
    "LSTM": (lambda: layers.LSTM(4), SEQUENCE, 2),
    "LSTM, RandomNormal bias": (
        lambda: layers.LSTM(4, bias_initializer="random_normal"),
        SEQUENCE,
        3,
    ),
    "LSTM without ones": (
        lambda: layers.LSTM(4, unit_forget_bias=False),
        SEQUENCE,
        2,
    ),
    "GRU": (lambda: layers.GRU(4), SEQUENCE, 2),
    "GRU, RandomNormal bias": (
        lambda: layers.GRU(4, bias_initializer="random_normal"),
        SEQUENCE,
        3,
    ),
    "GRU, reset before": (
        lambda: layers.GRU(4, reset_after=False),
        SEQUENCE,
        2,
    ),
    "SimpleRNN": (lambda: layers.SimpleRNN(4), SEQUENCE, 2),
    "RNN of cells": (
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        SEQUENCE,
        4,
    ),
    "Bidirectional": (
        lambda: layers.Bidirectional(layers.LSTM(3)),
        SEQUENCE,
        4,
    ),
    "TimeDistributed": (
        lambda: layers.TimeDistributed(layers.Dense(3)),
        SEQUENCE,
        1,
    ),
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,cde->abde", (6, 2, 3), bias_axes="de"),
        SEQUENCE,
        1,
    ),
    "EinsumDense, ellipsis": (
        lambda: layers.EinsumDense("...x,xy->...y", 4),
        SEQUENCE,
        1,
    ),
    "MultiHeadAttention": (
        lambda: Attention(layers.MultiHeadAttention(2, 3)),
        SEQUENCE,
        4,
    ),
    "GroupQueryAttention": (
        lambda: Attention(layers.GroupQueryAttention(3, 4, 2)),
        SEQUENCE,
        4,
    ),
    "PReLU": (lambda: layers.PReLU(), ROW, 0),
    "PReLU, drawn": (lambda: layers.PReLU("he_normal"), ROW, 1),
    "BatchNormalization": (lambda: layers.BatchNormalization(), ROW, 0),
    "BatchNormalization, drawn": (
        lambda: layers.BatchNormalization(gamma_initializer="random_normal"),
        ROW,
        1,
    ),
    "LayerNormalization": (lambda: layers.LayerNormalization(), ROW, 0),
    "GroupNormalization": (lambda: layers.GroupNormalization(1), ROW, 0),
    "RMSNormalization": (lambda: layers.RMSNormalization(), ROW, 0),
    "UnitNormalization": (lambda: layers.UnitNormalization(), ROW, 0),
    # Keras keeps no initializer of its vector, which is known by its grain.
    "SpectralNormalization": (
        lambda: layers.SpectralNormalization(layers.Dense(200)),
        ROW,
        2,
    ),
    "AdditiveAttention": (
        lambda: Attention(Pairs(layers.AdditiveAttention())),
        (6, 200),
        1,
    ),
}
for name in (
    "random_normal",
    "random_uniform",
    "truncated_normal",
    "variance_scaling",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
):
    LAYERS[f"Dense, {name}"] = (
        functools.partial(layers.Dense, 4, kernel_initializer=name),
        ROW,
        1,
    )
