"""Environment variables of the libraries, set before they are imported; a user's own values stay.

Where the home folder cannot be written to, as in a container with a read-only file system, their
files are kept in the working folder. Without that, Prefect's temporary server tries to open its
database there for two minutes.
"""

import contextlib
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.workspace import STATE, bypass_proxy

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # seconds: its temporary server takes more than the default of 20 on a busy machine
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
SITE_CACHE = Path("/var/tmp/dvc")


def prepare(variables: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables of this process and its children; a second call changes nothing."""
    bypass_proxy(variables)
    for name, value in {**QUIET, **_folders(variables)}.items():
        variables.setdefault(name, value)


def prefect_home(variables: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of Prefect's database."""
    given = variables.get("PREFECT_HOME") or _folders(variables).get("PREFECT_HOME")
    return Path(given).expanduser() if given else Path.home() / ".prefect"


def prepare_prefect() -> None:
    """Prepare the variables and the folder that Prefect reads when it is imported; it makes no
    parents of the folder."""
    prepare()
    with contextlib.suppress(OSError):
        prefect_home().mkdir(parents=True, exist_ok=True)


def check_prefect_home() -> None:
    """Raise UserError if Prefect cannot write its database."""
    folder = prefect_home()
    if not is_writable(folder):
        raise UserError(f"{folder}: cannot be written to: set PREFECT_HOME to a folder that can be")


def is_writable(folder: Path) -> bool:
    """True if files can be made in a folder, or in the folder that it would be made in."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        # a file system of the kernel, such as /proc, takes no files, whatever the modes say
        holds_files = os.statvfs(folder).f_blocks > 0
    except OSError:
        return False
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and holds_files


def _folders(variables: Mapping[str, str]) -> dict[str, str]:
    """Return folders in the working folder for what has no place in the home folder."""
    state = Path.cwd() / STATE
    found: dict[str, str] = {}
    home = _home(variables)
    cache = Path(variables.get("XDG_CACHE_HOME") or home / ".cache")
    if not is_writable(home / ".prefect"):
        found["PREFECT_HOME"] = str(state / "prefect")
        profiles = home / ".prefect" / "profiles.toml"
        if os.access(profiles, os.R_OK):
            found["PREFECT_PROFILES_PATH"] = str(profiles)
    if not is_writable(cache):
        found["XDG_CACHE_HOME"] = str(state / "cache")
        hub = cache / "huggingface"
        if os.access(hub, os.R_OK):  # models that are there can still be read
            found["HF_HOME"] = str(hub)
    if not is_writable(Path(variables.get("XDG_CONFIG_HOME") or home / ".config") / "matplotlib"):
        found["MPLCONFIGDIR"] = str(state / "cache" / "matplotlib")
    if not is_writable(SITE_CACHE / "repo"):
        found["DVC_SITE_CACHE_DIR"] = str(state / "cache" / "dvc")
    return found


def _home(variables: Mapping[str, str]) -> Path:
    """Return the home folder; a user without one has none that can be written to."""
    if given := variables.get("HOME"):
        return Path(given)
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)
