"""Address of the server and its listening socket."""

import contextlib
import errno
import ipaddress
import socket
import time
from collections.abc import Iterator
from functools import lru_cache

from pipeline.core.errors import UserError

LINGERS = 1.5  # seconds for which the worker of a killed server may still hold the port
BACKLOG = 2048


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """True if only this machine can reach a server on this address or host name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a listening socket. Raises UserError if the address cannot be used."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"{host}:{port}: cannot be listened on ({error})") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until = time.monotonic() + LINGERS
        while True:
            try:
                listener.bind(address)
                listener.listen(BACKLOG)
                break
            except (OSError, OverflowError) as error:
                if getattr(error, "errno", None) != errno.EADDRINUSE or time.monotonic() > until:
                    raise UserError(
                        f"{host}:{port}: cannot be listened on ({error}): try another --port"
                    ) from None
                time.sleep(0.05)
        yield listener
