"""Resume key of checkpoints: a training resumes only from those with its own key."""

import ast
import hashlib
import inspect
import json
from functools import cache
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
    environment: list[Any],
) -> str:
    """Return the SHA-256, as hex, of all inputs of the training and of the choice of a checkpoint.

    `environment` holds device, precision and threads. The code is every file that this folder and
    the task import.
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
        "how": environment,
        "code": [sha256_of(file) for file in sorted(code)],
        "versions": [version(name) for name in packages],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def imported_files(*starts: Path) -> set[Path]:
    """Return these files and all of the project's that they import, at any level: at the top,
    inside functions and for types only. Heads are loaded by name, so all of them are included."""
    seen: set[Path] = set()
    queue = list(starts)
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        queue += [file for name in imports_of(path) if (file := _file_of(name))]
        queue += [parent / "__init__.py" for parent in path.parents if _is_package(parent)]
        if path == HEADS / "__init__.py":
            queue += HEADS.glob("*.py")
    return seen


@cache
def imports_of(path: Path) -> list[str]:
    """Return every module that a file imports, and each imported name as a member of its module."""
    package = list(path.relative_to(ROOT).parent.parts) if path.is_relative_to(ROOT) else []
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


@cache
def _file_of(module: str) -> Path | None:
    """Return the file of one of the project's modules; None for other modules and for members."""
    path = ROOT.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)


def _is_package(folder: Path) -> bool:
    return folder.is_relative_to(ROOT) and (folder / "__init__.py").exists()
