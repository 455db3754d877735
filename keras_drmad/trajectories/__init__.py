"""Ways back: how the states of a training are known on the way back."""

from keras_drmad.trajectories.anchored import Anchored
from keras_drmad.trajectories.base import CHUNK_SIZE, Trajectory
from keras_drmad.trajectories.checkpointed import Checkpointed
from keras_drmad.trajectories.final_point import FinalPoint
from keras_drmad.trajectories.reversible import Reversible
from keras_drmad.trajectories.shortcut import Shortcut
from keras_drmad.trajectories.stored import Stored

__all__ = [
    "CHUNK_SIZE",
    "Anchored",
    "Checkpointed",
    "FinalPoint",
    "Reversible",
    "Shortcut",
    "Stored",
    "Trajectory",
]
