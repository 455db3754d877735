"""Copies of what was traced, in the graphs that compute it once more.

To trace Python's operations one by one takes five times as long as to copy a
graph of them.
"""

from typing import Any

import tensorflow as tf

from keras_drmad.core import nested

# Operations that call functions: how TensorFlow differentiates them, their
# copies do not know.
CALLS = frozenset(
    {
        "Case",
        "If",
        "PartitionedCall",
        "StatefulPartitionedCall",
        "StatelessCase",
        "StatelessIf",
        "StatelessWhile",
        "While",
    }
)


class GraphCopy:
    """What copies a traced function into the graph that is built.

    Derivatives of a copy are those of `core.derivatives.vjp`, which asks the
    graph; a `tf.GradientTape` does not see what a copy does.
    """

    def __init__(self, traced: Any):
        """Initializes the copies.

        Args:
            traced: concrete function, of nested tensors and `None`s.
        """
        graph = traced.graph.as_graph_def()
        inputs = [x.name for x in traced.inputs]
        places = {_node(name) for name in inputs}
        nodes = [node for node in graph.node if node.name not in places]
        for node in nodes:
            node.attr.pop("_class", None)  # a place beside an input
        del graph.node[:]
        graph.node.extend(nodes)
        read = {_node(name) for node in nodes for name in node.input}
        self._graph = graph
        self._inputs = [name if _node(name) in read else "" for name in inputs]
        self._captured = traced.captured_inputs
        self._specs = [(x.shape, x.dtype) for x in traced.inputs]
        self._structure = traced.structured_outputs
        self._outputs = [(x.name, x.shape) for x in traced.outputs]

    def takes(self, args: Any) -> bool:
        """Returns whether arguments look like those of the trace."""
        given = [*nested.leaves(args), *self._captured]
        return [(x.shape, x.dtype) for x in given] == self._specs

    def __call__(self, args: Any) -> Any:
        """Adds a copy to the graph that is built now.

        Args:
            args: nested as what was traced, with tensors of these shapes.

        Returns:
            What the function returns.
        """
        graph = tf.compat.v1.get_default_graph()
        given = zip(
            self._inputs, [*nested.leaves(args), *self._captured], strict=True
        )
        found = tf.graph_util.import_graph_def(
            self._graph,
            input_map={name: graph.capture(x) for name, x in given if name},
            return_elements=[name for name, _ in self._outputs],
            name="copy",
        )
        for x, (_, shape) in zip(found, self._outputs, strict=True):
            x.set_shape(shape)
        return nested.with_tensors(self._structure, found)


def _node(name: str) -> str:
    """Returns the node of a tensor, or of a control input."""
    return name.removeprefix("^").partition(":")[0]
