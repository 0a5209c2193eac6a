"""Atomic writes of files and folders, and their digests."""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_BYTES = 1_000_000  # approximate maximum of a batch, but for a single longer row
BUFFER = 1 << 20  # bytes of a file that are read at once


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a file or folder to; rename it to `path` at the end.

    If the block fails, the temporary path is removed and `path` keeps its old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _remove(temporary)
    try:
        yield temporary
        _make_readable(temporary)
        _sync(temporary)
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        _remove(temporary)


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def parquet_batches(
    path: Path, rows: int = 4096, columns: Sequence[str] | None = None
) -> Iterator["pa.RecordBatch"]:
    """Yield the rows of a Parquet file in batches of at most `rows` rows, fewer if they are long.

    By default PyArrow buffers the whole file, and without `pre_buffer` still a row group
    (https://github.com/apache/arrow/issues/39820).
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(rows, [group], columns and list(columns)):
                step = batch.num_rows // (batch.nbytes // BATCH_BYTES + 1) + 1
                for start in range(0, batch.num_rows, step):
                    yield batch.slice(start, step)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and digests of a folder's files, as hex."""
    if path.is_dir():
        names = sorted(file for file in path.rglob("*") if file.is_file())
        listing = "".join(f"{sha256_of(n)}  {n.relative_to(path).as_posix()}\n" for n in names)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Return the bytes of a file or of all files in a folder."""
    return sum(file.stat().st_size for file in _files(path))


def _make_readable(path: Path) -> None:
    # safetensors writes weights with mode 0600, which a server of another user cannot read
    for file in _files(path):
        file.chmod(file.stat().st_mode | 0o444)


def _sync(path: Path) -> None:
    for file in _files(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
