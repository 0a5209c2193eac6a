"""A file of embeddings: Parquet, or a NumPy array with its other columns beside it, and how it was
made."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, parquet_batches
from pipeline.embeddings.embedder import Extraction, Floats

if TYPE_CHECKING:
    import pyarrow as pa

EMBEDDING = "embedding"
KINDS = (".parquet", ".npy")
READ = 4_096  # rows at once
OURS = {b"bertline": b"embeddings"}  # metadata of a Parquet file that `write` has written


class Made(Extraction):
    """How a file of embeddings was made. It is written last: without it the file is not whole."""

    key: str
    """Digest of all that the embeddings depend on."""
    source: str
    text: str
    """Column of the text."""
    centroids: bool
    """True if a row is the mean of a class."""
    rows: int
    truncated: int
    """Texts that were longer than max_length."""
    rejected: int
    """Rows that could not be used."""

    @staticmethod
    def beside(file: Path) -> Path:
        return file.with_name(f"{file.name}.json")


def columns_file(file: Path) -> Path:
    """Where the columns beside the embeddings lie."""
    return file.with_suffix(".ids.parquet") if file.suffix == ".npy" else file


def embeddings_column(rows: Floats) -> "pa.FixedSizeListArray":
    """(rows, width) as a column."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def embeddings_of(table: Any) -> Floats:
    """The embeddings of a table, or of a batch of one: (rows, width)."""
    column = table.column(EMBEDDING)
    flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return np.asarray(flat.flatten()).reshape(-1, column.type.list_size)


def write(file: Path, tables: Iterable["pa.Table"], schema: "pa.Schema", made: Made) -> None:
    """Write `made.rows` rows of tables that have a column of embeddings, one table at a time. What
    stood there before stays until all is written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema.with_metadata(OURS)
    columns = pa.schema([field for field in schema if field.name != EMBEDDING], OURS)
    if file.suffix == ".npy":
        with (
            atomic_write(file) as temporary,
            atomic_write(columns_file(file)) as beside,
            temporary.open("wb") as array,
            pq.ParquetWriter(beside, columns) as writer,
        ):
            shape = (made.rows, made.width)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(array, header)
            for table in tables:
                embeddings_of(table).tofile(array)
                writer.write_table(table.select(columns.names))
            made.beside(file).unlink(missing_ok=True)
    else:
        with (
            atomic_write(file) as temporary,
            pq.ParquetWriter(temporary, schema, use_dictionary=columns.names) as writer,
        ):
            for table in tables:
                writer.write_table(table)
            made.beside(file).unlink(missing_ok=True)
    made.write(made.beside(file))


def column_names(file: Path) -> tuple[str, ...]:
    """What stands beside the embeddings."""
    import pyarrow.parquet as pq

    return tuple(n for n in pq.read_schema(columns_file(file)).names if n != EMBEDDING)


def read_columns(file: Path) -> Iterator["pa.Table"]:
    """The columns of that, a part at a time."""
    import pyarrow as pa

    for batch in parquet_batches(columns_file(file), READ, column_names(file)):
        yield pa.Table.from_batches([batch])


def read_embeddings(file: Path) -> Iterator[Floats]:
    """All embeddings, (rows, width) at a time."""
    if file.suffix == ".npy":
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        for start in range(0, len(array), READ):
            yield array[start : start + READ]
        return
    for batch in parquet_batches(file, READ, [EMBEDDING]):
        yield embeddings_of(batch)


def array(file: Path) -> Floats:
    """All embeddings at once, (rows, width): those of a NumPy array stay in their file."""
    if file.suffix == ".npy":
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    return np.concatenate(list(read_embeddings(file)))


def is_made(file: Path) -> bool:
    """True if a file was written, and finished, by `bertline embed`."""
    return file.suffix in KINDS and file.exists() and Made.beside(file).exists()


def is_ours(file: Path) -> bool:
    """True if a file was written by `bertline embed`, be it the one of an unfinished run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        told = pq.read_schema(columns_file(file)).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return OURS.items() <= told.items()


def made_of(file: Path) -> Made:
    """How a file was made. Raises UserError where nothing says so."""
    if not is_made(file):
        raise UserError(f"{file}: no {Made.beside(file).name} beside it: embed its rows again")
    return Made.read(Made.beside(file))
