"""Whether two problems take the very same steps.

Compiled loops are functions of states, hyperparameters, constants and batches
alone, so a second `compile` with the same kinds, loss, metrics and optimizer
can go on with the loops of the first one. Configs do not tell whether it can: a
loss may be any function. The graphs of a step do, which both problems have
traced: where they are equal node by node, so are the loops made of such steps.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.core.curvature import HESSIAN


def are_same(one: Any, other: Any) -> bool:
    """Returns whether two `ElementaryProblem`s of one model take equal steps.

    Equal functions of values at equal places: of the state, λ, the constants,
    the metrics' state and the batch.
    """
    return _places(one) == _places(other) and all(
        _is_same(a, b)
        for a, b in zip(one.look.graphs, other.look.graphs, strict=True)
    )


def is_of_steps(name: str, record: tuple) -> bool:
    """Returns whether a loop is made of steps alone.

    Not those of validation, which is not in the graph of a step, nor those that
    linearize around a model's outputs.

    Args:
        name: str, the loop's in `core.loops.Loops`.
        record: tuple, what the loop was made for.
    """
    if name in ("backward", "products"):
        (one,) = record
        return getattr(one, "curvature", one) == HESSIAN
    return name in ("forward", "same")


def _places(problem: Any) -> tuple:
    """Returns which variable has which place, in a form to compare.

    The optimizer's may be others, of the same number; metrics', too.
    """
    number = {id(v): k for k, v in enumerate(problem.optimizer.variables)}

    def of(variables: list) -> list:
        return [number.get(id(v), f"id {id(v)}") for v in variables]

    asked_params, asked_slots, asked_buffers = problem.look.asked
    return (
        id(problem.model),
        *map(of, (problem.params, problem.slots, problem.buffers)),
        *map(of, (problem.fixed, problem.loose)),
        *map(of, (asked_params, asked_slots, asked_buffers)),
        [(tuple(v.shape), v.dtype) for v in problem.metrics],
        [(h.name, tuple(h.raw.shape)) for h in problem.hyperparameters],
    )


def _is_same(one: Any, other: Any) -> bool:
    """Returns whether two concrete functions have the same graph."""
    pairs = zip(one.captured_inputs, other.captured_inputs, strict=False)
    return (
        len(one.captured_inputs) == len(other.captured_inputs)
        and all(_is_same_tensor(a, b) for a, b in pairs)
        and _Normal(one.graph.as_graph_def()).nodes
        == _Normal(other.graph.as_graph_def()).nodes
    )


def _is_same_tensor(a: tf.Tensor, b: tf.Tensor) -> bool:
    if a is b:
        return True
    if a.dtype != b.dtype or a.dtype in (tf.resource, tf.variant):
        return False
    return a.shape == b.shape and bool(np.all(a.numpy() == b.numpy()))


class _Normal:
    """What a `GraphDef` computes, whatever its nodes and functions are called.

    Attributes:
        nodes: a tuple for each node, in the order of the graph.
    """

    def __init__(self, graph: Any):
        """Initializes the form of a graph."""
        self._functions = {f.signature.name: f for f in graph.library.function}
        self._known: dict[str, str] = {}
        self.nodes = self._of_nodes(graph.node, {})

    def _of_nodes(self, nodes: Any, places: dict[str, str]) -> list[tuple]:
        places |= {node.name: f"node {k}" for k, node in enumerate(nodes)}
        return [
            (
                node.op,
                [_placed(name, places) for name in node.input],
                {k: self._of_attr(node.attr[k]) for k in sorted(node.attr)},
            )
            for node in nodes
        ]

    def _of_attr(self, attr: Any) -> Any:
        kind = attr.WhichOneof("value")
        if kind == "func":
            return self._of_function(attr.func.name)
        if kind == "list" and attr.list.func:
            return [self._of_function(f.name) for f in attr.list.func]
        return attr.SerializeToString(deterministic=True)

    def _of_function(self, name: str) -> str:
        if name not in self._functions:
            return name
        if name not in self._known:
            f = self._functions[name]
            given = f.signature.input_arg
            places = {a.name: f"input {k}" for k, a in enumerate(given)}
            nodes = self._of_nodes(f.node_def, places)
            returned = [
                _placed(f.ret[a.name], places) for a in f.signature.output_arg
            ]
            types = [(a.type, a.is_ref) for a in given]
            self._known[name] = repr((types, nodes, returned))
        return self._known[name]


def _placed(name: str, places: dict[str, str]) -> str:
    """Returns an input such as `^node:out:0` with the node's place."""
    control = "^" if name.startswith("^") else ""
    node, colon, output = name.removeprefix("^").partition(":")
    return f"{control}{places.get(node, node)}{colon}{output}"
