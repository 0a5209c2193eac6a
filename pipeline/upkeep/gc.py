"""What may go, and never what the ledger can return to.

Every version that ever was a champion stays, and with it what it was made of; so do the last few
others, and whatever dvc.lock or a branch names. A thing's name goes before its bytes, so that a
kill in between leaves bytes that nobody names: the next call finds them.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.files import size_of
from pipeline.log import Log, no_log
from pipeline.upkeep.cache import FOLDER, OBJECT, Cache, named

if TYPE_CHECKING:
    from pipeline.adapters.mlflow import Registry
    from pipeline.adapters.mlflow_files import Run, Version

COLLECTED_TAG = "bertline.collected"  # on a run whose version and files are gone
DAY = 24 * 3600.0  # seconds
WEEK = 7 * DAY
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Item:
    kind: str
    """Its row of the table."""
    name: str
    bytes: int
    go: Callable[[], object]


@dataclass(frozen=True)
class Plan:
    items: Sequence[Item]
    before: int
    """Bytes of the cache, MLflow's files and resume state."""
    notes: Sequence[str] = ()

    @property
    def after(self) -> int:
        return self.before - sum(item.bytes for item in self.items)


@dataclass(frozen=True)
class Held:
    """A version and what it holds."""

    model: str
    version: "Version"
    bytes: int
    needs: frozenset[str]
    """Objects that it was made of."""
    go: Callable[[], object]


@dataclass
class Shelf:
    """What MLflow holds of the recipes."""

    kept: list[Held] = field(default_factory=list)
    going: list[Held] = field(default_factory=list)
    """Oldest first."""
    items: list[Item] = field(default_factory=list)
    bytes: int = 0
    finished: set[str] = field(default_factory=set)
    """Keys of the trainings that have ended."""
    notes: list[str] = field(default_factory=list)


def plan(
    registry: "Registry",
    published: Mapping[str, str | None],
    cache: Cache,
    named_now: set[str],
    state: Path,
    now: float,
    *,
    keep: int,
    budget: int | None = None,
) -> Plan:
    """What would go, in the order in which it must.

    `published` are the recipes, with the version that each has published last; `named_now` the
    objects that dvc.lock or a branch names. `now` is in seconds since 1970, `budget` in bytes: with
    one, versions go only until the rest fits.
    """
    shelf = Shelf()
    for model, number in published.items():
        _look(registry, model, number, keep, now, shelf)
    shelf.items += _resume_state(state, shelf.finished, now)
    before = shelf.bytes + _weigh(cache.folder) + _weigh(state)

    def going(count: int) -> Plan:
        kept = [*shelf.kept, *shelf.going[count:]]
        needed = cache.reach(named_now.union(*(held.needs for held in kept)))
        versions = [
            Item("versions that never were in use", f"{h.model}/{h.version.number}", h.bytes, h.go)
            for h in shelf.going[:count]
        ]
        items = [*versions, *_unneeded(cache, needed, now), *shelf.items]
        return Plan(items, before, shelf.notes)

    if budget is None:
        return going(len(shelf.going))
    plans = (going(count) for count in range(len(shelf.going) + 1))
    return next((one for one in plans if one.after <= budget), going(len(shelf.going)))


def collect(items: Sequence[Item], *, log: Log = no_log) -> None:
    """Let them go, one after the other."""
    for place, item in enumerate(items, 1):
        item.go()
        log.progress(place, len(items), item.kind)


def table(found: Plan) -> str:
    """What goes, how many of it, and what that frees."""
    kinds: dict[str, list[Item]] = {}
    for item in found.items:
        kinds.setdefault(item.kind, []).append(item)
    rows = [(kind, len(items), sum(i.bytes for i in items)) for kind, items in kinds.items()]
    rows.append(("together", len(found.items), found.before - found.after))
    wide = max(len(kind) for kind, _, _ in rows)
    lines = [f"{kind:<{wide}}  {count:>6,}  {shown(size):>9}" for kind, count, size in rows]
    return "\n".join([*lines, f"{shown(found.before)} are held, {shown(found.after)} stay"])


def shown(size: int) -> str:
    """Bytes as people read them."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f} {unit}"
    return f"{size} B"


def read_size(text: str) -> int:
    """`2GB` or `500 MB` as bytes. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)", text.strip().upper())
    if not found:
        raise UserError(f"--budget {text}: write a size such as 500MB or 2GB")
    return round(float(found[1]) * UNITS[found[2]])


# what MLflow holds


def always_kept(registry: "Registry", model: str, versions: Sequence["Version"]) -> set[str]:
    """Versions that no budget touches: every champion there ever was, for rolling back walks
    through them, whatever has an alias, and what waits for a person."""
    entries = [entry for _, entry, _ in registry.entries(model)]
    last = {entry.version: entry.event for entry in entries}
    return (
        {entry.version for entry in entries if entry.moves}
        | {entry.previous for entry in entries if entry.previous}
        | {number for number, event in last.items() if event == "await"}
        | {version.number for version in versions if version.aliases}
    )


def _look(
    registry: "Registry", model: str, published: str | None, keep: int, now: float, shelf: Shelf
) -> None:
    from pipeline.adapters import mlflow_files
    from pipeline.adapters.mlflow import PUBLISHED_TAG

    client = registry.client
    versions = mlflow_files.versions(client, model)
    runs = {run.identity: run for run in mlflow_files.runs(client, model)}
    binned = {run.identity: run for run in mlflow_files.runs(client, model, deleted=True)}
    served: dict[str, list[Any]] = {}
    for one in mlflow_files.models(client, model):
        served.setdefault(one.run, []).append(one)
    weight = {
        run.identity: sum(
            sum(mlflow_files.listing(uri).values())
            for uri in [run.uri, *(one.uri for one in served.get(run.identity, ()))]
        )
        for run in (*runs.values(), *binned.values())
    }
    shelf.bytes += sum(weight.values())
    shelf.finished |= {
        r.tags.get("bertline.fit", "") for r in runs.values() if r.status == "FINISHED"
    }

    erasable = mlflow_files.can_erase(registry.tracking)
    stays = always_kept(registry, model, versions) | {published}
    others = [version.number for version in versions if version.number not in stays]
    stays |= set(others[len(others) - keep :] if keep else ())
    for version in versions:
        run = runs.get(version.run) or binned.get(version.run)
        files_go = _nothing
        if run and run.identity in runs:
            files_go = _files_go(registry, run, served.get(run.identity, []))
        elif run and erasable:
            files_go = _bin_goes(registry, run, served.get(run.identity, []))
        slice_ = mlflow_files.lock_slice(run) if run else None
        if slice_ is None and version.number in stays:
            shelf.notes.append(
                f"{model}/{version.number}: what it was made of is not written down, so only what"
                " others need of that stays; its own files stay"
            )
        held = Held(
            model,
            version,
            weight.get(version.run, 0),
            frozenset(named((slice_ or {}).values(), "outs", "deps")),
            _version_goes(registry, model, version, files_go),
        )
        (shelf.kept if version.number in stays else shelf.going).append(held)

    owned = {version.run for version in versions}
    for run in runs.values():
        if run.identity in owned:
            continue
        if run.status == "RUNNING" and mlflow_files.last_point(client, run) < now - WEEK:
            shelf.items.append(
                Item("runs that stopped a week ago (closed)", run.name, 0, _closes(client, run))
            )
        elif run.tags.get(PUBLISHED_TAG) == "true" and COLLECTED_TAG not in run.tags:
            go = _files_go(registry, run, served.get(run.identity, []))
            shelf.items.append(Item("files of versions gone", run.name, weight[run.identity], go))
    loose = [run for run in binned.values() if run.identity not in owned]
    if loose and not erasable:
        shelf.notes.append(
            f"{model}: {len(loose)} runs in MLflow's bin: only its server can erase them: mlflow gc"
        )
    else:
        for run in loose:
            go = _bin_goes(registry, run, served.get(run.identity, []))
            shelf.items.append(Item("runs in MLflow's bin", run.name, weight[run.identity], go))


def _version_goes(
    registry: "Registry", model: str, version: "Version", files_go: Callable[[], None]
) -> Callable[[], None]:
    def go() -> None:
        from pipeline.adapters import mlflow_files

        now = mlflow_files.versions(registry.client, model)
        if version.number in always_kept(registry, model, now):
            return  # promoted since the plan was made
        registry.client.delete_model_version(model, version.number)
        if all(other.run != version.run for other in now if other != version):
            files_go()

    return go


def _files_go(registry: "Registry", run: "Run", served: list[Any]) -> Callable[[], None]:
    """Its parameters, metrics and tags stay: they are small, and history."""

    def go() -> None:
        from pipeline.adapters import mlflow_files

        _models_go(registry.client, served)
        mlflow_files.drop(run.uri)
        registry.client.set_tag(run.identity, COLLECTED_TAG, "true")

    return go


def _nothing() -> None:
    """A version without a run has nothing else."""


def _models_go(client: Any, served: list[Any]) -> None:
    from pipeline.adapters import mlflow_files

    for one in served:
        mlflow_files.drop(one.uri)
        client.delete_logged_model(one.identity)


def _bin_goes(registry: "Registry", run: "Run", served: list[Any]) -> Callable[[], None]:
    def go() -> None:
        from pipeline.adapters import mlflow_files

        _models_go(registry.client, served)
        mlflow_files.erase(registry.tracking, run)

    return go


def _closes(client: Any, run: "Run") -> Callable[[], None]:
    return lambda: client.set_terminated(run.identity, "KILLED")


# what lies in this folder


def _unneeded(cache: Cache, needed: set[str], now: float) -> Iterator[Item]:
    """References before bytes: entries of the run cache, folders' objects, then files'."""
    for path, makes in cache.runs():
        if not makes <= needed:
            yield _file("entries of DVC's run cache", path)
    objects = cache.objects()
    for name in sorted(objects, key=lambda name: not name.endswith(FOLDER)):
        if name not in needed:
            yield _file("cache objects that nobody needs", objects[name])
    for path in sorted(cache.folder.glob("files/md5/**/*")):
        half = path.is_file() and not OBJECT.fullmatch(path.parent.name + path.name)
        if half and path.stat().st_mtime < now - DAY:
            yield _file("files that DVC left half written", path)


def _file(kind: str, path: Path) -> Item:
    return Item(kind, str(path), path.stat().st_size, lambda: path.unlink(missing_ok=True))


def _resume_state(state: Path, finished: set[str], now: float) -> Iterator[Item]:
    for folder in sorted(state.glob("*/*")):
        files = [file for file in folder.rglob("*") if file.is_file()]
        touched = max((file.stat().st_mtime for file in files), default=0.0)
        if folder.name in finished or touched < now - WEEK:
            kind = "resume state of trainings that ended"
            yield Item(kind, str(folder), size_of(folder), partial(shutil.rmtree, folder))


def _weigh(folder: Path) -> int:
    return size_of(folder) if folder.exists() else 0
