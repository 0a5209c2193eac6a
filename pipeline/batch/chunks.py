"""Chunks of rows, and the folder in which a job keeps what it has done.

Each chunk is written to its own file, and at the end all chunks are joined. So a stopped job
resumes after its last chunk and writes the same bytes, and memory holds one chunk.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from pipeline.core.errors import UserError
from pipeline.sources import Reject, Row

CHUNK = 8_192  # rows
LARGEST = 16_000_000  # characters of a chunk, over all columns: long rows make it hold fewer rows

AnyRow = TypeVar("AnyRow", Row, Row | Reject)


def in_chunks(rows: Iterable[AnyRow], size: int = CHUNK) -> Iterator[list[AnyRow]]:
    """Yield lists of `size` rows, fewer where rows are long."""
    chunk: list[AnyRow] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        if isinstance(row, Row):
            characters += sum(map(len, row.fields.values()))
        if len(chunk) == size or characters > LARGEST:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


@contextmanager
def job_folder(jobs: Path, key: str, source: str) -> Iterator[Path]:
    """Lend the folder of a job's chunks, which is deleted once the job is done.

    Raises UserError if another process works on the same job.
    """
    jobs.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(jobs / f"{key}.lock", timeout=0):
            yield jobs / key
            shutil.rmtree(jobs / key)
    except Timeout:
        raise UserError(
            f"{source}: another command works on it with the same settings: wait for it to end"
        ) from None
