"""Where a kind of hyperparameter acts on a training."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a kind acts; methods and the checks between kinds ask for it.

    Attributes:
        through: where training feels the values: `"loss"`, through the
            gradient of the training loss; `"update"`, through numbers of the
            optimizer; `"start"`, through the first weights alone. Methods
            refuse kinds that they cannot see.
        names: what changes for each weight: numbers of the optimizer, such as
            `"learning_rate"`, or `"start"`. Empty where no other kind could
            replace what this kind does.
        weights: ids of the variables for which these change; empty until the
            kind is bound to a model.
        overrides: whether the values take the place of what was there. A kind
            that acts in the same place before would have no effect, and is
            refused.
        reverse_steps: how many reverse steps, spread over a training, it takes
            to see every value; `None` for as many as the training has. More
            than 1 for values that act in some steps only: a walk backward over
            a part of the training cannot see all of these.
    """

    through: str = "loss"
    names: tuple[str, ...] = ()
    _: dataclasses.KW_ONLY
    weights: frozenset[int] = frozenset()
    overrides: bool = False
    reverse_steps: int | None = 1

    def pairs(self) -> set[tuple[str, int]]:
        """Returns the pairs of a name and the id of a variable."""
        return {
            (name, weight) for name in self.names for weight in self.weights
        }
