"""Removal of a person's rows from everything that the pipeline stores.

    bertline forget reviews --ids ids.txt

The search covers every file, decoded if it is a table, so it does not depend on a list of known
places. Files that can be made again are removed. The source and MLflow's artifacts of past runs are
rewritten without the rows. The source and rows.parquet, which map ids to texts, are changed last,
so that a second call completes one that was stopped. Weights trained on the rows stay until a
training without them.

No list of removed ids is kept: it would be personal data too. Therefore a source that cannot be
rewritten here is refused, and restoring an old copy of the source brings the rows back.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from pipeline.core.locations import PACKAGE, is_local
from pipeline.core.log import Log, no_log
from pipeline.core.text import content_id, join_texts, normalised
from pipeline.retraining.row_changes import learned
from pipeline.sources import TABLES, Layout, Row, holds_tables, read_rows
from pipeline.sources.encodings import is_utf8
from pipeline.sources.json_records import shape_of
from pipeline.sources.tables import find_delimiter
from pipeline.upkeep.cache import FOLDER, Cache, md5_of
from pipeline.upkeep.rows import Forgotten, records, texts_of

if TYPE_CHECKING:
    from pipeline.registry.artifacts import Run
    from pipeline.registry.versions import Registry

NOT_OURS = (".git", ".venv")  # folders of the project that are not searched
PREFECT_TEXTS = {
    "log": ("message",),
    "artifact": ("data", "description"),
    "artifact_collection": ("data", "description"),
}

# formats in which a row is a line or a record of one file
REWRITTEN = (*TABLES, ".jsonl", ".ndjson", ".json", ".parquet", "lines", "word_tags")


@dataclass(frozen=True)
class Step:
    what: str
    go: Callable[[], object]


@dataclass
class Found:
    """Places and texts of the rows to remove."""

    places: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """File and number of each row, by source."""
    texts: dict[str, str] = field(default_factory=dict)
    """Text of each row, by id."""
    others: list[str] = field(default_factory=list)
    """Texts of the rows that stay."""
    known: set[str] = field(default_factory=set)
    """Ids that were found anywhere."""

    def twins(self) -> list[str]:
        """Return ids of rows that stay and differ from a removed row only in case or spaces."""
        gone = {normalised(text) for text in self.texts.values()}
        return sorted({content_id(text) for text in self.others if normalised(text) in gone})


def find(
    ids: set[str],
    sources: Mapping[str, Layout],
    columns: tuple[str, ...],
    tables: Iterable[Path],
) -> Found:
    """Find the rows in the sources, and texts that the sources lack in `tables`.

    `columns` are the names of the text column and of the second text column, if there is one.
    """
    found = Found()
    for source, layout in sources.items():
        if is_local(source) and not Path(source).exists():
            continue
        for row in read_rows(source, columns, layout):
            if not isinstance(row, Row):
                continue
            text, second = (*(row.fields.get(column, "") for column in columns), "")[:2]
            text = join_texts(text, second)
            if (name := content_id(text)) in ids:
                found.places.setdefault(source, []).append((row.file, row.number))
                found.texts[name] = text
            else:
                found.others.append(text)
    for table in tables:
        texts = {name: text for name, text in texts_of(table).items() if name in ids}
        found.known |= texts.keys()
        found.texts = {name: text for name, text in texts.items() if text} | found.texts
    found.known |= found.texts.keys()
    return found


# sources


def source_steps(
    places: Mapping[str, Sequence[tuple[str, int]]],
    root: Path,
    sources: Mapping[str, Layout],
    columns: tuple[str, ...] = (),
) -> list[Step]:
    """Return the steps that remove the rows from the sources, which have these `columns`.

    Raises UserError for a source that cannot be rewritten here.
    """
    steps = []
    for source, rows in places.items():
        if source.startswith(PACKAGE):
            raise UserError(
                f"{source}: still holds {len(rows)} of the rows and cannot be rewritten: copy it to"
                " data/raw, name the copy in the recipe's ingest.source and watch, and call again"
            )
        path = Path(source).resolve()
        if not is_local(source) or not path.is_relative_to(root.resolve()):
            raise UserError(
                f"{source}: still holds {len(rows)} of the rows and lies outside of this folder:"
                " take them out there, or copy it to data/raw, and call again"
            )
        layout = sources[source]
        if path.is_dir() and layout.format is None and not holds_tables(path):
            for file, _ in rows:
                steps.append(_removal(path / file, root))
            continue
        files: dict[Path, set[int]] = {}
        for file, number in rows:
            files.setdefault(path / file if path.is_dir() else path, set()).add(number)
        for target, numbers in files.items():
            if not _is_rewritten(target, layout):
                raise UserError(
                    f"{source}: still holds {len(rows)} of the rows, the first at line"
                    f" {min(numbers)}, and is of a format that is not rewritten here: take them"
                    " out there, and call again"
                )
            shown = f"{source}/{target.name}" if path.is_dir() else source
            what = f"rewrite {shown} without {len(numbers)} rows"
            steps.append(Step(what, partial(_rewrite, target, numbers, layout, columns)))
    return steps


def _is_rewritten(path: Path, layout: Layout) -> bool:
    kind = layout.format or path.suffix.lower()
    is_line = kind not in (".json", ".jsonl", ".ndjson") or shape_of(path) == "lines"
    return kind in REWRITTEN and is_utf8(layout.encoding) and is_line


def _rewrite(path: Path, numbers: set[int], layout: Layout, columns: tuple[str, ...]) -> None:
    """Remove rows from a file; in text formats all other bytes stay the same."""
    suffix = path.suffix.lower()
    with atomic_write(path) as temporary:
        if suffix == ".parquet":
            _rewrite_parquet(path, numbers, temporary)
            return
        if suffix in TABLES and layout.quotes:
            delimiter = layout.delimiter or find_delimiter(path, columns, layout)
            parts = records(path.read_bytes(), delimiter)
        else:
            with path.open("rb") as file:
                parts = iter(list(enumerate(file, 1)))
        temporary.write_bytes(b"".join(part for number, part in parts if number not in numbers))


def _rewrite_parquet(path: Path, numbers: set[int], new: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as old:
        groups = old.num_row_groups
        codec = old.metadata.row_group(0).column(0).compression if groups else "SNAPPY"
        codec = "NONE" if codec == "UNCOMPRESSED" else codec
        with pq.ParquetWriter(new, old.schema_arrow, compression=codec) as writer:
            first = 1
            for group in range(groups):
                table = old.read_row_group(group)
                stay = [first + place not in numbers for place in range(table.num_rows)]
                writer.write_table(table.filter(pa.array(stay, pa.bool_())))
                first += table.num_rows


# what can be made again


def source_objects(places: Mapping[str, Sequence[tuple[str, int]]]) -> set[str]:
    """Return DVC's names of the current sources, which its cache may hold."""
    local = {Path(source): rows for source, rows in places.items() if Path(source).exists()}
    inner = {
        md5_of(path / file)
        for path, rows in local.items()
        for file, _ in rows
        if path.is_dir() and (path / file).exists()
    }
    return inner | {md5_of(path) for path in local}


def holders(cache: Cache, forgotten: Forgotten, known: set[str], *, log: Log = no_log) -> set[str]:
    """Return DVC's objects that hold the rows, with the `known` ones and the folders of both."""
    objects = cache.objects()
    found = known & objects.keys()
    for place, (name, path) in enumerate(objects.items(), 1):
        if forgotten.in_file(path):
            found.add(name)
        log.progress(place, len(objects), "cache objects")
    lists = {name for name in objects if name.endswith(FOLDER) and found & _listed(cache, name)}
    return found | lists


def cache_steps(cache: Cache, names: set[str]) -> list[Step]:
    """Return the step that removes these objects, after the run cache entries that name them."""
    if not names:
        return []
    runs = [path for path, outputs in cache.runs() if outputs & names]
    ordered = sorted(names, key=lambda name: not name.endswith(FOLDER))
    paths = [*runs, *(cache.path(name) for name in ordered)]
    count = f"{len(names)} cache objects and {len(runs)} entries of DVC's run cache"

    def go() -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    return [Step(f"remove {count} from {cache.folder}", go)]


def _listed(cache: Cache, name: str) -> set[str]:
    try:
        return set(cache.entries(name).values())
    except UserError:
        return set()


def file_steps(files: Iterable[Path], forgotten: Forgotten, root: Path) -> list[Step]:
    """Return the steps that remove those files that hold the rows."""
    return [_removal(file, root) for file in files if forgotten.in_file(file)]


def below(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


def whole_folder_steps(folders: Iterable[Path]) -> list[Step]:
    return [
        Step(f"remove {folder}", partial(shutil.rmtree, folder))
        for folder in folders
        if folder.exists()
    ]


def _removal(path: Path, root: Path) -> Step:
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return Step(f"remove {shown}", lambda: path.unlink(missing_ok=True))


# MLflow and Prefect


def mlflow_steps(
    registry: "Registry", model: str, forgotten: Forgotten, *, log: Log = no_log
) -> list[Step]:
    """Return the steps that rewrite artifacts of runs and ledger, or remove them if need be."""
    from pipeline.registry import artifacts
    from pipeline.registry.ledger import experiment_of

    runs = [
        (run, deleted)
        for experiment in (model, experiment_of(model))
        for deleted in (False, True)
        for run in artifacts.runs(registry.client, experiment, deleted=deleted)
    ]
    steps: list[Step] = []
    for place, (run, deleted) in enumerate(runs, 1):
        for path in artifacts.listing(run.uri):
            file = artifacts.fetch(run.uri, path)
            if forgotten.in_file(file):
                left = forgotten.cut(path, file.read_bytes())
                steps.append(_artifact(registry, run, path, left, in_bin=deleted))
        log.progress(place, len(runs), "runs in MLflow")
    return steps


def _artifact(
    registry: "Registry", run: "Run", path: str, left: bytes | None, *, in_bin: bool
) -> Step:
    from pipeline.registry import artifacts

    def go() -> None:
        if not in_bin:  # MLflow cannot change tags of a deleted run
            _update_digests(registry, run, path, left)
        if left is None:
            artifacts.drop(run.uri, path)
        else:
            artifacts.put(run.uri, path, left)

    verb = "remove" if left is None else "rewrite"
    return Step(f"{verb} {path} of MLflow's run {run.name} ({run.identity[:8]})", go)


def _update_digests(registry: "Registry", run: "Run", path: str, left: bytes | None) -> None:
    """Update the digest of an artifact in the lists that its run holds."""
    from pipeline.registry import artifacts, digests
    from pipeline.registry.tags import DIGESTS_TAG, RECORDS_TAG

    def updated(listed: digests.Digests) -> digests.Digests:
        own = {path: digests.tag_of(left)} if left is not None and path in listed else {}
        return {name: digest for name, digest in listed.items() if name != path} | own

    tags = registry.client.get_run(run.identity).data.tags
    if RECORDS_TAG in tags:  # from an earlier version of bertline
        listed = json.dumps(updated(json.loads(tags[RECORDS_TAG])))
        registry.client.set_tag(run.identity, RECORDS_TAG, listed)
    if DIGESTS_TAG in tags:
        before = json.loads(artifacts.fetch(run.uri, digests.FILE).read_bytes())
        content = digests.as_bytes(updated(before["run"]), before["version"])
        artifacts.put(run.uri, digests.FILE, content)
        registry.client.set_tag(run.identity, DIGESTS_TAG, digests.tag_of(content))


def trained_on(registry: "Registry", model: str, ids: Iterable[str]) -> dict[str, set[str] | None]:
    """Return the given rows that each version was trained on; None if it has no list of rows."""
    from pipeline.registry import artifacts
    from pipeline.registry.artifacts import ROWS

    wanted = set(ids)
    runs = {
        run.identity: run
        for deleted in (False, True)
        for run in artifacts.runs(registry.client, model, deleted=deleted)
    }
    found: dict[str, set[str] | None] = {}
    for version in artifacts.versions(registry.client, model):
        run = runs.get(version.run)
        try:
            if run is None:
                raise UserError(f"{model}/{version.number}: has no run")
            found[version.number] = wanted & learned(artifacts.fetch(run.uri, ROWS))
        except UserError:
            found[version.number] = None
    return found


def prefect_steps(home: Path, forgotten: Forgotten) -> list[Step]:
    """Return the step that removes log lines and artifacts with the rows from prefect.db."""
    database = home / "prefect.db"
    if not in_prefect(database, forgotten):
        return []
    what = f"remove log lines and artifacts from {database}"
    return [Step(what, partial(_clean, database, forgotten))]


def in_prefect(database: Path, forgotten: Forgotten) -> bool:
    files = database.parent.glob(f"{database.name}*")  # with SQLite's write-ahead log
    return database.exists() and any(forgotten.in_file(file) for file in files)


def _clean(database: Path, forgotten: Forgotten) -> None:
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            for table, columns in PREFECT_TEXTS.items():
                for column in columns:
                    query = f"DELETE FROM {table} WHERE instr(CAST({column} AS BLOB), ?)"
                    connection.executemany(query, [(needle,) for needle in forgotten.needles])
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("VACUUM")
    except sqlite3.OperationalError as error:
        raise UserError(f"{database}: {error}: end Prefect's server and call again") from None


# afterwards


def remains(
    root: Path, forgotten: Forgotten, ignore: Sequence[Path] = (), *, log: Log = no_log
) -> Iterator[Path]:
    """Yield every file of the project that still holds the rows."""
    ignored = {path.resolve() for path in ignore}
    files = [
        file
        for file in below(root)
        if file.relative_to(root).parts[0] not in NOT_OURS and file.resolve() not in ignored
    ]
    for place, file in enumerate(files, 1):
        if forgotten.in_file(file):
            yield file
        log.progress(place, len(files), "files")
