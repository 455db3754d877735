"""Runs the cases of `replica_cases` under a strategy.

    python tests/replica_program.py FILE COUNT [NAMES]

writes to FILE what the cases return on COUNT logical CPUs, or, where
`TF_CONFIG` tells of a cluster, on its workers, of which each has a FILE.
"""

import os
import sys

import numpy as np
import tensorflow as tf


def strategy_of(count: int) -> tf.distribute.Strategy:
    """Returns a strategy; to be called before TensorFlow looks at devices."""
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device] * count)
    return tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(count)])


def results(strategy, names) -> dict[str, np.ndarray]:
    """Returns what cases return, by the names of case and array."""
    from conftest import precision
    from replica_cases import CASES, WITH_SURROUNDINGS

    found = {}
    for name in names or CASES:
        try:
            with precision("float64"), strategy.scope():
                arrays = (CASES | WITH_SURROUNDINGS)[name]()
        except Exception as error:
            arrays = {"error": f"{type(error).__name__}: {error}"}
        found |= {f"{name}/{k}": np.asarray(v) for k, v in arrays.items()}
    return found


if __name__ == "__main__":
    path, count, *names = sys.argv[1:]
    np.savez(path, **results(strategy_of(int(count)), names))
