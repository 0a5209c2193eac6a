"""A lock in MLflow's database, shared by all machines that use it.

MLflow has no compare-and-swap, but names of registered models are unique: to take the lock is to
create a registered model, to release it is to delete that model.
"""

import os
import random
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from pipeline.core.errors import Unavailable

# error codes for a name that is taken; the second if it was released in the same moment
HELD = ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
LEASE = 300.0  # seconds after which a lock counts as abandoned, wherever its holder runs


@contextmanager
def hold(client: Any, name: str, address: str, patience: float) -> Iterator[None]:
    """Hold the lock of that name; it is not reentrant.

    A lock is broken if its process on this machine has ended, or if it is older than LEASE. Raises
    Unavailable, which names MLflow's address, after `patience` seconds.
    """
    token = uuid4().hex
    _acquire(client, name, token, address, time.monotonic() + patience)
    try:
        yield
    finally:
        holder = _holder(client, name)
        if holder and holder.get("token") == token:
            client.delete_registered_model(name)


def _acquire(client: Any, name: str, token: str, address: str, deadline: float) -> None:
    from mlflow.exceptions import MlflowException

    while True:
        own = {
            "token": token,
            "host": socket.gethostname(),
            "process": str(os.getpid()),
            "until": str(time.time() + LEASE),
        }
        try:
            client.create_registered_model(name, tags=own)
            return
        except MlflowException as error:
            if error.error_code not in HELD:
                raise
        holder = _holder(client, name)
        if holder and _is_gone(holder):
            _break(client, name, holder["token"])
        elif time.monotonic() > deadline:
            holder = holder or {}
            raise Unavailable(
                f"MLflow at {address}: {name} is held by process {holder.get('process')} on"
                f" {holder.get('host')}: try again when it has ended"
            )
        time.sleep(random.uniform(0.02, 0.2))


def _holder(client: Any, name: str) -> dict[str, str] | None:
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_registered_model(name).tags)
    except MlflowException:
        return None


def _is_gone(holder: Mapping[str, str]) -> bool:
    if time.time() > float(holder["until"]):
        return True
    if holder["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _break(client: Any, name: str, token: str) -> None:
    """Break the lock of a dead process by renaming it after its token.

    Only one process can rename it, and a new lock taken in the meantime is not mistaken for it.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.rename_registered_model(name, f"{name}.{token}")
    except (MlflowException, Unavailable):
        return
    for old in client.search_registered_models(f"name LIKE '{name}.%'"):
        if float(old.tags.get("until", 0)) + LEASE < time.time():
            client.delete_registered_model(old.name)
