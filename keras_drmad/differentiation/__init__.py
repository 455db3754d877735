"""Ways back: how the states of a training are known on the way back."""

from keras_drmad.differentiation.base import Trajectory
from keras_drmad.differentiation.checkpointed import Checkpointed
from keras_drmad.differentiation.end import FinalPoint
from keras_drmad.differentiation.line import Shortcut
from keras_drmad.differentiation.lines import Anchored
from keras_drmad.differentiation.reversible import Reversible
from keras_drmad.differentiation.stored import Stored

__all__ = [
    "Anchored",
    "Checkpointed",
    "FinalPoint",
    "Reversible",
    "Shortcut",
    "Stored",
    "Trajectory",
]
