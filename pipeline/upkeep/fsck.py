"""Is everything still what it was when it was written?

DVC takes a read-only object of its cache at its word, and nobody reads an old version until it is
needed. So all of it is hashed again here: the cache, the files that dvc.lock names, every
registered version and what its run keeps, the records and the ledger.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.core.log import Log, no_log
from pipeline.core.records import (
    Benchmark,
    Export,
    Fit,
    Intake,
    Lengths,
    Publication,
    Record,
    Scores,
    Validation,
)
from pipeline.registry.records import Entry, Verdict
from pipeline.upkeep.cache import FOLDER, Cache, md5_of, named

if TYPE_CHECKING:
    from pipeline.registry.versions import Registry

RECORDS: dict[str, type[Record]] = {
    "ingest/intake.json": Intake,
    "validate/validation.json": Validation,
    "tokenize/lengths.json": Lengths,
    "finetune/fit.json": Fit,
    "evaluate/scores.json": Scores,
    "export/parity.json": Export,
    "benchmark/benchmark.json": Benchmark,
    "publish/publication.json": Publication,
    "gate/verdict.json": Verdict,
}


@dataclass(frozen=True)
class Finding:
    what: str
    """What it is, and the way on."""
    damage: bool = True
    """Else it is only worth knowing."""


def check_cache(
    cache: Cache, wanted: Mapping[str, str], only: bool = False, *, log: Log = no_log
) -> Iterator[Finding]:
    """Hash the cache's objects: all, or `only` the wanted ones.

    `wanted` maps the objects that are in use to what they are called there. One of those that is
    missing is damage too, unless the working file still is what it was.
    """
    objects = cache.objects()
    use = _use(cache, wanted)
    looked = {name: file for name, file in objects.items() if name in use or not only}
    total, done = sum(file.stat().st_size for file in looked.values()), 0
    for name, file in looked.items():
        done += file.stat().st_size
        if md5_of(file) != name.removesuffix(FOLDER):
            what = f" ({use[name]})" if name in use else ""
            yield Finding(
                f"{file}{what}: its bytes are not those of its name, and DVC would trust it:"
                f" rm -f {file}, then {_way_back(name, use.get(name))}"
            )
        log.progress(done, total, "bytes of the cache")
    for name, path in use.items():
        if name in objects:
            continue
        if name in wanted and _is(path, name):
            yield Finding(f"{path}: is not in the cache: dvc commit puts it there", damage=False)
        else:
            yield Finding(f"{path}: its object {name} is not in the cache: dvc pull, or dvc repro")


def _use(cache: Cache, wanted: Mapping[str, str]) -> dict[str, str]:
    """The wanted objects and what they list. A folder that cannot be read is told by its hash."""
    use = dict(wanted)
    for name, path in wanted.items():
        if name.endswith(FOLDER):
            try:
                listed = cache.entries(name)
            except UserError:
                continue
            use |= {inner: f"{path}/{relative}" for relative, inner in listed.items()}
    return use


def _way_back(name: str, path: str | None) -> str:
    if path is None:
        return "dvc pull where a remote has it: nothing here is in need of it"
    if _is(path, name):
        return "dvc commit, which takes it from the working file"
    return "dvc pull, or dvc repro"


def _is(path: str, name: str) -> bool:
    return Path(path).exists() and md5_of(Path(path)) == name


def check_history(cache: Cache, who: str, wanted: Mapping[str, str]) -> Iterator[Finding]:
    """True if what a version was made of is still there: worth knowing, not damage."""
    try:
        missing = [name for name in cache.reach(wanted) if not cache.has(name)]
    except UserError:
        return  # the damaged object has its own line
    if missing:
        yield Finding(
            f"{who}: {len(missing)} of the objects that it was made of are not in the cache:"
            " its files serve all the same; dvc pull brings back what a remote has",
            damage=False,
        )


def check_work(
    stages: Mapping[str, Mapping[str, Any]], root: Path, *, log: Log = no_log
) -> Iterator[Finding]:
    """Compare the working files that dvc.lock names with what it says of them."""
    outs = [(stage, out) for stage, entry in stages.items() for out in entry.get("outs") or ()]
    for place, (stage, out) in enumerate(outs, 1):
        path = root / out["path"]
        if not path.exists():
            yield Finding(f"{out['path']}: is not there: dvc checkout, or dvc repro", damage=False)
        elif md5_of(path) != out["md5"]:
            way = f"dvc checkout -f {out['path']}, or dvc repro {stage}"
            yield Finding(f"{out['path']}: changed since its stage ran: {way}")
        log.progress(place, len(outs), "working files")


def check_records(home: Path) -> Iterator[Finding]:
    """True if a recipe's records can be read."""
    for name, kind in RECORDS.items():
        if (home / name).exists():
            try:
                kind.read(home / name)
            except UserError as error:
                yield Finding(str(error))


def check_registry(
    registry: "Registry", model: str, cache: Cache, kept_out: set[str], *, log: Log = no_log
) -> Iterator[Finding]:
    """Hash every registered version and what its run keeps, and read the ledger.

    `kept_out` are the outs that dvc.yaml keeps out of the cache.
    """
    from pipeline.registry import artifacts

    kept = {run.identity: run for run in artifacts.runs(registry.client, model)}
    kept |= {run.identity: run for run in artifacts.runs(registry.client, model, deleted=True)}
    found = artifacts.versions(registry.client, model)
    champion = registry.champion(model)
    for place, version in enumerate(found, 1):
        way = "it is not served: restore it from a copy"
        if version.number == champion:
            way += f", or bertline rollback {model}"
        yield from _check_version(registry, model, version.number, way)
        if run := kept.get(version.run):
            yield from _check_run(f"{model}/{version.number}", run)
            made_of = in_use(artifacts.lock_slice(run) or {}, kept_out)
            yield from check_history(cache, f"{model}/{version.number}", made_of)
        log.progress(place, len(found), f"versions of {model}")
    for identity, text in artifacts.ledger(registry.client, model):
        try:
            Entry.model_validate_json(text)
        except ValidationError as error:
            what = error.errors(include_url=False)[0]["msg"]
            yield Finding(
                f"ledger of {model}, run {identity}: cannot be read ({what}): restore MLflow's"
                " database from a copy"
            )


def _check_version(registry: "Registry", model: str, number: str, way: str) -> Iterator[Finding]:
    try:
        for line in registry.damage(model, number):
            yield Finding(f"{line}: {way}")
    except Exception as error:  # MLflow's own, an absent folder, an unreadable list: all of them
        yield Finding(f"{model}/{number}: its files cannot be had ({_first(error)}): {way}")


def _check_run(who: str, run: Any) -> Iterator[Finding]:
    from pipeline.registry import artifacts, digests

    try:
        listed = digests.read("run", run.tags, lambda path: artifacts.fetch(run.uri, path), who)
    except UserError as error:
        yield Finding(f"{error}: run {run.identity}")
        return
    except ValueError:
        yield Finding(f"{who}: the list of its run's artifacts cannot be read")
        return
    if listed is None:
        yield Finding(f"{who}: its run has no list of its artifacts", damage=False)
        return
    for path, digest in listed.items():
        way = f"run {run.identity}: restore it from a copy, or from data/"
        try:
            if sha256_of(artifacts.fetch(run.uri, path)) != digest:
                yield Finding(f"{path} of {who} has changed: {way}")
        except UserError:
            yield Finding(f"{path} of {who} is missing: {way}")


def check_database(path: Path) -> Iterator[Finding]:
    """True if SQLite finds its file sound."""
    try:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as database:
            told = [row[0] for row in database.execute("PRAGMA quick_check(1)")]
    except sqlite3.DatabaseError as error:
        told = [str(error)]
    if told != ["ok"]:
        yield Finding(f"{path}: is damaged ({told[0]}): restore it from a copy")


def in_use(stages: Mapping[str, Mapping[str, Any]], kept_out: set[str]) -> dict[str, str]:
    """The objects that a lock's stages made, by digest, but for what is kept out of the cache."""
    outs = named(stages.values())
    return {name: path for name, path in outs.items() if path not in kept_out}


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
