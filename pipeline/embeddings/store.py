"""Files of embeddings: Parquet, or a NumPy array with a Parquet file of the other columns, and a
JSON file of the settings they were made with."""

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
READ = 4_096  # rows read at once
OURS = {b"bertline": b"embeddings"}  # metadata of Parquet files from `write`


class Made(Extraction):
    """Record of a file of embeddings. It is written last: without it the file is incomplete."""

    key: str
    """Digest of everything that the embeddings depend on."""
    source: str
    text: str
    """Column of the text."""
    centroids: bool
    """True if a row is the mean of a class."""
    rows: int
    truncated: int
    """Number of texts longer than max_length."""
    rejected: int
    """Number of rows that could not be used."""

    @staticmethod
    def path_for(file: Path) -> Path:
        return file.with_name(f"{file.name}.json")


def columns_file(file: Path) -> Path:
    """Path of the file that holds the columns other than the embeddings."""
    return file.with_suffix(".ids.parquet") if file.suffix == ".npy" else file


def embeddings_column(rows: Floats) -> "pa.FixedSizeListArray":
    """Return embeddings, (rows, width), as a column."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def embeddings_of(table: Any) -> Floats:
    """Embeddings of a table or of a record batch, (rows, width)."""
    column = table.column(EMBEDDING)
    flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return np.asarray(flat.flatten()).reshape(-1, column.type.list_size)


def write(file: Path, tables: Iterable["pa.Table"], schema: "pa.Schema", made: Made) -> None:
    """Write tables with a column of embeddings, `made.rows` rows in all, one table at a time.

    An existing file is replaced once everything is written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema.with_metadata(OURS)
    columns = pa.schema([field for field in schema if field.name != EMBEDDING], OURS)
    if file.suffix == ".npy":
        with (
            atomic_write(file) as temporary,
            atomic_write(columns_file(file)) as temporary_columns,
            temporary.open("wb") as array,
            pq.ParquetWriter(temporary_columns, columns) as writer,
        ):
            shape = (made.rows, made.width)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(array, header)
            for table in tables:
                embeddings_of(table).tofile(array)
                writer.write_table(table.select(columns.names))
            Made.path_for(file).unlink(missing_ok=True)
    else:
        with (
            atomic_write(file) as temporary,
            pq.ParquetWriter(temporary, schema, use_dictionary=columns.names) as writer,
        ):
            for table in tables:
                writer.write_table(table)
            Made.path_for(file).unlink(missing_ok=True)
    made.write(Made.path_for(file))


def column_names(file: Path) -> tuple[str, ...]:
    """Names of the columns other than the embeddings."""
    import pyarrow.parquet as pq

    return tuple(n for n in pq.read_schema(columns_file(file)).names if n != EMBEDDING)


def read_columns(file: Path) -> Iterator["pa.Table"]:
    """Yield the columns other than the embeddings, in batches."""
    import pyarrow as pa

    for batch in parquet_batches(columns_file(file), READ, column_names(file)):
        yield pa.Table.from_batches([batch])


def read_embeddings(file: Path) -> Iterator[Floats]:
    """Yield all embeddings in batches, (rows, width)."""
    if file.suffix == ".npy":
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        for start in range(0, len(array), READ):
            yield array[start : start + READ]
        return
    for batch in parquet_batches(file, READ, [EMBEDDING]):
        yield embeddings_of(batch)


def array(file: Path) -> Floats:
    """Return all embeddings, (rows, width); a NumPy array is mapped into memory."""
    if file.suffix == ".npy":
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    return np.concatenate(list(read_embeddings(file)))


def is_made(file: Path) -> bool:
    """True if a file is a complete file of embeddings."""
    return file.suffix in KINDS and file.exists() and Made.path_for(file).exists()


def is_ours(file: Path) -> bool:
    """True if a file was written by `bertline embed`, even if that run did not finish."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(columns_file(file)).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return OURS.items() <= metadata.items()


def made_of(file: Path) -> Made:
    """Read the record of a file of embeddings. Raises UserError if it has none."""
    if not is_made(file):
        raise UserError(f"{file}: no {Made.path_for(file).name} beside it: embed its rows again")
    return Made.read(Made.path_for(file))
