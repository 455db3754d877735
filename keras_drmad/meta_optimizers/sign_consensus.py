"""A common part by sign steps, and the consensus of each entry's signs."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import arguments, keras_internals
from keras_drmad.meta_optimizers.base import Facts, MetaOptimizer, signs

SINGLE = ("common", "consensus", "both")


@keras.saving.register_keras_serializable("keras_drmad")
class SignConsensus(MetaOptimizer):
    """Moves each entry as far as the signs of its gradients agree.

    Let g be the gradient by one kind's raw values in a meta-iteration, and u
    the natural unit of these values (`Hyperparameter.unit`; 1 for logarithms
    and logits). Let R be `reach`, times 4 for the logits of examples' weights
    (`Hyperparameter.reach`; of other kinds 1). With a part that all entries
    share, and one for each layer,

        raw_i = start_i + u_i (common + layer(i) + R · S_i / (n_i + prior)),
        S_i = Σ −sign(g_i),    over the n_i gradients that were not 0,
        common   <- common − learning_rate · sign(Σ_i u_i g_i),
        layer(l) <- layer(l) − layer_rate · learning_rate · sign(Σ_l u_i g_i),

    and raw_i is clipped to the bounds. An entry whose sign is certain moves by
    up to R units; an entry whose sign is a coin's stays where the common parts
    are, where steps of a fixed size would take a random walk. At a fixed point

        (raw_i − start_i) / u_i − common − layer(i) = −R · E[sign(g_i)]:

    sign descent with a pull to the common value.

    A kind with a single entry has no consensus of its own by default, and a
    layer has a part if there are several layers and the layer has several
    entries. A gradient that is 0, or not finite, is no vote: the entry has its
    consensus from the other gradients. `start` is the raw value at first; where
    raw values were assigned since the last step (as `fit` assigns means), start
    changes such that the rule goes on from the values found. What is clipped is
    remembered, so that an entry held at a bound leaves the bound when its signs
    turn. Common parts do not take the mean of the entries that they move,
    without the consensus, out of the bounds.

    Four slots of the size of the raw values. Example:

    ```python
    model.compile(..., meta_optimizer=kd.SignConsensus())
    model.fit(...)
    model.meta_optimizer.certainty(model.hyperparameters[0].raw)
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 0.3,
        *,
        reach: float = 3.0,
        prior: float = 6.0,
        layer_rate: float = 0.5,
        single: str = "common",
        forget: float = 1.0,
        name: str = "sign_consensus",
        **kwargs: Any,
    ):
        """Initializes the optimizer.

        Args:
            learning_rate: positive float or a `LearningRateSchedule`, the size
                of the common part's steps in units of the raw value (for a
                penalty, of the natural logarithm of its coefficient).
            reach: positive float, how far an entry moves from the common parts
                at most, in the same units; of some kinds four times as far,
                see `Hyperparameter.reach`.
            prior: positive float, the number of votes at which an entry whose
                signs all agree has moved by half of `reach`.
            layer_rate: float, at least 0, the size of the steps of layers'
                parts, as a part of `learning_rate`; 0 for no such parts.
            single: str, what moves a kind with a single entry: `"common"`, the
                steps of the common part; `"consensus"`, of which the n-th step
                has a size of about `reach / (n + prior)`; or `"both"`.
            forget: float in (0, 1], by which earlier votes are multiplied at
                each new vote; 1 for votes that all count the same.
            name: str.
            **kwargs: arguments of `keras.optimizers.Optimizer`.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if an argument is out of its range.
        """
        super().__init__(learning_rate, name=name, **kwargs)
        self.reach = arguments.positive("reach", reach)
        self.prior = arguments.positive("prior", prior)
        self.layer_rate = arguments.real("layer_rate", layer_rate)
        if self.layer_rate < 0:
            raise arguments.value_error("layer_rate", layer_rate, "at least 0")
        self.single = arguments.choice("single", single, SINGLE)
        expected = "a number in (0, 1]"
        self.forget = arguments.positive("forget", forget, expected=expected)
        if self.forget > 1:
            raise arguments.value_error("forget", forget, expected)

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the slots.

        Args:
            variables: list of `keras.Variable`, the raw values.

        Raises:
            ValueError: as `MetaOptimizer.build` does.
        """
        if self.built:
            return
        super().build(variables)
        self.starts, self.sums, self.counts, self.left = (
            [self.add_variable_from_reference(v, name) for v in variables]
            for name in ("start", "sum", "count", "left")
        )
        # The common part, then one for each layer that has a number.
        self.parts = [
            self.add_variable(
                (1 + facts.layer_count,),
                dtype=variable.dtype,
                name=f"{variable.name}_parts",
            )
            for variable, facts in zip(variables, self.known.facts, strict=True)
        ]

    # ---- the rule

    def update_step(self, gradient, variable, learning_rate):
        """Moves one variable."""
        k = keras_internals.place_in(self, variable)
        dtype, facts = variable.dtype, self.known.facts[k]
        gradient = tf.convert_to_tensor(gradient)
        self.assign(self.starts[k], self._start(k, variable))
        # -S_i and n_i
        vote = tf.cast(signs(gradient), dtype)
        has_voted = tf.abs(vote)
        kept = 1 - (1 - self.forget) * has_voted
        self.assign(self.sums[k], self.sums[k] * kept + vote)
        self.assign(self.counts[k], self.counts[k] * kept + has_voted)
        # common, layer(l)
        slope = tf.cast(_of_size_1(gradient), dtype) * self.units[k]
        rate = tf.cast(learning_rate, dtype)
        self.assign(self.parts[k], self._parts(k, slope, rate))
        # raw_i
        raw = tf.clip_by_value(self._target(k), *facts.bounds)
        self.assign(variable, raw)
        self.assign(self.left[k], raw)

    def _start(self, k: int, variable: Any) -> tf.Tensor:
        """Returns start, changed where raw values were assigned."""
        raw = tf.convert_to_tensor(variable)
        start = raw - self.units[k] * self._moved(k)
        return tf.where(tf.equal(raw, self.left[k]), self.starts[k], start)

    def _parts(self, k: int, slope: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        """Returns the common part and those of the layers after a step.

        Args:
            k: int, the place of the variable.
            slope: tensor of the shape of raw, in proportion to u g.
            rate: scalar.
        """
        facts, parts = self.known.facts[k], self.parts[k]
        start = tf.convert_to_tensor(self.starts[k])
        unit = tf.broadcast_to(self.units[k], start.shape)
        all_of_them = tf.zeros(tf.size(start), tf.int32)
        steps = 0.0 if self._has_no_common_part(facts) else rate
        common = _stepped(
            parts[:1], slope, steps, start, unit, all_of_them, facts.bounds
        )
        if not facts.layer_count:
            return common
        layers = _stepped(
            parts[:],
            slope,
            rate * self.layer_rate,
            start + unit * common,
            unit,
            facts.layers,
            facts.bounds,
        )
        return tf.concat([common, layers[1:]], 0)

    def _target(self, k: int) -> tf.Tensor:
        """Returns the raw values, not clipped."""
        return self.starts[k] + self.units[k] * self._moved(k)

    def _moved(self, k: int) -> tf.Tensor:
        """Returns how far raw values are from start, in units."""
        facts, parts = self.known.facts[k], tf.convert_to_tensor(self.parts[k])
        moved = parts[0] - self._consensus(k, self.sums[k], self.counts[k])
        if facts.layer_count:
            each = tf.concat([tf.zeros_like(parts[:1]), parts[1:]], 0)
            moved += tf.reshape(tf.gather(each, facts.layers), moved.shape)
        return moved

    def _consensus(self, k: int, sums: Any, counts: Any) -> tf.Tensor:
        """Returns the part of each entry's own, for sums of signs."""
        is_single = self.known.facts[k].layers.size == 1
        if is_single and self.single == "common":
            return tf.zeros_like(sums)
        reach = self.reach * self.known.facts[k].reach
        return reach * sums / (counts + self.prior)

    def _has_no_common_part(self, facts: Facts) -> bool:
        return facts.layers.size == 1 and self.single == "consensus"

    # ---- for users

    def certainty(self, raw: keras.Variable) -> np.ndarray:
        """Returns how certain the sign of each entry's gradient was.

        |S_i| / n_i: 1 where all signs agreed, about 1 / √n_i where signs are
        a coin's, and 0 without a vote.

        Args:
            raw: `keras.Variable`, the `raw` of a hyperparameter.

        Returns:
            Array of the shape of `raw`, in [0, 1].

        Raises:
            ValueError: if the optimizer was not built for the variable.
        """
        k = self.place(raw)
        sums, counts = (_array(slots[k]) for slots in (self.sums, self.counts))
        return np.abs(sums) / np.where(counts > 0, counts, 1)

    def votes(self, raw: keras.Variable) -> np.ndarray:
        """Returns n_i, how many gradients of each entry were not 0.

        With `forget` below 1, the sum of the weights that they still have.

        Args:
            raw: `keras.Variable`, the `raw` of a hyperparameter.

        Returns:
            Array of the shape of `raw`.

        Raises:
            ValueError: if the optimizer was not built for the variable.
        """
        return _array(self.counts[self.place(raw)])

    def within_reach(
        self, raw: keras.Variable, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        k = self.place(raw)
        facts, unit = self.known.facts[k], _array(self.units[k])
        sums, counts = _array(self.sums[k]), _array(self.counts[k])
        shared = 1 + self.layer_rate * (facts.layers > 0).reshape(sums.shape)
        shared *= 0 if self._has_no_common_part(facts) else self.rates(steps)
        kept = self.forget**steps
        new = sum(self.forget**m for m in range(steps))
        now = _array(self._consensus(k, sums, counts))

        def end(sign):
            agreed = sums * kept - sign * new
            own = _array(self._consensus(k, agreed, counts * kept + new))
            return centre + unit * (sign * shared + now - own)

        centre = _array(self._start(k, raw)) + unit * _array(self._moved(k))
        return end(-1), end(1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "reach": self.reach,
            "prior": self.prior,
            "layer_rate": self.layer_rate,
            "single": self.single,
            "forget": self.forget,
        }


def _of_size_1(gradient: tf.Tensor) -> tf.Tensor:
    """Returns a gradient divided by its largest entry, 0 where not finite.

    So that neither sums overflow nor float32 rounds small gradients to 0.
    """
    finite = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
    largest = tf.reduce_max(tf.abs(finite))
    return finite / tf.where(largest > 0, largest, 1.0)


def _stepped(
    parts: tf.Tensor,
    slope: tf.Tensor,
    rate: Any,
    centre: tf.Tensor,
    unit: tf.Tensor,
    numbers: Any,
    bounds: tuple[float, float],
) -> tf.Tensor:
    """Returns parts after a step against the signs of their entries' sums.

    A step does not take the mean of a part's entries out of the bounds; but a
    part that is out of the bounds, for values were assigned, may stay there.

    Args:
        parts: `(count,)`, before the step.
        slope: tensor of the shape of raw, the gradient in units.
        rate: scalar.
        centre: tensor of the shape of raw, the raw values without the parts.
        unit: tensor of the shape of raw.
        numbers: `(size,)` integers, of which part each entry is.
        bounds: `(lowest, highest)` raw number.
    """

    def sums(tensor):
        flat = tf.reshape(tensor, [-1])
        return tf.math.unsorted_segment_sum(flat, numbers, parts.shape[0])

    size = tf.maximum(sums(tf.ones_like(unit)), 1)
    mean, unit = sums(centre) / size, sums(unit) / size
    stepped = parts - rate * tf.sign(sums(slope))
    lowest, highest = bounds
    # Without inf, which `tf.debugging.enable_check_numerics` refuses.
    if math.isfinite(lowest):
        stepped = tf.maximum(stepped, tf.minimum((lowest - mean) / unit, parts))
    if math.isfinite(highest):
        highest = tf.maximum((highest - mean) / unit, parts)
        stepped = tf.minimum(stepped, highest)
    return stepped


def _array(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)
