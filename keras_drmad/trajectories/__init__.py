"""Ways back: how the states of a training are known on the way back."""

from keras_drmad.trajectories.base import Trajectory
from keras_drmad.trajectories.shortcut import Shortcut
from keras_drmad.trajectories.stored import Stored

__all__ = ["Shortcut", "Stored", "Trajectory"]
