"""Files that are either whole or absent, and their digests."""

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

PORTION = 4_000_000  # bytes of rows that are looked at together
BUFFER = 1 << 20  # bytes of a file that are read at once


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name to write a file or folder under; rename it to `path` at the end.

    When the block fails nothing is left behind and whatever stood at `path` stays.
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
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def parquet_batches(
    path: Path, rows: int = 4096, columns: Sequence[str] | None = None
) -> Iterator["pa.RecordBatch"]:
    """The rows of a Parquet file, so many at most at a time, and fewer of long ones.

    By itself PyArrow holds all that it is going to read, which is the whole file, and a row group
    even without `pre_buffer` (https://github.com/apache/arrow/issues/39820).
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(rows, [group], columns and list(columns)):
                step = batch.num_rows // (batch.nbytes // PORTION + 1) + 1
                for start in range(0, batch.num_rows, step):
                    yield batch.slice(start, step)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of the relative names and digests of all files of a folder, as hex."""
    if path.is_dir():
        names = sorted(file for file in path.rglob("*") if file.is_file())
        listing = "".join(f"{sha256_of(n)}  {n.relative_to(path).as_posix()}\n" for n in names)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _make_readable(path: Path) -> None:
    # safetensors writes weights with mode 0600, which a server of another user cannot read
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            file.chmod(file.stat().st_mode | 0o444)


def _sync(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
