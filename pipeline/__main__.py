"""Run one stage of a recipe: `python -m pipeline STAGE RECIPE`, as DVC calls it.

The stage gets the arguments that its function names: `params` and `base`, parsed from the recipe;
the `task`; the folder of an earlier stage, by the name of that stage; `out`, its own folder; and
the other values that `run` lists. An error that the user can fix is printed as one line.
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

from pipeline.core.config import Settings, check_for_task, parse, read_recipe, read_task
from pipeline.core.errors import Unavailable, UserError
from pipeline.core.log import Console
from pipeline.core.workspace import DATA, LABELS, LOCK, ORDER, STATE, bypass_proxy, tracking

FAILED, TRY_LATER = 2, 75  # exit codes; 75 is EX_TEMPFAIL of sysexits.h


def run(stage: str, recipe: str) -> None:
    """Run one stage of one recipe in the current folder."""
    block = read_recipe(recipe)
    task = read_task(block.get("task"), f"recipes.{recipe}.task")
    params_module = importlib.import_module(f"pipeline.stages.{stage}.params")
    function = getattr(importlib.import_module(f"pipeline.stages.{stage}.stage"), stage)
    available: dict[str, Any] = {
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
            if name == "params" and hasattr(params_module, "check"):
                where = f"recipes.{recipe}.{section}"
                check_for_task(params_module.check, arguments[name], task, where)
        else:
            arguments[name] = available[name]
    lock = STATE / "locks" / f"{recipe}.{stage}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A killed `dvc repro` can leave its stage running; two must not write the same files
        with FileLock(lock, timeout=0):
            function(**arguments)
    except Timeout:
        raise Unavailable("another process runs it: wait until that ends, or stop it") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=ORDER, metavar="STAGE", help=", ".join(ORDER))
    parser.add_argument("recipe", metavar="RECIPE", help="a block of params.yaml")
    args = parser.parse_args()
    bypass_proxy()
    try:
        run(args.stage, args.recipe)
        return 0
    except UserError as error:
        message, code = str(error), TRY_LATER if isinstance(error, Unavailable) else FAILED
    except KeyboardInterrupt:
        message, code = "interrupted", 130
    except Exception as error:
        if (reason := _disk_error(error)) is None:
            raise  # a bug of ours: its stack trace is wanted
        message, code = reason, FAILED
    print(f"error: {args.stage} of {args.recipe}: {message}", file=sys.stderr)
    return code


def _disk_error(error: Exception) -> str | None:
    """Message for a disk that is full or read-only, whichever library raised; else None."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EROFS):
        return f"{error}: make it writable and run again"
    full = number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
    # PyTorch's writer does not name the cause
    if full or ("PytorchStreamWriter" in str(error) or "iostream" in str(error)):
        where = getattr(error, "filename", None)
        return f"{where or DATA}: no space left on device: make room and run again"
    return None


if __name__ == "__main__":
    sys.exit(main())
