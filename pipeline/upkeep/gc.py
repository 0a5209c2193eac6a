"""Deletion of unused versions, runs, cache objects and resume state.

Every version that ever was a champion stays, with the objects that it was made of, since a rollback
can return to it. The last few others stay too, and all that dvc.lock or a branch names. A reference
is deleted before its bytes: after a kill in between, the next call finds the unreferenced bytes.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.core.files import size_of
from pipeline.core.log import Log, no_log
from pipeline.registry.tags import COLLECTED_TAG, FIT_TAG, PUBLISHED_TAG
from pipeline.upkeep.cache import FOLDER, OBJECT, Cache, named

if TYPE_CHECKING:
    from pipeline.registry.artifacts import Run, Version
    from pipeline.registry.versions import Registry

DAY = 24 * 3600.0  # seconds
WEEK = 7 * DAY
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Item:
    kind: str
    """Row of the table that counts it."""
    name: str
    bytes: int
    go: Callable[[], object]


@dataclass(frozen=True)
class Plan:
    items: Sequence[Item]
    before: int
    """Bytes of the cache, MLflow's files and resume state before the deletion."""
    notes: Sequence[str] = ()

    @property
    def after(self) -> int:
        return self.before - sum(item.bytes for item in self.items)


@dataclass(frozen=True)
class StoredVersion:
    name: str
    number: str
    created: float
    bytes: int
    needs: frozenset[str] | None
    """Cache objects that it was made of; None if that is not recorded."""
    go: Callable[[], object]


def plan(
    registry: "Registry",
    published: Mapping[str, str | None],
    workspace: "Workspace",
    now: float,
    *,
    keep: int,
    budget: int | None = None,
) -> Plan:
    """Return the items to delete, in the order of deletion.

    `published` maps each recipe to the version that it published last. `now` is in seconds since
    1970, `budget` in bytes: with a budget, versions are deleted only until the rest fits.
    """
    kept: list[StoredVersion] = []
    unused: list[StoredVersion] = []
    others: list[Item] = []
    finished: set[str] = set()
    before = workspace.bytes()
    for model, number in published.items():
        storage = ModelStorage(registry, model)
        stays = storage.stays(number, keep)
        for version in storage.stored():
            (kept if version.number in stays else unused).append(version)
        others += storage.loose(now)
        finished |= storage.finished()
        before += storage.bytes()
    unused.sort(key=lambda version: version.created)
    others += workspace.resume_state(finished, now)
    notes = [
        f"{version.name}: the cache objects that it was made of are not recorded: its own files"
        " stay, and cache objects that others need"
        for version in kept
        if version.needs is None
    ]

    def without(count: int) -> Plan:
        kind = "versions that never were in use"
        versions = [Item(kind, each.name, each.bytes, each.go) for each in unused[:count]]
        unneeded = workspace.unneeded([*kept, *unused[count:]], now)
        return Plan([*versions, *unneeded, *others], before, notes)

    if budget is None:
        return without(len(unused))
    plans = (without(count) for count in range(len(unused) + 1))
    return next((one for one in plans if one.after <= budget), without(len(unused)))


def collect(items: Sequence[Item], *, log: Log = no_log) -> None:
    """Delete the items, one after the other."""
    for place, item in enumerate(items, 1):
        item.go()
        log.progress(place, len(items), item.kind)


def rows(found: Plan) -> list[tuple[str, str, str]]:
    """Return a row for each kind of item: the kind, how many there are, and the bytes freed."""
    kinds: dict[str, list[Item]] = {}
    for item in found.items:
        kinds.setdefault(item.kind, []).append(item)
    each = [
        (kind, f"{len(items):,}", shown(sum(item.bytes for item in items)))
        for kind, items in kinds.items()
    ]
    return [*each, ("together", f"{len(found.items):,}", shown(found.before - found.after))]


def table(found: Plan) -> str:
    """Return the rows as aligned lines, with the bytes that stay."""
    wide = max(len(kind) for kind, _, _ in rows(found))
    return "\n".join(
        [f"{kind:<{wide}}  {count:>6}  {size:>9}" for kind, count, size in rows(found)]
        + [stays(found)]
    )


def stays(found: Plan) -> str:
    """Return a line with the bytes stored before and after the plan."""
    return f"{shown(found.before)} are held, {shown(found.after)} stay"


def shown(size: int) -> str:
    """Format a number of bytes with its unit."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f} {unit}"
    return f"{size} B"


def read_size(text: str) -> int:
    """Parse a size such as `2GB` or `500 MB` to bytes. Raises UserError if it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)", text.strip().upper())
    if not found:
        raise UserError(f"--budget {text}: write a size such as 500MB or 2GB")
    return round(float(found[1]) * UNITS[found[2]])


# what MLflow holds


def always_kept(registry: "Registry", model: str, versions: Sequence["Version"]) -> set[str]:
    """Return the versions that no budget deletes: every champion there ever was, since a rollback
    goes back through them; versions with an alias; and those that wait for approval."""
    from pipeline.registry.ledger import Ledger

    entries = Ledger(registry, model).entries()
    last = {entry.version: entry.event for entry in entries}
    return (
        {entry.version for entry in entries if entry.moves}
        | {entry.previous for entry in entries if entry.previous}
        | {number for number, event in last.items() if event == "await"}
        | {version.number for version in versions if version.aliases}
    )


class ModelStorage:
    """Content of MLflow for one recipe, with the deletion of each part."""

    def __init__(self, registry: "Registry", model: str) -> None:
        from pipeline.registry import artifacts

        self.registry, self.model, self.client = registry, model, registry.client
        self.versions = artifacts.versions(self.client, model)
        self.runs = {run.identity: run for run in artifacts.runs(self.client, model)}
        in_bin = artifacts.runs(self.client, model, deleted=True)
        self.binned = {run.identity: run for run in in_bin}
        self.logged_models: dict[str, list[Any]] = {}
        for logged in artifacts.models(self.client, model):
            self.logged_models.setdefault(logged.run, []).append(logged)
        every = (*self.runs.values(), *self.binned.values())
        self.sizes = {run.identity: self._size(run) for run in every}

    def _size(self, run: "Run") -> int:
        from pipeline.registry import artifacts

        uris = [run.uri, *(each.uri for each in self.logged_models.get(run.identity, ()))]
        return sum(sum(artifacts.listing(uri).values()) for uri in uris)

    def bytes(self) -> int:
        return sum(self.sizes.values())

    def finished(self) -> set[str]:
        """Return the keys of the trainings that have ended."""
        ended = (run for run in self.runs.values() if run.status == "FINISHED")
        return {run.tags.get(FIT_TAG, "") for run in ended}

    def stays(self, published: str | None, keep: int) -> set[str]:
        """Return the versions to keep: those of `always_kept`, the one published last, and the last
        `keep` others."""
        stays = always_kept(self.registry, self.model, self.versions) | {published or ""}
        others = [version.number for version in self.versions if version.number not in stays]
        return stays | set(others[max(0, len(others) - keep) :])

    def stored(self) -> Iterator[StoredVersion]:
        """Yield the versions, oldest first."""
        from pipeline.registry import artifacts

        for version in self.versions:
            run = self.runs.get(version.run) or self.binned.get(version.run)
            made_of = artifacts.lock_slice(run) if run else None
            yield StoredVersion(
                name=f"{self.model}/{version.number}",
                number=version.number,
                created=version.created,
                bytes=self.sizes.get(version.run, 0),
                needs=frozenset(named(made_of.values(), "outs", "deps")) if made_of else None,
                go=partial(self._drop_version, version),
            )

    def loose(self, now: float) -> Iterator[Item]:
        """Yield runs without a version: stopped ones, those of deleted versions, deleted ones."""
        from pipeline.registry import artifacts

        owned = {version.run for version in self.versions}
        for run in self.runs.values():
            size = self.sizes[run.identity]
            if run.identity in owned:
                continue
            if run.status == "RUNNING" and artifacts.last_point(self.client, run) < now - WEEK:
                close = partial(self.client.set_terminated, run.identity, "KILLED")
                yield Item("runs that stopped a week ago (closed)", run.name, 0, close)
            elif run.tags.get(PUBLISHED_TAG) == "true" and COLLECTED_TAG not in run.tags:
                drop = partial(self._drop_files, run.identity)
                yield Item("files of versions that are gone", run.name, size, drop)
        if artifacts.can_erase(self.registry.tracking):  # else `mlflow gc` on the server can
            for run in self.binned.values():
                if run.identity not in owned:
                    drop = partial(self._drop_files, run.identity)
                    size = self.sizes[run.identity]
                    yield Item("runs in MLflow's bin", run.name, size, drop)

    def _drop_version(self, version: "Version") -> None:
        from pipeline.registry import artifacts
        from pipeline.registry.ledger import Ledger

        with Ledger(self.registry, self.model).lock():
            now = artifacts.versions(self.client, self.model)
            if version.number in always_kept(self.registry, self.model, now):
                return  # promoted since the plan was made
            self.client.delete_model_version(self.model, version.number)
        if all(other.run != version.run for other in now if other != version):
            self._drop_files(version.run)

    def _drop_files(self, identity: str) -> None:
        """Delete the files of a run, and all of a run in MLflow's bin.

        Parameters, metrics and tags of other runs stay: they are small and part of the history.
        """
        from pipeline.registry import artifacts

        for logged in self.logged_models.get(identity, ()):
            artifacts.drop(logged.uri)
            self.client.delete_logged_model(logged.identity)
        if run := self.runs.get(identity):
            artifacts.drop(run.uri)
            self.client.set_tag(identity, COLLECTED_TAG, "true")
        elif identity in self.binned and artifacts.can_erase(self.registry.tracking):
            artifacts.erase(self.registry.tracking, self.binned[identity])


# the working folder


@dataclass(frozen=True)
class Workspace:
    """Content of the working folder, with the deletion of each part."""

    cache: Cache
    named: Set[str]
    """Objects of the cache that dvc.lock or a branch names."""
    state: Path
    """Folder of the checkpoints that trainings resume from."""

    def bytes(self) -> int:
        return sum(size_of(path) for path in (self.cache.folder, self.state) if path.exists())

    def unneeded(self, versions: Sequence[StoredVersion], now: float) -> Iterator[Item]:
        """Yield the parts of the cache that neither these versions nor the named objects need.

        References come before bytes: run cache entries, objects of folders, then of files.
        """
        needed = self.cache.reach(chain(self.named, *(each.needs or () for each in versions)))
        for path, outputs in self.cache.runs():
            if not outputs <= needed:
                yield _file("entries of DVC's run cache", path)
        objects = self.cache.objects()
        for name in sorted(objects, key=lambda name: not name.endswith(FOLDER)):
            if name not in needed:
                yield _file("cache objects that nobody needs", objects[name])
        for path in sorted(self.cache.folder.glob("files/md5/**/*")):
            partial_file = path.is_file() and not OBJECT.fullmatch(path.parent.name + path.name)
            if partial_file and path.stat().st_mtime < now - DAY:
                yield _file("files that DVC left half written", path)

    def resume_state(self, finished: Set[str], now: float) -> Iterator[Item]:
        """Yield the resume state of trainings that have finished, or stopped a week ago."""
        for folder in sorted(self.state.glob("*/*")):
            files = [file for file in folder.rglob("*") if file.is_file()]
            touched = max((file.stat().st_mtime for file in files), default=0.0)
            if folder.name in finished or touched < now - WEEK:
                kind = "resume state of trainings that ended"
                yield Item(kind, str(folder), size_of(folder), partial(shutil.rmtree, folder))


def _file(kind: str, path: Path) -> Item:
    return Item(kind, str(path), path.stat().st_size, lambda: path.unlink(missing_ok=True))
