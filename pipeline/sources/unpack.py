"""Compressed sources: unpacked into a temporary file, up to a limit."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from pipeline.core.errors import UserError

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
SMALL = 200_000_000  # bytes; what unpacks to less is never too much
MOST = 100  # times its packed size; texts reach about 20
DAMAGED = (zlib.error, lzma.LZMAError, zipfile.BadZipFile)
CHUNK = 1 << 20  # bytes


def name_of(path: Path, shown: str) -> str:
    """Return the name of the file inside of a compressed one, or its own name.

    Raises UserError for a .zip that does not hold exactly one file.
    """
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with _errors(shown), zipfile.ZipFile(path) as archive:
            return Path(_only(archive, shown).filename).name
    return path.stem if suffix in COMPRESSED else path.name


@contextmanager
def unpacked(path: Path, shown: str) -> Iterator[Path]:
    """Yield the path of an unpacked file with the name that it has inside; the same path if it is
    not compressed.

    Raises UserError for a damaged file and for one that unpacks to more than MOST times its size.
    """
    if path.suffix.lower() not in COMPRESSED:
        yield path
        return
    with TemporaryDirectory(prefix="bertline-") as folder:
        copy = Path(folder) / name_of(path, shown)
        limit = max(SMALL, MOST * path.stat().st_size)
        with _errors(shown), _opened(path, shown) as packed, copy.open("wb") as written:
            while chunk := packed.read(CHUNK):
                limit -= len(chunk)
                if limit < 0:
                    raise UserError(
                        f"{shown}: unpacks to more than {MOST} times its size: unpack it yourself"
                        " if that is right"
                    )
                written.write(chunk)
        yield copy


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[IO[bytes] | Any]:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(_only(archive, shown)) as file:
            yield file
    elif suffix == ".zst":
        import pyarrow as pa

        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            yield stream
    else:
        opener: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[suffix]
        with opener(path, "rb") as file:
            yield file


def _only(archive: zipfile.ZipFile, shown: str) -> zipfile.ZipInfo:
    """Return the only file of an archive, besides what macOS adds."""
    files = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
    ]
    if len(files) != 1:
        raise UserError(f"{shown}: holds {len(files):,} files: unpack it, and name one of them")
    if files[0].flag_bits & 1:
        raise UserError(f"{shown}: is encrypted: unpack it")
    return files[0]


@contextmanager
def _errors(shown: str) -> Iterator[None]:
    """Turn the errors of damaged files into one line."""
    try:
        yield
    except (*DAMAGED, OSError, EOFError, ValueError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{shown}: cannot be unpacked ({reason}): get it again") from None
