"""The rows of a file that are nearest to a query, by the cosine of their embeddings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from pipeline.core.log import Log, no_log
from pipeline.embeddings import index, store
from pipeline.embeddings.embedder import Embedder, Extraction
from pipeline.embeddings.extract import Rows, embed, in_chunks, key_of
from pipeline.sources import Row
from pipeline.sources.rows import require

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = 50_000  # rows: up to so many all are compared, in milliseconds and without a graph to build


@dataclass(frozen=True)
class Hit:
    similarity: float
    """Cosine, -1 to 1."""
    fields: dict[str, Any]
    """The columns that are shown."""


class Answers:
    """A file of embeddings that can be asked. What is made of it is kept in `home`: a graph of many
    rows, and the columns to be shown."""

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
        self.shown = _kept(shown, columns, home)
        if self.rows <= EXACT:
            self.embeddings = store.array(file)
        else:
            folder = home / "graph"
            if not folder.exists():
                log.info(f"a graph of {self.rows:,} rows, once")
                with atomic_write(folder) as temporary:
                    temporary.mkdir()
                    index.build(
                        lambda: store.read_embeddings(file),
                        embedder.how.width,
                        temporary,
                        lambda done: log.progress(done, self.rows),
                    )
            self.graph = index.Graph(folder)

    def nearest(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Of each query, the k rows nearest to it, the nearest first."""
        asked = np.stack(self.embedder.embeddings(self.embedder.tokens(queries)))
        k = min(k, self.rows)
        if self.rows <= EXACT:
            found = index.exact(self.embeddings, asked, k)
        else:
            found = self.graph.near(asked, k)
        return [
            [
                Hit(float(similarity), self.shown.slice(int(place), 1).to_pylist()[0])
                for place, similarity in zip(*own, strict=True)
            ]
            for own in zip(*found, strict=True)
        ]


def answers_of_rows(
    rows: Rows,
    how: Extraction,
    opened: Callable[[], Embedder],
    show: Sequence[str],
    state: Path,
    *,
    log: Log = no_log,
) -> Answers:
    """A file of rows, which are embedded where that has not been done; shown are their text and the
    columns `show`. `opened` gives the embedder of `how`, `state` keeps all that is made."""
    home = state / "search" / key_of(rows, how)
    file = home / "answers.npy"
    if not store.is_made(file):
        embed(rows, how, opened, file, state / "embed" / "runs", log=log)
    columns = tuple(dict.fromkeys((rows.text, *show)))
    return Answers(file, opened(), _tables(rows, columns), columns, home, log)


def answers_of_embeddings(
    file: Path, embedder: Embedder, show: Sequence[str], state: Path, *, log: Log = no_log
) -> Answers:
    """What `embed` has written by this embedder; shown are the columns `show` of it, or all.

    Raises UserError where it has no such columns, or a row a token.
    """
    made = store.made_of(file)
    if made.pooling is None:
        raise UserError(f"{file}: has a row a token: embed it again with --level text")
    known = store.column_names(file)
    require(tuple(show), known, str(file), "its columns are")
    columns = tuple(show) or known
    shown = (table.select(columns) for table in store.read_columns(file))
    return Answers(file, embedder, shown, columns, state / "search" / made.key, log)


def _tables(rows: Rows, columns: Sequence[str]) -> Iterator["pa.Table"]:
    import pyarrow as pa

    for chunk in in_chunks(_wider(rows, columns), store.READ):
        yield pa.table({name: [row.fields[name] for row in chunk] for name in columns})


def _wider(rows: Rows, columns: Sequence[str]) -> Iterator[Row]:
    """The rows that are embedded, with more of their columns: empty where these cannot be read."""
    more = replace(rows, carry=tuple(columns)).read()
    for row in rows.used():
        other = next(
            found for found in more if (found.file, found.number) == (row.file, row.number)
        )
        fields = other.fields if isinstance(other, Row) else row.fields
        yield Row(row.file, row.number, {name: fields.get(name, "") for name in columns})


def _kept(tables: Iterable["pa.Table"], columns: Sequence[str], home: Path) -> "pa.Table":
    """The columns to be shown, from a file of `home` that is mapped into memory."""
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
