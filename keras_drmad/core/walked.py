"""What is known of a walk: its parts, a span that was walked, a derivative."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad.core import nested
from keras_drmad.core.span import Span
from keras_drmad.core.state import Adjoint, Setting


class Diverged(FloatingPointError):
    """A training that left the finite numbers.

    Attributes:
        step: int, the elementary step at which it did, counted from 1.
        what: str, the loss that did.
    """

    def __init__(
        self,
        step: int,
        what: str,
        meta_iteration: int | None = None,
        halvings: int = 0,
    ):
        where = f" of meta-iteration {meta_iteration}" if meta_iteration else ""
        if halvings:
            where += f", after learning rates were halved {halvings} times"
        super().__init__(
            f"The {what} loss became nan or inf at step {step}{where}. Lower "
            "the learning rate, or clip gradients with the optimizer's "
            "`clipnorm`; if hyperparameters drove it there, give them "
            "`bounds` or a smaller meta-optimizer step."
        )
        self.step = step
        self.what = what


class Ended(Exception):
    """Ends a walk, and the reading of what would have come next."""


class OtherBatches(Exception):
    """A walk that goes on was given other batches: it is to begin anew."""


class Watcher:
    """Is told of the chunks of one training; this watcher ignores them.

    What a stage of the training (`"forward"`, `"slopes"`, `"validation"`,
    `"backward"`, and at last the `"outcome"`) needs to go on after a chunk,
    the watcher is told as a tree of dicts. Who keeps the tree may hand it back
    to a later walk, of another process even; this walk then passes over the
    chunks that were done.

    Attributes:
        may_assign: bool, whether variables may have other values after a call,
            so that constants have to be read again.
        keeps: bool, whether what `on_chunk` is told is kept, so that there is
            a use for what is remembered for that alone.
    """

    may_assign = False
    keeps = False

    def longest(self, most: int) -> int:
        """Returns how many steps forward a chunk may have.

        Args:
            most: int, how many it would have.
        """
        return most

    def begun(self, stage: str) -> dict[str, Any]:
        """Returns what `on_chunk` was told of a stage that is to go on.

        Args:
            stage: str.

        Returns:
            The tree, of the last chunk that was kept; empty where the stage is
            to begin.
        """
        return {}

    def on_begin(self, first: int) -> None:
        """Is called before a chunk forward, with the chunk's first step."""

    def on_end(self, last: int, logs: dict[str, float]) -> None:
        """Is called after a chunk forward, with its last step and metrics."""

    def on_other_batches(self) -> None:
        """Is called where a walk that goes on was given other batches."""

    def on_chunk(self, stage: str, steps: int, tree: dict[str, Any]) -> None:
        """Is called after each chunk of each stage.

        Args:
            stage: str.
            steps: int, the minibatches of the chunk.
            tree: what the stage needs to go on, empty if it can only begin
                anew. Its dicts may change after the call, its leaves do not.
        """


NOBODY = Watcher()


class Part(NamedTuple):
    """A chunk of iterations that was walked forward.

    Attributes:
        iterations: `(n,)`, consecutive.
        before: the state at the first iteration.
        after: the state after the last iteration.
        notes: what the recorder wrote down; `()` where it was not at work.
        logs: dict of the training metrics so far.
    """

    iterations: np.ndarray
    before: Any
    after: Any
    notes: Any
    logs: dict[str, float]

    @property
    def first(self) -> int:
        """The first iteration."""
        return int(self.iterations[0])

    @property
    def last(self) -> int:
        """The last iteration."""
        return int(self.iterations[-1])


class Walked(NamedTuple):
    """A span of a training that was walked forward.

    Attributes:
        span: the iterations.
        state: the state at the span's end.
        settings: list of pairs, the first iteration and the `Setting` that
            holds from there on, ascending.
        memory: what the differentiation remembers.
        logs: dict of the training metrics over the last epoch.
    """

    span: Span
    state: Any
    settings: list[tuple[int, Setting]]
    memory: Any
    logs: dict[str, float]

    @property
    def hparams(self) -> list[tf.Tensor]:
        """The raw values λ that the span was walked with."""
        return self.settings[0][1].hparams

    def settings_of(
        self, iterations: np.ndarray
    ) -> list[tuple[Setting, int, int]]:
        """Divides a chunk by the settings of its iterations.

        Args:
            iterations: `(n,)`, ascending.

        Returns:
            A list of `(setting, first, last)`, places [first, last) in the
            chunk, ascending, none of them empty.
        """
        firsts = [first for first, _ in self.settings]
        ends = np.searchsorted(iterations, [*firsts[1:], np.iinfo(int).max])
        places = zip([0, *ends[:-1]], ends, strict=True)
        return [
            (setting, int(first), int(last))
            for (_, setting), (first, last) in zip(
                self.settings, places, strict=True
            )
            if first < last
        ]


class Window(NamedTuple):
    """A span that was walked forward, to a loss, and backward.

    Attributes:
        state: the state at the span's end.
        logs: dict of the training metrics so far.
        loss: float, on the held-out minibatches.
        d_hparams: list of tensors, its derivative by λ, where λ acts in the
            span alone.
        report: as of `Derivative`.
    """

    state: Any
    logs: dict[str, float]
    loss: float
    d_hparams: list[tf.Tensor]
    report: dict[str, float]


class Derivative(NamedTuple):
    """The result of a walk backward.

    Attributes:
        d_hparams: list of tensors aᵀ ∂s_last/∂λ, the effect of λ in the span.
        adjoint: list of tensors aᵀ ∂s_last/∂s, of the first state that the
            walk visited. Of an exact walk through the whole span that is the
            span's first state; for others it stands in that state's place.
        is_whole: bool, whether the walk took all the steps that it was to
            take.
        report: dict of floats, `adjoint_growth`, `reverse_steps` and
            `reverse_steps_used` (see `Hypergradient`), and those of the
            differentiation's own.
    """

    d_hparams: list[tf.Tensor]
    adjoint: list[tf.Tensor]
    is_whole: bool
    report: dict[str, float]


def adjoint_at_end(
    adjoint: list[tf.Tensor], hparams: list[tf.Tensor], params: int
) -> tuple[Any, tf.Tensor]:
    """Returns where a walk backward begins, and what growth is measured by.

    That is the norm of ∂F/∂w_T; where it is 0, of ∂F/∂s_T; 1 where that is 0
    too.

    Args:
        adjoint: list of tensors ∂F/∂s_T.
        hparams: list of tensors λ.
        params: int, how many of the adjoint's tensors belong to parameters.
    """
    first_norm = nested.norm(adjoint[:params])
    # Averaged weights (`use_ema`) are slots; F does not depend on others then.
    first_norm = tf.where(
        first_norm > 0,
        first_norm,
        tf.cast(nested.norm(adjoint), first_norm.dtype),
    )
    one = tf.ones_like(first_norm)
    so_far = Adjoint(
        adjoint=adjoint,
        d_hparams=nested.zeros_like(hparams),
        growth=one,
        steps=tf.constant(0),
        goes_on=tf.constant(True),
    )
    return so_far, tf.where(first_norm > 0, first_norm, one)


def finite_limit(growth_limit: float, dtype: tf.DType) -> tf.Tensor:
    """Returns a limit of growth as a number that TensorFlow takes for sound.

    `tf.debugging.enable_check_numerics` refuses any inf in a graph.

    Args:
        growth_limit: float, as for `Walk.backward`.
        dtype: of the result.
    """
    return tf.constant(min(growth_limit, dtype.max), dtype)
