"""DVC's cache and lock files, read as plain files.

The path of an object is files/md5/xx/rest, from the MD5 of its bytes. An object whose name ends in
`.dir` is the JSON list of a folder's files. An entry of the run cache lists the outputs of a stage.
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

FOLDER = ".dir"  # suffix of a folder's object
OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True)
class Cache:
    folder: Path

    def objects(self) -> dict[str, Path]:
        """Return the path of every object by name, without files that DVC has half written."""
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
        """Return the objects in a folder's object, by path in the folder; none if it is missing.

        Raises UserError if it cannot be read.
        """
        if not self.has(name):
            return {}
        try:
            listed = json.loads(self.path(name).read_bytes())
            return {str(entry["relpath"]): str(entry["md5"]) for entry in listed}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path(name)}: is damaged, so the files in it are unknown: run bertline fsck"
            ) from None

    def reach(self, names: Iterable[str]) -> set[str]:
        """Return these objects and all objects that they list."""
        found = set(names)
        for name in list(found):
            if name.endswith(FOLDER):
                found |= set(self.entries(name).values())
        return found

    def runs(self) -> Iterator[tuple[Path, set[str]]]:
        """Yield each entry of the run cache with the objects that it would restore."""
        for file in sorted(self.folder.glob("runs/??/*/*")):
            try:
                content = _yaml(file.read_text(encoding="utf-8"))
            except (UserError, UnicodeDecodeError):
                content = {}
            yield file, set(named([content]))


def md5_of(path: Path) -> str:
    """Return DVC's name of a file or folder: its MD5 as hex, with `.dir` for a folder."""
    if path.is_dir():
        files = sorted(
            (file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()
        )
        listed = [{"md5": md5_of(file), "relpath": name} for name, file in files]
        return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + FOLDER
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def read_lock(text: str, name: str = "dvc.lock") -> dict[str, dict[str, Any]]:
    """Return the entries of a lock file by stage. Raises UserError if it is not a lock file."""
    stages = _yaml(text, name).get("stages") or {}
    if not isinstance(stages, dict):
        raise UserError(f"{name}: holds no stages: git checkout {name}")
    return stages


def named(stages: Iterable[Mapping[str, Any]], *kinds: str) -> dict[str, str]:
    """Return the path of each file that stages list as outs, or under other `kinds`, by digest."""
    return {
        str(file["md5"]): str(file["path"])
        for stage in stages
        for kind in kinds or ("outs",)
        for file in stage.get(kind) or ()
        if isinstance(file, Mapping) and "md5" in file and "path" in file
    }


def named_in(name: str, text: str) -> set[str]:
    """Return the objects that a dvc.lock or .dvc file names. Raises UserError if it is neither."""
    return set(
        named([_yaml(text, name)] if name.endswith(".dvc") else read_lock(text, name).values())
    )


def uncached(definition: Path, recipe: str) -> set[str]:
    """Return the outs of a recipe that dvc.yaml does not cache, under current and earlier names."""
    blocks = (_yaml(definition.read_text(encoding="utf-8"), str(definition)).get("stages")) or {}
    found = set()
    for block in blocks.values():
        stage = block.get("do", block)
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind) or ():
                if isinstance(out, dict):
                    found |= {p for p, flags in out.items() if (flags or {}).get("cache") is False}
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
