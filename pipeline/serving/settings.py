"""What a server is told before it starts: its recipe, its limits, and who may ask."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.core.errors import UserError

KEYS = "BERTLINE_API_KEYS"  # of the environment: keys with commas between them


@dataclass(frozen=True)
class Limits:
    """What a request may cost."""

    characters: int = 100_000
    """Of one text."""
    rows: int = 1_000
    """Of one request."""
    bytes: int = 8 * 2**20
    """Of one request's body."""
    deadline: float = 10.0
    """Seconds after which a request that has not been answered is given up."""
    slow_header: float = 10.0
    """Seconds within which a request's header has to be here."""
    slow_body: float = 10.0
    """Seconds within which its body has to be here."""


@dataclass(frozen=True)
class Settings:
    """A server of one recipe."""

    recipe: str
    limits: Limits = Limits()
    keys: frozenset[str] = field(default=frozenset(), repr=False)
    """Any one of them is asked of everybody; none: nobody is asked."""
    hosts: frozenset[str] = frozenset()
    """Names besides localhost by which a proxy on this machine may ask."""


def api_keys(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """The keys that the environment holds. Raises UserError, which quotes none, where one cannot
    be sent in a header."""
    keys = [key.strip() for key in environment.get(KEYS, "").split(",")]
    for place, key in enumerate(keys, 1):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UserError(f"{KEYS}: key {place}: use printable ASCII without spaces")
    return frozenset(key for key in keys if key)
