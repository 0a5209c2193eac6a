"""Compressed files are read as what they hold, and never grow without a limit."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Layout, unpack
from tests.pipeline.sources.reading import good, read, write

CONTENT = b"text,label\na,x\nb,y\n"


def zipped(content: bytes, *names: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return held.getvalue()


def zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "a.csv.gz": gzip.compress,
    "a.csv.bz2": bz2.compress,
    "a.csv.xz": lzma.compress,
    "a.csv.zst": zstd,
    "a.zip": lambda content: zipped(content, "folder/a.csv", "__MACOSX/folder/._a.csv"),
}


@pytest.mark.parametrize("name", PACKERS)
def test_a_packed_table_is_a_table(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, PACKERS[name](CONTENT))
    rows = read(path)
    assert good(rows) == [("a", "x"), ("b", "y")]
    assert {row.file for row in rows} == {str(path)}


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "SMALL", 1000)
    path = write(tmp_path, name, PACKERS[name](b"text,label\n" + b"a,x\n" * 1_000_000))
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"):
        read(path)


@pytest.mark.parametrize("name", PACKERS)
def test_a_damaged_archive_is_one_line(tmp_path: Path, name: str) -> None:
    packed = PACKERS[name](CONTENT * 1000)
    path = write(tmp_path, name, packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"cannot be unpacked \(.+\): get it again"):
        read(path)


def test_a_zip_holds_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.zip", zipped(CONTENT, "a.csv", "b.csv"))
    with pytest.raises(UserError, match="holds 2 files: unpack it, and name one of them"):
        read(path)


def test_lines_and_documents_keep_the_name_of_their_class(tmp_path: Path) -> None:
    path = write(tmp_path, "film.txt.gz", gzip.compress("une scène\nun acteur\n".encode()))
    assert good(read(path, layout=Layout("lines"))) == [
        ("une scène", "film"),
        ("un acteur", "film"),
    ]


def test_a_packed_file_in_another_encoding(tmp_path: Path) -> None:
    content = "text;label\n" + "déjà vu;x\n" * 4
    path = write(tmp_path, "a.csv.gz", gzip.compress(content.encode("cp1252")))
    with pytest.raises(UserError, match=r"set ingest.encoding to cp1252"):
        read(path)
    assert good(read(path, layout=Layout(encoding="cp1252")))[0] == ("déjà vu", "x")
