"""The door of a stage: `python -m pipeline STAGE RECIPE`, as DVC calls it.

It reads the recipe and hands the stage what its function names: `params` and `base`, parsed from
the recipe; its `task`; an earlier stage's folder, by that stage's name; `out`, its own; and the few
things of the surroundings below. Whatever a person can mend is told in one line.
"""

import argparse
import errno
import importlib
import inspect
import sys
from typing import Any, get_type_hints

try:
    from filelock import FileLock, Timeout
except ModuleNotFoundError:  # `.venv/bin/dvc repro` finds another `python` on the path
    sys.exit(f"error: {sys.executable} has no bertline: run `source .venv/bin/activate` first")

from pipeline.core.config import Settings, parse, read_recipe, read_task, suits
from pipeline.core.errors import Unavailable, UserError
from pipeline.core.log import Console
from pipeline.core.workspace import DATA, LABELS, LOCK, ORDER, STATE, tracking

FAILED, TRY_LATER = 2, 75  # exit codes; 75 is EX_TEMPFAIL of sysexits.h


def run(stage: str, recipe: str) -> None:
    """Run one stage of one recipe in the current folder."""
    block = read_recipe(recipe)
    task = read_task(block.get("task"), f"recipes.{recipe}.task")
    rules = importlib.import_module(f"pipeline.stages.{stage}.params")
    function = getattr(importlib.import_module(f"pipeline.stages.{stage}.stage"), stage)
    surroundings: dict[str, Any] = {
        **{name: DATA / recipe / name for name in ORDER},
        "out": DATA / recipe / stage,
        "labels": LABELS / f"{recipe}.jsonl",
        "state": STATE / "state" / recipe,
        "recipe": recipe,
        "block": block,
        "task": task,
        "lock": LOCK,
        "tracking": tracking(),
        "log": Console(stage),
    }
    hints = get_type_hints(function)
    arguments = {}
    for name in inspect.signature(function).parameters:
        kind = hints[name]
        if inspect.isclass(kind) and issubclass(kind, Settings):
            section = stage if name == "params" else name
            if section not in block:
                raise UserError(
                    f"params.yaml: recipes.{recipe}.{section}: is missing: write it out"
                )
            arguments[name] = parse(kind, block[section], f"recipes.{recipe}.{section}")
            if name == "params" and hasattr(rules, "check"):
                suits(rules.check, arguments[name], task, f"recipes.{recipe}.{section}")
        else:
            arguments[name] = surroundings[name]
    lock = STATE / "locks" / f"{recipe}.{stage}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A killed `dvc repro` can leave its stage at work; two must not write the same files
        with FileLock(lock, timeout=0):
            function(**arguments)
    except Timeout:
        raise Unavailable("another process is at work on it: wait for its end, or end it") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=ORDER, metavar="STAGE", help=", ".join(ORDER))
    parser.add_argument("recipe", metavar="RECIPE", help="a block of params.yaml")
    given = parser.parse_args()
    try:
        run(given.stage, given.recipe)
    except UserError as error:
        print(f"error: {given.stage} of {given.recipe}: {error}", file=sys.stderr)
        return TRY_LATER if isinstance(error, Unavailable) else FAILED
    except KeyboardInterrupt:
        print(f"error: {given.stage} of {given.recipe}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if (reason := _no_room(error)) is None:
            raise  # a bug of ours: its stack trace is wanted
        print(f"error: {given.stage} of {given.recipe}: {reason}", file=sys.stderr)
        return FAILED
    return 0


def _no_room(error: Exception) -> str | None:
    """What to do where the disk is full or may not be written, whichever library found out."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EROFS):
        return f"{error}: make it writable and run again"
    full = number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
    # PyTorch's writer tells no cause
    if full or ("PytorchStreamWriter" in str(error) or "iostream" in str(error)):
        where = getattr(error, "filename", None)
        return f"{where or DATA}: no space left on device: make room and run again"
    return None


if __name__ == "__main__":
    sys.exit(main())
