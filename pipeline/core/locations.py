"""Locations in a recipe: a path, a folder of an installed package, the hub, or a URL."""

from importlib.util import find_spec
from pathlib import Path

from pipeline.core.errors import UserError

PACKAGE = "package:"
HUB = "hub:"
SCHEMES = ("s3://", "gs://", "gcs://", "az://", "abfs://", "https://", "http://")


def is_remote(source: str) -> bool:
    """True for the URL of an object in a store or on the web."""
    return source.startswith(SCHEMES)


def is_local(source: str) -> bool:
    """True for a path: neither a package, nor on the hub, nor a URL."""
    return not source.startswith((PACKAGE, HUB)) and not is_remote(source)


def locate(source: str) -> Path:
    """Return the path of a source: `package:NAME/FOLDER` of an installed package, or a path.

    Raises UserError if it does not exist.
    """
    if not source.startswith(PACKAGE):
        path = Path(source)
        if not path.exists():
            raise UserError(f"{source}: no such file or folder: correct the path in the recipe")
        return path
    name, _, inside = source.removeprefix(PACKAGE).partition("/")
    found = find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise UserError(f"{source}: package {name!r} is not installed: pip install it")
    path = Path(found.submodule_search_locations[0]) / inside
    if not path.exists():
        raise UserError(f"{source}: the package {name!r} holds no {inside!r}")
    return path
