"""Embedding of rows into a file, chunk by chunk."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.batch.chunks import CHUNK, LARGEST, in_chunks, job_folder
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, sha256_of, size_of
from pipeline.core.log import Log, no_log
from pipeline.embeddings import store
from pipeline.embeddings.embedder import Embedder, Extraction, Floats, Tokens
from pipeline.embeddings.store import EMBEDDING, Made, embeddings_column, embeddings_of
from pipeline.sources import PLAIN, Layout, Reject, Row, read_rows, readable, siblings
from pipeline.sources.encodings import is_utf8
from pipeline.sources.remote import local_path

if TYPE_CHECKING:
    import pyarrow as pa

FEW = 128  # texts of a chunk with an embedding per token
OWN_COLUMNS = ("id", "label", "rows", "position", "token", "start", "end", EMBEDDING)
SHOWN = 3  # unusable rows that are logged
CUT = b"truncated"  # metadata key of a chunk: number of texts that are cut


@dataclass(frozen=True)
class Rows:
    """Rows to embed: their source and the names of the columns that are read."""

    source: str
    """File, folder, `package:NAME/FOLDER`, URL or `hub:NAME@REVISION`."""
    text: str = "text"
    id: str | None = None
    """Column of the row's id; None for its line number."""
    label: str | None = None
    carry: tuple[str, ...] = ()
    layout: Layout = PLAIN

    @cached_property
    def digest(self) -> str:
        return self.content()

    def content(self) -> str:
        """Hash the current content of the source."""
        path = local_path(self.source)
        files = siblings(path).values() if self.layout.format == "parallel" else [path]
        return " ".join(f"{readable(file.name)} {sha256_of(file)}" for file in files)

    def read(self) -> Iterator[Row | Reject]:
        """Yield every row, or a `Reject` if its text or label is empty."""
        names = (self.text, self.label, self.id, *self.carry)
        columns = tuple(dict.fromkeys(name for name in names if name))
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
        return local_path(self.source).is_dir()

    def id_of(self, row: Row) -> str:
        if self.id:
            return row.fields[self.id]
        return f"{row.file}:{row.number}" if self.many_files else str(row.number)


def key_of(rows: Rows, extraction: Extraction, centroids: bool = False) -> str:
    """Hash everything that a file of embeddings depends on."""
    depends_on = {
        "how": extraction.model_dump(),
        "content": rows.digest,
        "columns": [rows.text, rows.id, rows.label, rows.carry],
        "layout": [rows.layout.format, rows.layout.header, rows.layout.quotes],
        **({} if is_utf8(rows.layout.encoding) else {"encoding": rows.layout.encoding}),
        "centroids": centroids,
        "chunks": [CHUNK, FEW, LARGEST],
    }
    return sha256(json.dumps(depends_on).encode()).hexdigest()[:20]


def embed(
    rows: Rows,
    extraction: Extraction,
    open_embedder: Callable[[], Embedder],
    out: Path,
    runs: Path,
    *,
    centroids: bool = False,
    log: Log = no_log,
) -> Made:
    """Write the embeddings of all rows to `out`, or with `centroids` the mean of each label.

    `open_embedder` returns the embedder of `extraction` and is called only if one is needed. `runs`
    holds the chunks of unfinished runs. Raises UserError for options that cannot be combined, an
    `out` that cannot be written and a source without rows.
    """
    _check(rows, extraction, out, centroids)
    if size_of(local_path(rows.source, log)) > 1e9:
        log.info(f"{rows.source}: hashing it")
    key = key_of(rows, extraction, centroids)
    if store.is_made(out) and (made := store.made_of(out)).key == key:
        log.info(f"{out}: is up to date")
        return made
    with job_folder(runs, key, rows.source) as folder:
        total, rejected = _count(rows, log)
        truncated = _embed_chunks(rows, extraction, open_embedder, folder, total, log)
        if rows.content() != rows.digest:
            shutil.rmtree(folder)
            raise UserError(f"{rows.source}: has changed while it was read: run the command again")
        log.info(f"writing {out.name}")
        made = Made(
            **extraction.model_dump(),
            key=key,
            source=rows.source,
            text=rows.text,
            centroids=centroids,
            rows=0,
            truncated=truncated,
            rejected=rejected,
        )
        _join(sorted(folder.glob("*.parquet")), out, made)
    return store.made_of(out)


def _check(rows: Rows, extraction: Extraction, out: Path, centroids: bool) -> None:
    if out.suffix not in store.KINDS:
        raise UserError(f"--out {out}: name a file that ends in {' or '.join(store.KINDS)}")
    source = local_path(rows.source)
    for file in (out, store.columns_file(out)):
        if file.is_dir():
            raise UserError(f"--out {out}: {file.name} is a folder: name another")
        if file.exists() and file.samefile(source):
            raise UserError(f"--out {out}: {file.name} is the file of rows itself: name another")
        if file.exists() and not store.is_ours(out):
            raise UserError(
                f"--out {out}: {file.name} exists and holds no embeddings of this command: name"
                " another file, or delete it"
            )
    folder = next(folder for folder in out.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--out {out}: {folder} is not a writable folder: name another")
    if centroids and (extraction.pooling is None or not rows.label or rows.carry or rows.id):
        raise UserError(
            "--centroids: writes one row per label: give --label, and neither --id, --carry nor"
            " --level token"
        )
    clash = [name for name in rows.carry if name in OWN_COLUMNS]
    if clash:
        raise UserError(
            f"--carry {clash[0]}: the output has its own column of that name: rename yours"
        )


def _count(rows: Rows, log: Log) -> tuple[int, int]:
    """Count usable and unusable rows, and log the first unusable ones."""
    total = rejected = 0
    first = ""
    for row in rows.read():
        if isinstance(row, Row):
            total += 1
        else:
            rejected += 1
            problem = f"{row.file}, line {row.number}: {row.reason}"
            first = first or problem
            if rejected <= SHOWN:
                log.info(problem)
        if (total + rejected) % 1_000_000 == 0:
            log.info(f"{total + rejected:,} rows read")
    if not total:
        raise UserError(f"{rows.source}: no rows{f' that can be used: {first}' if first else ''}")
    left_out = f", {rejected:,} cannot be used and are left out" if rejected else ""
    log.info(f"{rows.source}: {total:,} rows{left_out}")
    return total, rejected


def _embed_chunks(
    rows: Rows,
    extraction: Extraction,
    open_embedder: Callable[[], Embedder],
    chunks: Path,
    total: int,
    log: Log,
) -> int:
    """Write the missing chunks; return the number of cut texts in all chunks."""
    import pyarrow.parquet as pq

    embedder: Embedder | None = None
    done = truncated = 0
    for number, chunk in enumerate(in_chunks(rows.used(), CHUNK if extraction.pooling else FEW)):
        file = chunks / f"{number:08}.parquet"
        if not file.exists():
            embedder = embedder or open_embedder()
            with atomic_write(file) as temporary:
                table = _embedded(rows, chunk, embedder, done, total, log)
                pq.write_table(table, temporary, use_dictionary=False)
        truncated += int(pq.read_schema(file).metadata[CUT])
        done += len(chunk)
    return truncated


def _columns(rows: Rows, chunk: Sequence[Row]) -> dict[str, "pa.Array"]:
    import pyarrow as pa

    columns = {"id": [rows.id_of(row) for row in chunk]}
    if rows.label:
        columns["label"] = [row.fields[rows.label] for row in chunk]
    for name in rows.carry:
        columns[name] = [row.fields[name] for row in chunk]
    return {name: pa.array(values, pa.string()) for name, values in columns.items()}


def _embedded(
    rows: Rows, chunk: list[Row], embedder: Embedder, done: int, total: int, log: Log
) -> "pa.Table":
    """Return a chunk as a table of the file, with the number of cut texts in its metadata."""
    import pyarrow as pa

    tokens = embedder.tokens([row.fields[rows.text] for row in chunk])
    embeddings = embedder.embeddings(tokens, lambda more: log.progress(done + more, total))
    if embedder.extraction.pooling:
        columns = {**_columns(rows, chunk), EMBEDDING: embeddings_column(np.stack(embeddings))}
    else:
        columns = _by_token(rows, chunk, tokens, embeddings)
    return pa.table(columns, metadata={CUT: str(sum(each.cut for each in tokens))})


def _by_token(
    rows: Rows, chunk: list[Row], tokens: list[Tokens], embeddings: list[Floats]
) -> dict[str, Any]:
    """Return the columns of a table with one row per token that is not special."""
    import pyarrow as pa

    spans = [span for each in tokens for span in each.spans]
    repeated = [row for row, each in zip(chunk, tokens, strict=True) for _ in each.spans]
    kept = [
        own[[position for position, *_ in each.spans]]
        for own, each in zip(embeddings, tokens, strict=True)
    ]
    return {
        **_columns(rows, repeated),
        "position": pa.array([position for position, *_ in spans], pa.int32()),
        "token": pa.array([token for _, token, *_ in spans], pa.string()),
        "start": pa.array([start for *_, start, _ in spans], pa.int32()),
        "end": pa.array([end for *_, end in spans], pa.int32()),
        EMBEDDING: embeddings_column(np.concatenate(kept)),
    }


def _join(files: list[Path], out: Path, made: Made) -> None:
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
    """Return a table with one row per class, sorted: its mean embedding and number of rows."""
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
