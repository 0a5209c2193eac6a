"""Which version carries the alias, and its files at hand: asked again and again, in a thread.

MLflow may take seconds to be imported and half a minute not to answer; nobody waits for either.
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

COPIES = 3  # of a server's versions that are kept here


@dataclass(frozen=True)
class Spec:
    """A version's files on this machine, and what they have to be."""

    number: str
    folder: str
    files: dict[str, str]
    """SHA-256 by path in the folder."""

    def same(self, other: "Spec | None") -> bool:
        """True if another is the same version with the same files, wherever they lie."""
        return other is not None and (self.number, self.files) == (other.number, other.files)

    def state(self) -> tuple[tuple[str, int, int], ...]:
        """Name, time and size of all that lies in the folder: another once somebody mended it."""
        found = []
        for file in sorted(Path(self.folder).rglob("*")):
            with contextlib.suppress(OSError):
                if file.is_file() and "__pycache__" not in file.parts:
                    stat = file.stat()
                    found.append((str(file), stat.st_mtime_ns, stat.st_size))
        return tuple(found)


def spec_of(content: Any) -> Spec | None:
    """A version as JSON held it; None for anything else."""
    try:
        return Spec(str(content["number"]), str(content["folder"]), dict(content["files"]))
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Look:
    """What was found at a look at the alias."""

    spec: Spec | None
    """The champion; None where it cannot be known or had."""
    problem: str = ""
    """Why not, in one line."""


class Champion(threading.Thread):
    """Looks at a recipe's alias every so many seconds and tells of it, until it is stopped."""

    def __init__(
        self,
        recipe: str,
        tracking: str,
        copies: Path,
        every: float,
        tell: Callable[[Look], object],
        in_hand: Callable[[], set[str]],
    ) -> None:
        """`in_hand` tells the numbers of the versions whose copies are needed."""
        super().__init__(name="champion", daemon=True)
        self.recipe, self.tracking, self.every, self.tell = recipe, tracking, every, tell
        self.copies, self.in_hand = copies, in_hand
        self.stopped = threading.Event()
        self.registry: Registry | None = None
        self.last: Spec | None = None

    def run(self) -> None:
        while not self.stopped.is_set():
            look = self.look()
            if not self.stopped.is_set():
                self.tell(look)
            self.stopped.wait(self.every)

    def look(self) -> Look:
        """One look. Never raises."""
        try:
            self.last = self._champion()
            return Look(self.last)
        except UserError as error:
            return Look(None, str(error))
        except Exception as error:  # a store that fails in a way of its own
            line = (str(error).splitlines() or [""])[0][:200]
            problem = f"{self.recipe}: the champion cannot be had: {type(error).__name__}: {line}"
            return Look(None, problem)

    def _champion(self) -> Spec:
        from pipeline.registry.client import connect
        from pipeline.registry.versions import Registry

        if self.registry is None:
            self.registry = Registry(self.tracking)
        number = self.registry.champion(self.recipe)
        if number is None:
            connect(self.tracking)  # raises where it is MLflow that is missing
            raise UserError(self._nobody())
        if self.last and self.last.number == number and Path(self.last.folder).is_dir():
            return self.last
        files = self.registry.files(self.recipe, number)
        if files is None:
            raise UserError(f"{self.recipe}/{number} has no list of its files: it is not served")
        return self._at_hand(self.registry, number, files)

    def _nobody(self) -> str:
        """What to say where there is no champion: a recipe that nobody knows is likely misspelt."""
        from pipeline.core.config import PARAMS_FILE, read_recipe

        if PARAMS_FILE.exists():
            read_recipe(self.recipe)
        return f"{self.recipe}: has no champion yet: bertline run {self.recipe}"

    def _at_hand(self, registry: "Registry", number: str, files: dict[str, str]) -> Spec:
        """The version where it lies; a server's in a copy that outlives this process."""
        kept = Spec(number, str((self.copies / number).absolute()), files)
        try:
            check_files(number, Path(kept.folder), files)
            return kept
        except UserError:
            folder = registry.folder(self.recipe, number)
        if registry.copies is None or not folder.is_relative_to(registry.copies.name):
            return Spec(number, str(folder), files)
        with atomic_write(Path(kept.folder)) as temporary:
            shutil.move(folder, temporary)
            os.utime(temporary)
        registry.fetched.clear()
        self._tidy(number)
        return kept

    def _tidy(self, number: str) -> None:
        """Keep the copies that were made last, and those in hand."""
        made = [copy for copy in self.copies.iterdir() if not copy.name.startswith(".")]
        needed = self.in_hand() | {number}
        for copy in sorted(made, key=lambda copy: copy.stat().st_mtime)[:-COPIES]:
            if copy.name not in needed:
                shutil.rmtree(copy, ignore_errors=True)


def as_json(spec: Spec | None) -> dict[str, Any] | None:
    return asdict(spec) if spec else None
