"""The host's loops: data, trainings, meta-iterations."""
