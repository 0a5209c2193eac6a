"""Arguments shared by several commands, and parsers of numbers."""

from typing import Annotated

import typer

from flows.cli import completion
from pipeline.core.errors import UserError

Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A block of params.yaml.", autocompletion=completion.recipes
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only show it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show it, as without --yes.")]


def at_most_one(**given: object) -> None:
    """Raise UserError if more than one option is given; in their names `_` stands for `-`."""
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if len(names) > 1:
        raise UserError(f"{names[1]}: not with {names[0]}: give one of them")


def named_version(name: str) -> tuple[str, str | None]:
    """Split RECIPE/VERSION, RECIPE@champion or RECIPE into recipe and version."""
    from pipeline.core.config import check_name

    recipe, _, number = name.replace("@champion", "").partition("/")
    check_name(recipe)
    if number and not number.isdigit():
        raise UserError(f"{name}: write RECIPE/VERSION, such as {recipe}/1")
    return recipe, number or None


# typer passes defaults as numbers


def count(given: str | int) -> int:
    """Parse a whole number, not below zero."""
    if not str(given).isdigit():
        raise ValueError(f"{given!r} is no whole number")
    return int(given)


def port(given: str | int) -> int:
    """Parse a port to listen on; 0 takes a free one."""
    if not str(given).isdecimal() or int(given) > 65535:
        raise ValueError(f"{given!r} is no port: 0 to 65535")
    return int(given)


def seconds(given: str | float) -> float:
    """Parse a time to wait."""
    return _between(given, 0.05, 86400, "seconds")


def hours(given: str | float) -> float:
    """Parse a time limit of a stage."""
    return _between(given, 0.01, 8760, "hours")


def _between(given: str | float, least: float, most: float, unit: str) -> float:
    try:
        number = float(given)
    except ValueError:
        number = 0.0
    if not least <= number <= most:
        raise ValueError(f"{given!r} is no number of {unit}: {least} to {most}")
    return number
