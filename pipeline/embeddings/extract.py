"""Rows to a file of embeddings, chunk by chunk.

A chunk is written whole before the next begins, and the file is put together of all chunks. So a
run that was stopped goes on behind its last chunk, to the same bytes; memory holds one chunk.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, sha256_of, size_of
from pipeline.core.locations import locate
from pipeline.core.log import Log, no_log
from pipeline.embeddings import store
from pipeline.embeddings.embedder import Embedder, Extraction, Floats, Tokens
from pipeline.embeddings.store import EMBEDDING, Made, embeddings_column, embeddings_of
from pipeline.sources import PLAIN, Layout, Reject, Row, read_rows, readable, siblings

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 8_192  # texts
FEW = 128  # texts whose every token is kept
LARGEST = 16_000_000  # characters of a chunk, in all its columns: it may hold fewer texts
OWN_COLUMNS = ("id", "label", "rows", "position", "token", "start", "end", EMBEDDING)
SHOWN = 3  # rows that cannot be used
CUT = b"truncated"  # how many texts of a chunk were


@dataclass(frozen=True)
class Rows:
    """What is embedded, and what of its row stands beside it."""

    source: str
    """A file or folder, or `package:NAME/FOLDER`."""
    text: str = "text"
    id: str | None = None
    """Column that names a row; None for its line."""
    label: str | None = None
    carry: tuple[str, ...] = ()
    layout: Layout = PLAIN

    @cached_property
    def digest(self) -> str:
        return self.content()

    def content(self) -> str:
        """Digest of what the source holds now."""
        path = locate(self.source)
        files = siblings(path).values() if self.layout.format == "parallel" else [path]
        return " ".join(f"{readable(file.name)} {sha256_of(file)}" for file in files)

    def read(self) -> Iterator[Row | Reject]:
        """Every row, a `Reject` where it has no text, or no label that is asked for."""
        named = (self.text, self.label, self.id, *self.carry)
        columns = tuple(dict.fromkeys(name for name in named if name))
        for row in read_rows(self.source, columns, self.layout):
            if isinstance(row, Reject):
                yield row
                continue
            fields = {name: row.fields[name] for name in columns}  # others may be large
            empty = [name for name in (self.text, self.label) if name and not fields[name].strip()]
            if empty:
                yield Reject(row.file, row.number, f"its {empty[0]!r} is empty")
            else:
                yield Row(row.file, row.number, fields)

    def used(self) -> Iterator[Row]:
        return (row for row in self.read() if isinstance(row, Row))

    @cached_property
    def many_files(self) -> bool:
        return locate(self.source).is_dir()

    def named(self, row: Row) -> str:
        if self.id:
            return row.fields[self.id]
        return f"{row.file}:{row.number}" if self.many_files else str(row.number)


def key_of(rows: Rows, how: Extraction, centroids: bool = False) -> str:
    """Digest of all that a file of embeddings depends on."""
    asked = {
        "how": how.model_dump(),
        "content": rows.digest,
        "columns": [rows.text, rows.id, rows.label, rows.carry],
        "layout": [rows.layout.format, rows.layout.header, rows.layout.quotes],
        "centroids": centroids,
        "chunks": [CHUNK, FEW, LARGEST],
    }
    return sha256(json.dumps(asked).encode()).hexdigest()[:20]


def embed(
    rows: Rows,
    how: Extraction,
    opened: Callable[[], Embedder],
    out: Path,
    runs: Path,
    *,
    centroids: bool = False,
    log: Log = no_log,
) -> Made:
    """Write the embeddings of all rows to `out`, or of `centroids` each label's mean. `opened`
    gives the embedder of `how`, where it is needed; `runs` keeps what an unfinished run has made.

    Raises UserError for what cannot be asked, and for a source without rows.
    """
    _check(rows, how, out, centroids)
    if size_of(locate(rows.source)) > 1e9:
        log.info(f"{rows.source}: hashing it")
    key = key_of(rows, how, centroids)
    if store.is_made(out) and (made := store.made_of(out)).key == key:
        log.info(f"{out}: is there already, made of the same")
        return made
    runs.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(runs / f"{key}.lock", timeout=0):
            total, rejected = _looked_at(rows, log)
            truncated = _embed_chunks(rows, how, opened, runs / key, total, log)
            if rows.content() != rows.digest:
                shutil.rmtree(runs / key)
                raise UserError(
                    f"{rows.source}: has changed while it was read: give the command again"
                )
            log.info(f"putting {out.name} together")
            made = Made(
                **how.model_dump(),
                key=key,
                source=rows.source,
                text=rows.text,
                centroids=centroids,
                rows=0,
                truncated=truncated,
                rejected=rejected,
            )
            _put_together(sorted((runs / key).glob("*.parquet")), out, made)
            shutil.rmtree(runs / key)
    except Timeout:
        raise UserError(f"{rows.source}: another command embeds it just so: wait for it") from None
    return store.made_of(out)


def _check(rows: Rows, how: Extraction, out: Path, centroids: bool) -> None:
    if out.suffix not in store.KINDS:
        raise UserError(f"--out {out}: name a file that ends in {' or '.join(store.KINDS)}")
    source = locate(rows.source)
    for file in (out, store.columns_file(out)):
        if file.is_dir():
            raise UserError(f"--out {out}: {file.name} is a folder: name another")
        if file.exists() and file.samefile(source):
            raise UserError(f"--out {out}: {file.name} is the file of rows itself: name another")
        if file.exists() and not store.is_ours(out):
            raise UserError(
                f"--out {out}: {file.name} is there and holds no embeddings of this command: name"
                " another, or take it away"
            )
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"--out {out}: nothing can be written in {there}")
    if centroids and (how.pooling is None or not rows.label or rows.carry or rows.id):
        raise UserError(
            "--centroids: a row is a label: give --label, and neither --id, --carry nor --level"
            " token"
        )
    clash = [name for name in rows.carry if name in OWN_COLUMNS]
    if clash:
        raise UserError(f"--carry {clash[0]}: a column of embeddings has that name: rename it")


def _looked_at(rows: Rows, log: Log) -> tuple[int, int]:
    """How many rows there are, and how many that cannot be used, the first of which are told."""
    total = rejected = 0
    first = ""
    for row in rows.read():
        if isinstance(row, Row):
            total += 1
        else:
            rejected += 1
            told = f"{row.file}, line {row.number}: {row.reason}"
            first = first or told
            if rejected <= SHOWN:
                log.info(told)
        if (total + rejected) % 1_000_000 == 0:
            log.info(f"{total + rejected:,} rows read")
    if not total:
        raise UserError(f"{rows.source}: no rows{f': the first is {first}' if first else ''}")
    left_out = f", {rejected:,} cannot be used and are left out" if rejected else ""
    log.info(f"{rows.source}: {total:,} rows{left_out}")
    return total, rejected


def _embed_chunks(
    rows: Rows,
    how: Extraction,
    opened: Callable[[], Embedder],
    chunks: Path,
    total: int,
    log: Log,
) -> int:
    """Write the chunks that are not there yet; how many texts of all were cut."""
    import pyarrow.parquet as pq

    embedder: Embedder | None = None
    done = truncated = 0
    for number, chunk in enumerate(in_chunks(rows.used(), CHUNK if how.pooling else FEW)):
        file = chunks / f"{number:08}.parquet"
        if not file.exists():
            embedder = embedder or opened()
            tell = partial(_tell, log, done, total)
            with atomic_write(file) as temporary:
                table = _embedded(rows, chunk, embedder, tell)
                pq.write_table(table, temporary, use_dictionary=False)
        truncated += int(pq.read_schema(file).metadata[CUT])
        done += len(chunk)
    return truncated


def _tell(log: Log, before: int, total: int, more: int) -> None:
    log.progress(before + more, total)


def in_chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """So many rows at a time, and fewer where they are long."""
    chunk: list[Row] = []
    held = 0
    for row in rows:
        chunk.append(row)
        held += sum(map(len, row.fields.values()))
        if len(chunk) == size or held > LARGEST:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _columns(rows: Rows, chunk: Sequence[Row]) -> dict[str, "pa.Array"]:
    import pyarrow as pa

    named = {"label": rows.label} if rows.label else {}
    named |= {name: name for name in rows.carry}
    columns = {
        "id": [rows.named(row) for row in chunk],
        **{own: [row.fields[name] for row in chunk] for own, name in named.items()},
    }
    return {name: pa.array(values, pa.string()) for name, values in columns.items()}


def _embedded(
    rows: Rows, chunk: list[Row], embedder: Embedder, tell: Callable[[int], None]
) -> "pa.Table":
    """A chunk as the file will hold it; how many of its texts were cut stands in its metadata."""
    import pyarrow as pa

    tokens = embedder.tokens([row.fields[rows.text] for row in chunk])
    found = embedder.embeddings(tokens, tell)
    if embedder.how.pooling:
        columns = {**_columns(rows, chunk), EMBEDDING: embeddings_column(np.stack(found))}
    else:
        columns = _by_token(rows, chunk, tokens, found)
    return pa.table(columns, metadata={CUT: str(sum(each.cut for each in tokens))})


def _by_token(
    rows: Rows, chunk: list[Row], tokens: list[Tokens], found: list[Floats]
) -> dict[str, Any]:
    """A row a token that is not special."""
    import pyarrow as pa

    words = [word for each in tokens for word in each.words]
    repeated = [row for row, each in zip(chunk, tokens, strict=True) for _ in each.words]
    kept = [
        own[[place for place, *_ in each.words]] for own, each in zip(found, tokens, strict=True)
    ]
    return {
        **_columns(rows, repeated),
        "position": pa.array([place for place, *_ in words], pa.int32()),
        "token": pa.array([token for _, token, *_ in words], pa.string()),
        "start": pa.array([start for *_, start, _ in words], pa.int32()),
        "end": pa.array([end for *_, end in words], pa.int32()),
        EMBEDDING: embeddings_column(np.concatenate(kept)),
    }


def _put_together(files: list[Path], out: Path, made: Made) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if made.centroids:
        table = _centroids(files, made)
        tables: Iterable[pa.Table] = [table]
        schema, rows = table.schema, len(table)
    else:
        schema = pq.read_schema(files[0])
        tables = (pq.read_table(file) for file in files)
        rows = sum(pq.read_metadata(file).num_rows for file in files)
    store.write(out, tables, schema, made.model_copy(update={"rows": rows}))


def _centroids(files: list[Path], made: Made) -> "pa.Table":
    """A row a class, in order: its mean embedding and the number of its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sums: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for file in files:
        table = pq.read_table(file)
        labels = np.asarray(table.column("label").to_pylist(), dtype=object)
        embeddings = embeddings_of(table).astype(np.float64)
        for label in sorted(set(labels)):
            own = embeddings[labels == label]
            sums[label] = sums.get(label, 0.0) + own.sum(0)
            counts[label] = counts.get(label, 0) + len(own)
    classes = sorted(sums)
    means = np.stack([sums[label] / counts[label] for label in classes])
    if made.normalized:
        means /= np.linalg.norm(means, axis=1, keepdims=True)
    return pa.table(
        {
            "id": classes,
            "rows": pa.array([counts[label] for label in classes], pa.int64()),
            EMBEDDING: embeddings_column(means.astype(np.float32)),
        }
    )
