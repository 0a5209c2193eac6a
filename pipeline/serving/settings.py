"""Settings of a server: recipe, limits, API keys and host names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.core.errors import UserError

KEYS = "BERTLINE_API_KEYS"  # environment variable: keys separated by commas


@dataclass(frozen=True)
class Limits:
    """Limits of a request."""

    characters: int = 100_000
    """Maximum length of a text."""
    rows: int = 1_000
    bytes: int = 8 * 2**20
    """Maximum size of the body."""
    deadline: float = 10.0
    """Seconds after which an unanswered request is given up."""
    slow_header: float = 10.0
    """Seconds within which the header must arrive."""
    slow_body: float = 10.0
    """Seconds within which the body must arrive."""


@dataclass(frozen=True)
class Settings:
    """Settings of one recipe's server."""

    recipe: str
    limits: Limits = Limits()
    keys: frozenset[str] = field(default=frozenset(), repr=False)
    """Accepted API keys; without any, requests need no key."""
    hosts: frozenset[str] = frozenset()
    """Host names besides localhost that a proxy on this machine may pass on."""


def api_keys(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Read the API keys from the environment.

    Raises UserError, which quotes no key, if one cannot be sent in a header.
    """
    keys = [key.strip() for key in environment.get(KEYS, "").split(",")]
    for place, key in enumerate(keys, 1):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UserError(f"{KEYS}: key {place}: use printable ASCII without spaces")
    return frozenset(key for key in keys if key)
