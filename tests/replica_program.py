"""Runs the cases of `replica_cases` under strategies.

    python tests/replica_program.py FILE COUNT[:NAME,NAME] ...

writes to FILE what the cases return on each COUNT of logical CPUs, or, where
`TF_CONFIG` tells of a cluster, on its workers, of which each has a FILE.
"""

import os
import sys

import numpy as np
import tensorflow as tf


def strategies(counts: list[int]) -> list[tf.distribute.Strategy]:
    """Returns a strategy each; to be called before TensorFlow sees devices."""
    if "TF_CONFIG" in os.environ:
        return [tf.distribute.MultiWorkerMirroredStrategy()]
    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * max(counts)
    tf.config.set_logical_device_configuration(cpu, devices)
    each = [[f"CPU:{k}" for k in range(count)] for count in counts]
    return [tf.distribute.MirroredStrategy(names) for names in each]


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
    path, *asked = sys.argv[1:]
    pairs = [one.partition(":")[::2] for one in asked]
    counts = [int(count) for count, _ in pairs]
    found = {}
    for strategy, (count, names) in zip(strategies(counts), pairs, strict=True):
        arrays = results(strategy, names.split(",") if names else [])
        found |= {f"{count}/{k}": v for k, v in arrays.items()}
    np.savez(path, **found)
