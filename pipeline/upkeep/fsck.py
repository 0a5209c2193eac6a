"""Integrity check of everything that is stored.

DVC does not verify a read-only object of its cache, and an old version is read only when it is
needed. Therefore all of this is hashed or read again: the cache, the files that dvc.lock names,
every registered version and the artifacts of its run, the records and the ledger.
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
    """Description, and what to do about it."""
    damage: bool = True
    """False for a finding that is only informative."""


def check_cache(
    cache: Cache, wanted: Mapping[str, str], only: bool = False, *, log: Log = no_log
) -> Iterator[Finding]:
    """Hash the objects of the cache: all, or `only` the wanted ones.

    `wanted` maps the objects that are in use to their paths. A missing one is damage too, unless
    the working file is unchanged.
    """
    objects = cache.objects()
    use = _use(cache, wanted)
    checked = {name: file for name, file in objects.items() if name in use or not only}
    total, done = sum(file.stat().st_size for file in checked.values()), 0
    for name, file in checked.items():
        done += file.stat().st_size
        if md5_of(file) != name.removesuffix(FOLDER):
            path = f" ({use[name]})" if name in use else ""
            yield Finding(
                f"{file}{path}: its bytes do not match the hash in its name, and DVC would use it:"
                f" rm -f {file}, then {_remedy(name, use.get(name))}"
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
    """Return the wanted objects and those that they list, without folders that cannot be read."""
    use = dict(wanted)
    for name, path in wanted.items():
        if name.endswith(FOLDER):
            try:
                listed = cache.entries(name)
            except UserError:
                continue
            use |= {inner: f"{path}/{relative}" for relative, inner in listed.items()}
    return use


def _remedy(name: str, path: str | None) -> str:
    if path is None:
        return "dvc pull if a remote has it: nothing here needs it"
    if _is(path, name):
        return "dvc commit, which takes it from the working file"
    return "dvc pull, or dvc repro"


def _is(path: str, name: str) -> bool:
    return Path(path).exists() and md5_of(Path(path)) == name


def check_history(cache: Cache, who: str, wanted: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a note if objects that a version was made of are missing: it is not damage."""
    try:
        missing = [name for name in cache.reach(wanted) if not cache.has(name)]
    except UserError:
        return  # check_cache reports the damaged object
    if missing:
        yield Finding(
            f"{who}: {len(missing)} of the objects that it was made of are not in the cache:"
            " its files serve all the same; dvc pull brings back what a remote has",
            damage=False,
        )


def check_work(
    stages: Mapping[str, Mapping[str, Any]], root: Path, *, log: Log = no_log
) -> Iterator[Finding]:
    """Compare the working files with the digests in dvc.lock."""
    outs = [(stage, out) for stage, entry in stages.items() for out in entry.get("outs") or ()]
    for place, (stage, out) in enumerate(outs, 1):
        path = root / out["path"]
        if not path.exists():
            yield Finding(f"{out['path']}: is not there: dvc checkout, or dvc repro", damage=False)
        elif md5_of(path) != out["md5"]:
            remedy = f"dvc checkout -f {out['path']}, or dvc repro {stage}"
            yield Finding(f"{out['path']}: changed since its stage ran: {remedy}")
        log.progress(place, len(outs), "working files")


def check_records(home: Path) -> Iterator[Finding]:
    """Read the records of a recipe in its folder `home`, and yield those that cannot be read."""
    for name, kind in RECORDS.items():
        if (home / name).exists():
            try:
                kind.read(home / name)
            except UserError as error:
                yield Finding(str(error))


def check_registry(
    registry: "Registry", model: str, cache: Cache, kept_out: set[str], *, log: Log = no_log
) -> Iterator[Finding]:
    """Hash the files of every registered version and the artifacts of its run; read the ledger.

    `kept_out` are the outs that dvc.yaml does not cache.
    """
    from pipeline.registry import artifacts

    runs = {run.identity: run for run in artifacts.runs(registry.client, model)}
    runs |= {run.identity: run for run in artifacts.runs(registry.client, model, deleted=True)}
    versions = artifacts.versions(registry.client, model)
    champion = registry.champion(model)
    for place, version in enumerate(versions, 1):
        remedy = "it is not served: restore it from a copy"
        if version.number == champion:
            remedy += f", or bertline rollback {model}"
        yield from _check_version(registry, model, version.number, remedy)
        if run := runs.get(version.run):
            yield from _check_run(f"{model}/{version.number}", run)
            made_of = in_use(artifacts.lock_slice(run) or {}, kept_out)
            yield from check_history(cache, f"{model}/{version.number}", made_of)
        log.progress(place, len(versions), f"versions of {model}")
    for identity, text in artifacts.ledger(registry.client, model):
        try:
            Entry.model_validate_json(text)
        except ValidationError as error:
            what = error.errors(include_url=False)[0]["msg"]
            yield Finding(
                f"ledger of {model}, run {identity}: cannot be read ({what}): restore MLflow's"
                " database from a copy"
            )


def _check_version(registry: "Registry", model: str, number: str, remedy: str) -> Iterator[Finding]:
    try:
        for line in registry.damage(model, number):
            yield Finding(f"{line}: {remedy}")
    except Exception as error:  # of MLflow, a missing folder, an unreadable list: all count
        yield Finding(f"{model}/{number}: its files cannot be read ({_first(error)}): {remedy}")


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
        remedy = f"run {run.identity}: restore it from a copy, or from data/"
        try:
            if sha256_of(artifacts.fetch(run.uri, path)) != digest:
                yield Finding(f"{path} of {who} has changed: {remedy}")
        except UserError:
            yield Finding(f"{path} of {who} is missing: {remedy}")


def check_database(path: Path) -> Iterator[Finding]:
    """Yield a finding if SQLite's quick check finds the file damaged."""
    try:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as database:
            result = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        result = str(error)
    if result != "ok":
        yield Finding(f"{path}: is damaged ({result}): restore it from a copy")


def in_use(stages: Mapping[str, Mapping[str, Any]], kept_out: set[str]) -> dict[str, str]:
    """Return the path of each cached out of a lock's stages, by digest."""
    outs = named(stages.values())
    return {name: path for name, path in outs.items() if path not in kept_out}


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
