"""The key under which checkpoints lie: a training goes on from those of its own key alone."""

import ast
import hashlib
import inspect
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.core.files import sha256_of
from pipeline.models.encoders import pooling_of
from pipeline.models.heads import head_of
from pipeline.stages.finetune.params import FinetuneParams
from pipeline.stages.finetune.validation import Validator
from pipeline.tasks.base import Task

HERE = Path(__file__)
ROOT = HERE.parents[3]
HEADS = ROOT / "pipeline" / "models" / "heads"


def resume_key(
    params: FinetuneParams,
    task: Task,
    validator: Validator,
    base: Path,
    tokenize: Path,
    how: list[Any],
) -> str:
    """SHA-256, as hex, of all that the weights, and the choice among them, depend on.

    `how` is what they are computed by: device, precision and threads. Of code, every file counts
    that this room and the task import.
    """
    packages = [*head_of(task).packages, *(["peft"] if params.lora else [])]
    own = Path(inspect.getfile(type(task))).parent
    code = imported_files(HERE.with_name("stage.py"), *own.rglob("*.py"))
    rows = validator.rows
    parts: dict[str, Any] = {
        "params": params.model_dump(),
        "base": sha256_of(base / "model.safetensors"),
        "config": sha256_of(base / "config.json"),
        "pooling": pooling_of(base),
        "tokens": sha256_of(tokenize / "tokens"),
        "classes": validator.classes,
        "task": task.name,
        "validation": [rows.labels, rows.groups, validator.prepared],
        "how": how,
        "code": [sha256_of(file) for file in sorted(code)],
        "versions": [version(name) for name in packages],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def imported_files(*starts: Path) -> set[Path]:
    """The project's files that these import, they themselves included: at their top, inside
    functions and for types alone. Heads are loaded by name, so all of them count."""
    seen: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        waiting += [file for name in imports_of(path) if (file := _file_of(name))]
        waiting += [parent / "__init__.py" for parent in path.parents if _is_package(parent)]
        if path == HEADS / "__init__.py":
            waiting += HEADS.glob("*.py")
    return seen


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, and every name taken from one as its member."""
    package = list(path.relative_to(ROOT).parent.parts) if path.is_relative_to(ROOT) else []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> Path | None:
    """The file of one of the project's modules; None for another's, and for a member."""
    path = ROOT.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)


def _is_package(folder: Path) -> bool:
    return folder.is_relative_to(ROOT) and (folder / "__init__.py").exists()
