"""Answers of a registered version to the rows of a file, chunk by chunk.

Rows are answered in their order, in chunks that depend on the file alone, so that the same file and
version give the same answers, whether or not the job was stopped in between. Within a chunk texts
are answered by their length, so that batches have little padding.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.batch.chunks import CHUNK, LARGEST, in_chunks, job_folder
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, parquet_batches, sha256_of
from pipeline.core.log import Log, no_log
from pipeline.sources import PLAIN, Layout, Reject, Row, read_rows
from pipeline.sources.remote import local_path
from pipeline.sources.rows import require

if TYPE_CHECKING:
    import pyarrow as pa

Texts = tuple[str, str]
Answer = Callable[[Sequence[Texts]], Sequence[dict[str, Any]]]

KINDS = (".parquet", ".jsonl", ".csv")
AT_ONCE = 512  # texts of a call
PARQUET = ".parquet"
REJECTS = "rejects.jsonl"
VERSION = "version"
CLASHING = "input_{}"  # name of an input's column that is called like one of the answers


@dataclass(frozen=True)
class Input:
    """Rows to answer."""

    source: str
    """File, folder, `package:NAME/FOLDER`, URL or `hub:NAME@REVISION`."""
    text: str
    second: str | None = None
    """Column of the second text, for versions that read two."""
    layout: Layout = PLAIN

    def read(self) -> Iterator[Row | Reject]:
        """Yield every row with all its columns, or a `Reject` if a text is empty. Rows of one file
        of Parquet have the texts alone, since its other columns are carried as they are."""
        names = tuple(filter(None, (self.text, self.second)))
        folder, seen = local_path(self.source).is_dir(), False
        for row in read_rows(self.source, () if folder else names, self.layout):
            if isinstance(row, Row):
                if folder and not seen:
                    require(names, tuple(row.fields), f"{self.source}: row 1", "its rows have")
                    seen = True
                empty = next((name for name in names if not row.fields[name].strip()), None)
                if empty:
                    row = Reject(row.file, row.number, f"its {empty!r} is empty")
            yield row

    def texts(self, row: Row) -> Texts:
        return row.fields[self.text], row.fields[self.second] if self.second else ""

    def key(self, version: str) -> str:
        """Hash everything that the answers depend on."""
        path = local_path(self.source)
        parts = [self.text, self.second, repr(self.layout), version, CHUNK, LARGEST, AT_ONCE]
        return sha256(json.dumps([sha256_of(path), *parts]).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Predicted:
    """Result of a job."""

    rows: int
    rejected: int


def predict(
    rows: Input,
    answer: Answer,
    version: str,
    out: Path,
    jobs: Path,
    *,
    overwrite: bool = False,
    log: Log = no_log,
) -> Predicted:
    """Write the rows with the answers of a version to `out`, and those that cannot be answered to
    a file beside it.

    The columns of the input are carried through, followed by those of the answer and `version`.
    `answer` returns an answer for each of some texts; `jobs` holds the chunks of unfinished jobs.
    Raises UserError for a source without rows and an `out` that cannot be written.
    """
    _check(rows, out, overwrite)
    total, rejected = _count(rows, log)
    key = rows.key(version)
    with job_folder(jobs, key, rows.source) as folder:
        _answer_chunks(rows, answer, version, folder, total, log)
        if rows.key(version) != key:
            raise UserError(f"{rows.source}: has changed while it was read: run the command again")
        log.info(f"writing {out.name}")
        _join(sorted(folder.glob("*.parquet")), out)
        if rejected:
            (folder / REJECTS).replace(rejects_of(out))
        else:
            rejects_of(out).unlink(missing_ok=True)
    return Predicted(total, rejected)


def rejects_of(out: Path) -> Path:
    """Return the path of the rows that could not be answered."""
    return out.with_name(f"{out.stem}.{REJECTS}")


def _check(rows: Input, out: Path, overwrite: bool) -> None:
    if out.suffix not in KINDS:
        raise UserError(f"--output {out}: name a file that ends in {', '.join(KINDS)}")
    if out.is_dir():
        raise UserError(f"--output {out}: is a folder: name a file in it")
    if out.exists() and out.samefile(local_path(rows.source)):
        raise UserError(f"--output {out}: is the file of rows itself: name another")
    if out.exists() and not overwrite:
        raise UserError(f"--output {out}: exists: name another, or replace it by --overwrite")
    folder = next(folder for folder in out.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--output {out}: {folder} is not a writable folder: name another")


def _count(rows: Input, log: Log) -> tuple[int, int]:
    """Count the rows that can be answered and those that cannot."""
    total = rejected = 0
    first = ""
    for row in rows.read():
        if isinstance(row, Row):
            total += 1
        else:
            rejected += 1
            first = first or f"{row.file}, line {row.number}: {row.reason}"
    if not total:
        raise UserError(f"{rows.source}: no rows{f' that can be answered: {first}' * bool(first)}")
    left_out = f", {rejected:,} cannot be answered, the first {first}" if rejected else ""
    log.info(f"{rows.source}: {total:,} rows{left_out}")
    return total, rejected


def _answer_chunks(
    rows: Input, answer: Answer, version: str, folder: Path, total: int, log: Log
) -> None:
    """Write the missing chunks, and the rows that cannot be answered."""
    folder.mkdir(exist_ok=True)
    carried = _Carried(rows)
    done = 0

    def progress(more: int) -> None:
        log.progress(done + more, total)

    with (folder / REJECTS).open("w", encoding="utf-8") as rejects:
        for number, chunk in enumerate(in_chunks(rows.read())):
            file = folder / f"{number:08}.parquet"
            kept = [place for place, row in enumerate(chunk) if isinstance(row, Row)]
            columns = carried.take(chunk, kept)
            texts = [rows.texts(row) for row in chunk if isinstance(row, Row)]
            if kept and not file.exists():
                _write_chunk(file, columns, _answered(texts, answer, progress), version)
            rejects.writelines(_line(row) for row in chunk if isinstance(row, Reject))
            done += len(kept)


def _line(row: Reject) -> str:
    own = {"file": row.file, "line": row.number, "reason": row.reason, "excerpt": row.excerpt}
    return f"{json.dumps(own, ensure_ascii=False)}\n"


class _Carried:
    """Columns of the input, chunk by chunk: those of a Parquet file with their types, others as
    text."""

    def __init__(self, rows: Input) -> None:
        self.batches: Iterator[pa.RecordBatch] | None = None
        path = local_path(rows.source)
        if path.is_file() and path.suffix.lower() == PARQUET:
            self.batches = parquet_batches(path)
        self.rest: list[pa.RecordBatch] = []

    def take(self, chunk: Sequence[Row | Reject], kept: Sequence[int]) -> "pa.Table":
        """Return the columns of the next rows, of these places alone."""
        import pyarrow as pa

        if self.batches is not None:
            return self._next(len(chunk)).take(pa.array(kept, pa.int64()))
        fields = [row.fields for row in chunk if isinstance(row, Row)]
        names = dict.fromkeys(name for each in fields for name in each)
        return pa.table(
            {name: pa.array([each.get(name) for each in fields], pa.string()) for name in names}
        )

    def _next(self, count: int) -> "pa.Table":
        import pyarrow as pa

        parts: list[pa.RecordBatch] = []
        while count:
            batch = self.rest.pop() if self.rest else next(self.batches)  # type: ignore[arg-type]
            parts.append(batch.slice(0, count))
            if batch.num_rows > count:
                self.rest.append(batch.slice(count))
            count -= parts[-1].num_rows
        return pa.Table.from_batches(parts)


def _answered(
    texts: Sequence[Texts], answer: Answer, progress: Callable[[int], object]
) -> list[dict[str, Any]]:
    """Return the answers to some texts, which are put by their length."""
    answers: list[dict[str, Any]] = [{}] * len(texts)
    order = sorted(range(len(texts)), key=lambda place: sum(map(len, texts[place])))
    for start in range(0, len(order), AT_ONCE):
        places = order[start : start + AT_ONCE]
        found = answer([texts[place] for place in places])
        for place, each in zip(places, found, strict=True):
            answers[place] = each
        progress(start + len(places))
    return answers


def _write_chunk(
    file: Path, columns: "pa.Table", answers: Sequence[dict[str, Any]], version: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = pa.Table.from_pylist([each | {VERSION: version} for each in answers])
    names = [
        CLASHING.format(name) if name in own.column_names else name for name in columns.column_names
    ]
    table = columns.rename_columns(names).replace_schema_metadata(None)
    for name in own.column_names:
        table = table.append_column(name, own[name])
    with atomic_write(file) as temporary:
        pq.write_table(table, temporary)


def _join(files: Sequence[Path], out: Path) -> None:
    """Write all chunks to one file. A column that a chunk lacks is empty there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.unify_schemas(
        [pq.read_schema(file) for file in files], promote_options="permissive"
    )

    def tables() -> Iterator[pa.Table]:
        for file in files:
            table = pq.read_table(file)
            for field in schema:
                if field.name not in table.column_names:
                    table = table.append_column(field, pa.nulls(len(table), field.type))
            yield table.select(schema.names).cast(schema)

    with atomic_write(out) as temporary:
        if out.suffix == PARQUET:
            with pq.ParquetWriter(temporary, schema) as writer:
                for table in tables():
                    writer.write_table(table)
        elif out.suffix == ".csv":
            _write_csv(temporary, tables(), schema)
        else:
            with temporary.open("w", encoding="utf-8") as opened:
                for table in tables():
                    for row in table.to_pylist():
                        opened.write(f"{json.dumps(row, ensure_ascii=False, default=str)}\n")


def _write_csv(path: Path, tables: Iterator["pa.Table"], schema: "pa.Schema") -> None:
    """Write tables as CSV; lists and objects are JSON there."""
    import pyarrow as pa
    from pyarrow.csv import CSVWriter

    nested = {field.name for field in schema if pa.types.is_nested(field.type)}
    flat = pa.schema(
        [pa.field(field.name, pa.string()) if field.name in nested else field for field in schema]
    )
    with CSVWriter(path, flat) as writer:
        for table in tables:
            for place, name in enumerate(table.column_names):
                if name in nested:
                    cells = [json.dumps(v, ensure_ascii=False) for v in table[name].to_pylist()]
                    table = table.set_column(place, name, pa.array(cells, pa.string()))
            writer.write_table(table)
