"""DVC's cache and lock files, as the plain files that they are.

An object lies at files/md5/xx/rest under the MD5 of its bytes; one whose name ends in `.dir` is the
JSON list of a folder's files. An entry of the run cache remembers what a stage once made.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core import old_names
from pipeline.core.errors import UserError

FOLDER = ".dir"  # how the name of a folder's object ends
OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True)
class Cache:
    folder: Path

    def objects(self) -> dict[str, Path]:
        """Every object by its name. What DVC has half written is not among them."""
        return {
            name: file
            for file in sorted(self.folder.glob("files/md5/??/*"))
            if OBJECT.fullmatch(name := file.parent.name + file.name)
        }

    def path(self, name: str) -> Path:
        return self.folder / "files" / "md5" / name[:2] / name[2:]

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    def entries(self, name: str) -> dict[str, str]:
        """The objects that a folder's object lists, by path in it; nothing where it is missing.

        Raises UserError where it cannot be read.
        """
        if not self.has(name):
            return {}
        try:
            listed = json.loads(self.path(name).read_bytes())
            return {str(entry["relpath"]): str(entry["md5"]) for entry in listed}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path(name)}: is damaged, so what it lists is not known: bertline fsck"
            ) from None

    def reach(self, names: Iterable[str]) -> set[str]:
        """These objects and all that they list."""
        found = set(names)
        for name in list(found):
            if name.endswith(FOLDER):
                found |= set(self.entries(name).values())
        return found

    def runs(self) -> Iterator[tuple[Path, set[str]]]:
        """The entries of the run cache, and the objects that each would restore."""
        for file in sorted(self.folder.glob("runs/??/*/*")):
            try:
                content = _yaml(file.read_text(encoding="utf-8"))
            except (UserError, UnicodeDecodeError):
                content = {}
            yield file, set(named([content]))


def md5_of(path: Path) -> str:
    """What DVC calls a file or folder, as hex."""
    if path.is_dir():
        files = sorted(
            (file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()
        )
        listed = [{"md5": md5_of(file), "relpath": name} for name, file in files]
        return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + FOLDER
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def read_lock(text: str, name: str = "dvc.lock") -> dict[str, dict[str, Any]]:
    """What a lock file says, by stage. Raises UserError where it is not one."""
    stages = _yaml(text, name).get("stages") or {}
    if not isinstance(stages, dict):
        raise UserError(f"{name}: holds no stages: git checkout {name}")
    return stages


def named(stages: Iterable[Mapping[str, Any]], *kinds: str) -> dict[str, str]:
    """Digests of what stages name, with its path: their outs, or other `kinds` of files."""
    return {
        str(file["md5"]): str(file["path"])
        for stage in stages
        for kind in kinds or ("outs",)
        for file in stage.get(kind) or ()
        if isinstance(file, Mapping) and "md5" in file and "path" in file
    }


def named_in(name: str, text: str) -> set[str]:
    """The objects that a dvc.lock or .dvc file names. Raises UserError where it is neither."""
    return set(
        named([_yaml(text, name)] if name.endswith(".dvc") else read_lock(text, name).values())
    )


def uncached(definition: Path, recipe: str) -> set[str]:
    """The outs of a recipe that dvc.yaml keeps out of the cache, by all names that they had."""
    blocks = (_yaml(definition.read_text(encoding="utf-8"), str(definition)).get("stages")) or {}
    found = set()
    for block in blocks.values():
        stage = block.get("do", block)
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind) or ():
                if isinstance(out, dict):
                    found |= {p for p, how in out.items() if (how or {}).get("cache") is False}
    paths = [PurePosixPath(path.replace("${key}", recipe)) for path in found]
    return {str(name) for path in paths for name in (path, *old_names.earlier(path))}


def _yaml(text: str, name: str = "") -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise UserError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    return content if isinstance(content, dict) else {}
