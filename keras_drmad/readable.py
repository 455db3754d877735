"""What a tuned model found, for its user to read."""

from collections.abc import Callable
from typing import Any

from keras_drmad import results_summary, results_table


class Readable:
    """A model that tells what its tuning found.

    A part of `DrMADModel`. `keras_drmad.plots` draws what these methods tell.
    """

    def results_summary(
        self: Any, print_fn: Callable[[str], Any] | None = None
    ) -> None:
        """Prints what the `fit`s since `compile` found.

        For each hyperparameter: values at the start and now, and bounds; the
        entries that moved most, by layer and place; those that did not move,
        or whose gradients had the signs of a coin (with `SignConsensus`); and
        how many ended at their bounds. The losses of the first, the best and
        the last training. The verdict of the last `check_hyperparameters`, if
        no `fit` came after.

        An entry *did not move* if its raw value moved by less than 0.05 of its
        natural unit: by less than 5 %, of a penalty or a rate. Signs are *sure*
        if their sum is more than two standard deviations of a coin's.

        Args:
            print_fn: takes the text; `print` by default.

        Raises:
            ValueError: if no `fit` has tuned the model since `compile`.
        """
        (print_fn or print)(results_summary.summary(self))

    def to_dataframe(self: Any) -> Any:
        """Returns a row for each entry of each hyperparameter, for pandas.

        Columns: `name`, `kind`, `layer` and `weight` (categories, "" where
        there is none); `entry`, the place among the flat values; a column for
        each axis that entries have, such as `input`, `step` or `example`,
        missing for entries that are not on it; `start` and `value`, before the
        first `fit` and now; `start_raw` and `raw`; `moved`, the way between
        these in natural units (of a penalty: the logarithm of its factor);
        `certainty`, `votes` and `is_certain`, missing without `SignConsensus`;
        `low` and `high`, the bounds; and `at_bound`: "low", "high" or "".

        Example:

        ```python
        table = model.to_dataframe()
        table.groupby("layer", observed=True)["value"].median()
        table[table.is_certain].sort_values("moved").head(10)
        ```

        Returns:
            `pandas.DataFrame`.

        Raises:
            ImportError: if there is no pandas.
            ValueError: if no `fit` has tuned the model since `compile`.
        """
        return results_table.table(self)
