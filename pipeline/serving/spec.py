"""Thread that checks which version is the champion and makes its files available.

Importing MLflow can take seconds and its timeout half a minute; nothing waits for either.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from pipeline.serving.version import check_files

if TYPE_CHECKING:
    from pipeline.registry.versions import Registry

COPIES = 3  # downloaded versions that are kept here


@dataclass(frozen=True)
class Spec:
    """Files of a version on this machine and their expected digests."""

    number: str
    folder: str
    files: dict[str, str]
    """SHA-256 by path in the folder."""

    def same(self, other: "Spec | None") -> bool:
        """True if the other is the same version with the same files, in any folder."""
        return other is not None and (self.number, self.files) == (other.number, other.files)

    def state(self) -> tuple[tuple[str, int, int], ...]:
        """Return path, time and size of all files in the folder, which differ after a repair."""
        found = []
        for file in sorted(Path(self.folder).rglob("*")):
            with contextlib.suppress(OSError):
                if file.is_file() and "__pycache__" not in file.parts:
                    stat = file.stat()
                    found.append((str(file), stat.st_mtime_ns, stat.st_size))
        return tuple(found)


def spec_of(content: Any) -> Spec | None:
    """Parse a version from JSON; return None for anything else."""
    try:
        return Spec(str(content["number"]), str(content["folder"]), dict(content["files"]))
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Look:
    """Result of a check of the alias."""

    spec: Spec | None
    """Champion; None if it or its files are not available."""
    problem: str = ""
    """Reason in one line."""


class Champion(threading.Thread):
    """Thread that checks a recipe's alias every `every` seconds and reports the result."""

    def __init__(
        self,
        recipe: str,
        tracking: str,
        copies: Path,
        every: float,
        report: Callable[[Look], object],
        in_use: Callable[[], set[str]],
    ) -> None:
        """`copies` is the folder of downloaded versions; `in_use` returns the numbers of those that
        are needed."""
        super().__init__(name="champion", daemon=True)
        self.recipe, self.tracking, self.every, self.report = recipe, tracking, every, report
        self.copies, self.in_use = copies, in_use
        self.stopped = threading.Event()
        self.registry: Registry | None = None
        self.last: Spec | None = None

    def run(self) -> None:
        while not self.stopped.is_set():
            look = self.look()
            if not self.stopped.is_set():
                self.report(look)
            self.stopped.wait(self.every)

    def look(self) -> Look:
        """Check the alias once. Never raises."""
        try:
            self.last = self._champion()
            return Look(self.last)
        except UserError as error:
            return Look(None, str(error))
        except Exception as error:  # stores raise errors of their own
            line = (str(error).splitlines() or [""])[0][:200]
            problem = f"{self.recipe}: the champion cannot be read: {type(error).__name__}: {line}"
            return Look(None, problem)

    def _champion(self) -> Spec:
        from pipeline.registry.client import connect
        from pipeline.registry.versions import Registry

        if self.registry is None:
            self.registry = Registry(self.tracking)
        number = self.registry.champion(self.recipe)
        if number is None:
            connect(self.tracking)  # raises if MLflow does not answer
            raise UserError(self._no_champion())
        if self.last and self.last.number == number and Path(self.last.folder).is_dir():
            return self.last
        files = self.registry.files(self.recipe, number)
        if files is None:
            raise UserError(f"{self.recipe}/{number} has no list of its files: it is not served")
        return self._local(self.registry, number, files)

    def _no_champion(self) -> str:
        """Return the message for a recipe without a champion. Raises UserError if params.yaml does
        not have the recipe: its name may be misspelt."""
        from pipeline.core.config import PARAMS_FILE, read_recipe

        if PARAMS_FILE.exists():
            read_recipe(self.recipe)
        return f"{self.recipe}: has no champion yet: bertline run {self.recipe}"

    def _local(self, registry: "Registry", number: str, files: dict[str, str]) -> Spec:
        """Return the version in its store's folder, or in a copy that outlives this process if it
        was downloaded."""
        copy = Spec(number, str((self.copies / number).absolute()), files)
        try:
            check_files(number, Path(copy.folder), files)
            return copy
        except UserError:
            folder = registry.folder(self.recipe, number)
        if registry.copies is None or not folder.is_relative_to(registry.copies.name):
            return Spec(number, str(folder), files)
        with atomic_write(Path(copy.folder)) as temporary:
            shutil.move(folder, temporary)
            os.utime(temporary)
        registry.fetched.clear()
        self._remove_old_copies(number)
        return copy

    def _remove_old_copies(self, number: str) -> None:
        """Keep the newest copies and those in use."""
        copies = [copy for copy in self.copies.iterdir() if not copy.name.startswith(".")]
        needed = self.in_use() | {number}
        for copy in sorted(copies, key=lambda copy: copy.stat().st_mtime)[:-COPIES]:
            if copy.name not in needed:
                shutil.rmtree(copy, ignore_errors=True)


def as_json(spec: Spec | None) -> dict[str, Any] | None:
    return asdict(spec) if spec else None
