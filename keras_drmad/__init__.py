"""keras_drmad: hyperparameters of Keras models, learned by gradient."""

from typing import TYPE_CHECKING

from keras_drmad import versions

versions.check()  # before anything that imports Keras or TensorFlow

from keras_drmad import (  # noqa: E402
    callbacks,
    hyperparameters,
    layers,
    loss_along_line,
    plots,
)
from keras_drmad.meta_optimizers import (  # noqa: E402
    SignConsensus,
    SignDescent,
)
from keras_drmad.methods import (  # noqa: E402
    Auto,
    DrMAD,
    ForwardMode,
    Implicit,
    OneStep,
    ReverseMode,
    Truncated,
)
from keras_drmad.model import DrMADModel  # noqa: E402
from keras_drmad.tunable_model import tunable  # noqa: E402

if TYPE_CHECKING:
    from keras_drmad.meta_rate_search import (
        MetaRateSearch as MetaRateSearch,
    )
else:

    def __getattr__(name):
        """Imports what needs KerasTuner, an extra, when it is asked for."""
        if name == "MetaRateSearch":
            from keras_drmad.meta_rate_search import MetaRateSearch

            return MetaRateSearch
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# `MetaRateSearch` is left out: a star would import KerasTuner.
__all__ = [
    "Auto",
    "DrMAD",
    "DrMADModel",
    "ForwardMode",
    "Implicit",
    "OneStep",
    "ReverseMode",
    "SignConsensus",
    "SignDescent",
    "Truncated",
    "callbacks",
    "hyperparameters",
    "layers",
    "loss_along_line",
    "plots",
    "tunable",
]
__version__ = "0.2.0"
