"""Search of a file for the rows nearest to a query, by the cosine of their embeddings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.batch.chunks import in_chunks
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from pipeline.core.log import Log, no_log
from pipeline.embeddings import index, store
from pipeline.embeddings.embedder import Embedder, Extraction
from pipeline.embeddings.extract import Rows, embed, key_of
from pipeline.sources import Row
from pipeline.sources.rows import require

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = 50_000  # most rows that are compared one by one: takes milliseconds and needs no graph


@dataclass(frozen=True)
class Hit:
    similarity: float
    """Cosine, -1 to 1."""
    fields: dict[str, Any]
    """Columns that are shown."""


class Answers:
    """Searchable file of embeddings. `home` caches a graph, if it has many rows, and the columns
    that are shown."""

    def __init__(
        self,
        file: Path,
        embedder: Embedder,
        shown: Iterable["pa.Table"],
        columns: Sequence[str],
        home: Path,
        log: Log,
    ) -> None:
        self.embedder, self.rows = embedder, store.made_of(file).rows
        self.shown = _cached(shown, columns, home)
        if self.rows <= EXACT:
            self.embeddings = store.array(file)
        else:
            folder = home / "graph"
            if not folder.exists():
                log.info(f"building a search graph of {self.rows:,} rows, once")
                with atomic_write(folder) as temporary:
                    temporary.mkdir()
                    index.build(
                        lambda: store.read_embeddings(file),
                        embedder.extraction.width,
                        temporary,
                        lambda done: log.progress(done, self.rows),
                    )
            self.graph = index.Graph(folder)

    def nearest(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return the k nearest rows of each query, nearest first."""
        embeddings = np.stack(self.embedder.embeddings(self.embedder.tokens(queries)))
        k = min(k, self.rows)
        if self.rows <= EXACT:
            matches = index.exact(self.embeddings, embeddings, k)
        else:
            matches = self.graph.near(embeddings, k)
        return [
            [
                Hit(float(similarity), self.shown.slice(int(row), 1).to_pylist()[0])
                for row, similarity in zip(rows, similarities, strict=True)
            ]
            for rows, similarities in zip(*matches, strict=True)
        ]


def answers_of_rows(
    rows: Rows,
    extraction: Extraction,
    open_embedder: Callable[[], Embedder],
    show: Sequence[str],
    state: Path,
    *,
    log: Log = no_log,
) -> Answers:
    """Open a file of rows for search; embed the rows if `state` does not hold their embeddings.

    Hits show the text and the columns `show`. `open_embedder` returns the embedder of `extraction`.
    """
    home = state / "search" / key_of(rows, extraction)
    file = home / "answers.npy"
    if not store.is_made(file):
        embed(rows, extraction, open_embedder, file, state / "embed" / "runs", log=log)
    columns = tuple(dict.fromkeys((rows.text, *show)))
    return Answers(file, open_embedder(), _tables(rows, columns), columns, home, log)


def answers_of_embeddings(
    file: Path, embedder: Embedder, show: Sequence[str], state: Path, *, log: Log = no_log
) -> Answers:
    """Open a file for search that `embed` wrote with this embedder.

    Hits show the columns `show`, by default all. Raises UserError if the file lacks one of them or
    holds embeddings of tokens.
    """
    made = store.made_of(file)
    if made.pooling is None:
        raise UserError(f"{file}: has one row per token: embed it again with --level text")
    known = store.column_names(file)
    require(tuple(show), known, str(file), "its columns are")
    columns = tuple(show) or known
    shown = (table.select(columns) for table in store.read_columns(file))
    return Answers(file, embedder, shown, columns, state / "search" / made.key, log)


def _tables(rows: Rows, columns: Sequence[str]) -> Iterator["pa.Table"]:
    import pyarrow as pa

    for chunk in in_chunks(_with_columns(rows, columns), store.READ):
        yield pa.table({name: [row.fields[name] for row in chunk] for name in columns})


def _with_columns(rows: Rows, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the embedded rows with other columns; those of a row that cannot be read are empty."""
    wide_rows = replace(rows, carry=tuple(columns)).read()
    for row in rows.used():
        wide = next(w for w in wide_rows if (w.file, w.number) == (row.file, row.number))
        fields = wide.fields if isinstance(wide, Row) else row.fields
        yield Row(row.file, row.number, {name: fields.get(name, "") for name in columns})


def _cached(tables: Iterable["pa.Table"], columns: Sequence[str], home: Path) -> "pa.Table":
    """Return the columns that are shown from a memory-mapped file in `home`, written if needed."""
    import pyarrow as pa

    file = home / f"shown-{sha256(repr(columns).encode()).hexdigest()[:12]}.arrow"
    if not file.exists():
        schema = pa.schema([(name, pa.string()) for name in columns])
        with (
            atomic_write(file) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            for table in tables:
                writer.write_table(table.cast(schema))
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
