"""Strict, generic parser of recipes.

Each stage declares its parameters as a frozen `Settings` class. This module reads `params.yaml` and
parses a section into such a class. The error for an unknown key names it and the nearest known key.
"""

import difflib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.core import old_names
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.tasks.base import Task

PARAMS_FILE = Path("params.yaml")
RECIPE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
RESERVED_NAMES = ("behaviour", "feedback", "labels", "raw")  # folders of data/ with user files


class Settings(BaseModel):
    """Base of every parameter class: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


S = TypeVar("S", bound=Settings)


def read_recipes(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return all recipes of `params.yaml`, unparsed, by name."""
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: run this from the folder that holds it") from None
    recipes = content.get("recipes") if isinstance(content, dict) else None
    if not isinstance(recipes, dict) or not recipes:
        raise UserError(f"{path}: holds no `recipes:`: add a block for each model")
    for name in recipes:
        check_name(name, path)
    return recipes


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML or JSON file. Raises UserError if it is neither."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(path)
        json.dumps(content, default=str)  # refuses what JSON cannot hold, such as a list in itself
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not YAML: {error}") from None
    return content


def check_name(name: object, path: Path = PARAMS_FILE) -> None:
    """Refuse a recipe name that is not safe in a shell, a path and a registry."""
    if not isinstance(name, str) or not RECIPE_NAME.fullmatch(name) or name in RESERVED_NAMES:
        raise UserError(
            f"{path}: recipe name {name!r}: use 1 to 40 of a-z, 0-9, '-' and '_', a letter first"
            f" (and not {', '.join(RESERVED_NAMES)})"
        )


def read_recipe(name: str, path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the block of one recipe, unparsed."""
    recipes = read_recipes(path)
    if name not in recipes:
        raise UserError(f"{path}: no recipe {name!r}{nearest(name, recipes)}")
    block = recipes[name]
    if not isinstance(block, dict):
        raise UserError(f"{path}: recipes.{name}: is not a block of sections")
    for place, new in old_names.old_keys(block):
        key = ".".join(["recipes", name, *place])
        raise UserError(f"{path}: {key}: is called {new} now: bertline migrate rewrites the file")
    for place, value, _ in old_names.missing_keys(block):
        key = ".".join(["recipes", name, *place])
        raise UserError(f"{path}: {key}: is new, {value} by default: bertline migrate adds it")
    return block


def read_task(name: object, where: str, path: Path = PARAMS_FILE) -> "Task":
    """Return the task that a recipe names; `where` is the dotted key.

    Raises UserError for an unknown name.
    """
    from pipeline import tasks  # imports numpy, which `bertline --help` does not need

    try:
        return tasks.get(str(name))
    except LookupError:
        if new := old_names.TASKS.get(str(name)):
            raise UserError(
                f"{path}: {where}: {name} is called {new} now: bertline migrate rewrites the file"
            ) from None
        hint = nearest(str(name), tasks.known())
        raise UserError(f"{path}: {where}: there is no task {name!r}{hint}") from None


def parse(kind: type[S], content: object, where: str, path: Path = PARAMS_FILE) -> S:
    """Parse one section into its class; `where` is its dotted key, for messages.

    Raises UserError for the first key that does not fit.
    """
    try:
        # Strict JSON mode accepts lists for tuples and whole numbers for floats.
        return kind.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{path}: {_message(kind, dict(first), where)}") from None


def check_for_task(check: Callable[[S, "Task"], None], params: S, task: "Task", where: str) -> None:
    """Raise UserError if `check` finds a value that the task does not use.

    `check` raises ValueError with a message that begins with the key.
    """
    try:
        check(params, task)
    except ValueError as error:
        raise UserError(f"{PARAMS_FILE}: {where}.{error}") from None


def nearest(word: str, known: Any) -> str:
    """Return `; did you mean X?` with the nearest known word, or `; known: ` with all of them."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(names))}"


def _message(kind: type[BaseModel], error: dict[str, Any], where: str) -> str:
    # in a union pydantic adds the member that it tried, such as literal['a','b'], to the location
    location = [str(part) for part in error["loc"] if "[" not in str(part)]
    key = ".".join([where, *location])
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(location[-1], _fields(kind, location[:-1]))}"
    if error["type"] == "missing":
        return f"{key}: is missing: write it out"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = "" if isinstance(error["input"], dict) else f", not {error['input']!r}"
    return f"{key}: {message}{given}"


def _fields(kind: type[BaseModel], location: list[str]) -> list[str]:
    """Return the known keys of the settings class at `location` inside `kind`."""
    for part in location:
        known = {field.alias or name: field for name, field in kind.model_fields.items()}
        if part not in known or not isinstance(known[part].annotation, type):
            return []
        kind = known[part].annotation  # type: ignore[assignment]
    return [field.alias or name for name, field in kind.model_fields.items()]
