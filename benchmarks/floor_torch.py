"""The exact hypergradient of `floor_loops`, by PyTorch; an extra.

TorchOpt and higher take a training's steps one by one from Python, keep the
graph of all of them, and differentiate this graph.
"""

from collections.abc import Callable, Iterator
from typing import Any

import higher
import numpy as np
import torch
import torchopt

# Loads libraries that crash where TensorFlow's were loaded before.
torch.optim.SGD([torch.zeros(1)])

from benchmarks.floor_loops import (  # noqa: E402  (imports TensorFlow)
    SIZES,
    START,
    Setting,
    first_weights,
)

cross_entropy = torch.nn.functional.cross_entropy


def hypergradient(
    validated: Callable, method: str, setting: Setting, train, held_out
) -> Callable[[], np.ndarray]:
    """Returns a function that returns an exact hypergradient.

    Args:
        validated: one of `LIBRARIES`.
        method: "exact", the only one that either library has.
        setting: `Setting`.
        train: pair of arrays, whose examples come in their order.
        held_out: pair of arrays, one batch.
    """
    del method
    torch.set_num_threads(1)
    T, B = setting.steps, setting.batch_size
    order = torch.tensor(np.resize(np.arange(len(train[0])), (T, B)))
    train, held_out = (
        (torch.tensor(x), torch.tensor(y, dtype=torch.int64))
        for x, y in (train, held_out)
    )

    def gradient() -> np.ndarray:
        log = [torch.full([n], START, requires_grad=True) for n in SIZES[:-1]]
        batches = ((train[0][index], train[1][index]) for index in order)
        loss = validated(log, setting, batches, held_out)
        slopes = torch.autograd.grad(loss, log)
        return np.concatenate([slope.numpy() for slope in slopes])

    return gradient


def by_torchopt(
    log: list, setting: Setting, batches: Iterator, held_out: tuple
) -> torch.Tensor:
    """Returns the validation loss after a training.

    Args:
        log: list of tensors, the logarithms of the penalties.
        setting: `Setting`.
        batches: yields T pairs of tensors.
        held_out: pair of tensors.
    """
    net = first_net()
    steps = torchopt.MetaSGD(net, lr=setting.rate, momentum=setting.momentum)
    for x, y in batches:
        steps.step(objective(net, log, x, y))
    return cross_entropy(net(held_out[0]), held_out[1])


def by_higher(
    log: list, setting: Setting, batches: Iterator, held_out: tuple
) -> torch.Tensor:
    """Returns the validation loss after a training; see `by_torchopt`."""
    net = first_net()
    sgd = torch.optim.SGD(
        net.parameters(), lr=setting.rate, momentum=setting.momentum
    )
    with higher.innerloop_ctx(net, sgd) as (functional, steps):
        for x, y in batches:
            steps.step(objective(functional, log, x, y))
        return cross_entropy(functional(held_out[0]), held_out[1])


LIBRARIES = {"TorchOpt": by_torchopt, "higher": by_higher}


def first_net() -> torch.nn.Sequential:
    """Returns the net with the first weights."""
    layers: list[torch.nn.Module] = []
    for a, b in zip(SIZES, SIZES[1:], strict=False):
        layers += [torch.nn.Linear(a, b), torch.nn.Tanh()]
    net = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for own, w in zip(net.parameters(), first_weights(), strict=True):
            own.copy_(torch.tensor(w).t())
    return net


def objective(net: Any, log: list, x: Any, y: Any) -> torch.Tensor:
    """Returns the training loss, with a penalty for each input."""
    kernels = [w for w in net.parameters() if w.ndim == 2]
    penalties = [
        (log_penalty.exp() * w**2).sum()
        for log_penalty, w in zip(log, kernels, strict=True)
    ]
    return cross_entropy(net(x), y) + sum(penalties)
