"""The lock that MLflow's database keeps."""

import socket
import subprocess

import pytest

from pipeline.core.errors import Unavailable
from pipeline.registry.ledger import Ledger
from tests.pipeline.registry.toys import Versions


def test_the_lock_lets_one_in_and_outlives_no_dead_holder(tracking: str) -> None:
    registry = Versions(tracking)
    ledger = Ledger(registry, "toy")
    held = pytest.raises(Unavailable, match=r"toy\.lock is held by process")
    with ledger.lock(), held, ledger.lock(patience=0.3):
        pass
    with ledger.lock(patience=0.3):
        pass
    dead = subprocess.Popen(["true"])
    dead.wait()
    tags = {"host": socket.gethostname(), "process": str(dead.pid), "until": "9e9"}
    registry.client.create_registered_model("toy.lock", tags=tags | {"token": "t"})
    with ledger.lock(patience=0.3):
        pass
    elsewhere = tags | {"host": "another", "token": "u"}
    registry.client.create_registered_model("toy.lock", tags=elsewhere)
    with pytest.raises(Unavailable), ledger.lock(patience=0.3):
        pass
    registry.client.set_registered_model_tag("toy.lock", "until", "1")  # its lease is over
    with ledger.lock(patience=0.3):
        pass
