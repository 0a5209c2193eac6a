"""Secrets in URLs: refused in recipes, and left out of messages."""

import re
from urllib.parse import parse_qsl, urlsplit

from pipeline.core.errors import UserError

# in names of a query
SECRETS = ("key", "token", "sig", "secret", "pass", "pwd", "credential", "auth", "jwt")
CONTAINERS = ("az", "abfs")  # Azure's: CONTAINER@ACCOUNT.dfs.core.windows.net


def check_url(url: str) -> None:
    """Raise UserError for a URL that holds a secret, since recipes are stored in MLflow and git,
    and for one that is none."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"{without_secrets(url)}: is no URL ({error}): correct it") from None
    names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    held = next((name for name in sorted(names) if any(s in name for s in SECRETS)), None)
    user = parts.username if parts.scheme not in CONTAINERS else None
    if user or parts.password or held:
        what = f"the secret {held!r}" if held else "a user or password"
        shown = f"{parts.scheme}://{parts.hostname}{parts.path}"
        raise UserError(f"{shown}: holds {what}: give credentials by environment variables")


def without_secrets(message: str) -> str:
    """Return the first line of a message without the queries and users of its URLs, such as the
    signature of an address to which a server has redirected."""
    line = (message.splitlines() or [""])[0][:400]
    return re.sub(r"(\w+://)([^/\s@]*@)?([^\s?'\"]*)(\?[^\s'\"]*)?", r"\1\3", line)[:200]
