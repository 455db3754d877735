"""A cluster of two workers on this machine."""

import json
import socket


def configs() -> list[str]:
    """Returns what `TF_CONFIG` says to each of two workers."""
    ports = []
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
            ports.append(each.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return [
        json.dumps(
            {"cluster": cluster, "task": {"type": "worker", "index": index}}
        )
        for index in range(2)
    ]
