"""Where the server is reached: an address, and the socket that listens on it."""

import contextlib
import errno
import ipaddress
import socket
import time
from collections.abc import Iterator
from functools import lru_cache

from pipeline.core.errors import UserError

LINGERS = 1.5  # seconds for which the worker of a process that was killed may keep its port
BACKLOG = 2048


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Whether that is an address, or the name, by which this machine alone can reach itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def opened(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections. Raises UserError where there can be none."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"{host}:{port}: cannot be listened on ({error})") from None
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until = time.monotonic() + LINGERS
        while True:
            try:
                listening.bind(address)
                listening.listen(BACKLOG)
                break
            except (OSError, OverflowError) as error:
                if getattr(error, "errno", None) != errno.EADDRINUSE or time.monotonic() > until:
                    raise UserError(
                        f"{host}:{port}: cannot be listened on ({error}): try another --port"
                    ) from None
                time.sleep(0.05)
        yield listening
