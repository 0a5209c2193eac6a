"""Plain texts, one per file or line, labelled by the name of their folder or file."""

import os
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Layout, Reject, texts
from pipeline.stages.ingest.stage import ingest
from tests.pipeline.sources.reading import bad, good, read, write
from tests.pipeline.stages.rows import TOPICS, ingest_params

LINES = Layout("lines")
DOCUMENTS = Layout("documents")


def test_a_folder_a_label(tmp_path: Path) -> None:
    for label, name, content in [
        ("x", "1.txt", b"a"),
        ("y", "2.txt", b"b"),
        ("y", "3.txt", b"\xff"),
    ]:
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / name).write_bytes(content)
    rows = read(tmp_path)
    assert good(rows) == [("a", "x"), ("b", "y")]
    assert [row.file for row in rows if isinstance(row, Reject)] == ["y/3.txt"]


def test_a_file_of_lines_a_label(tmp_path: Path) -> None:
    write(tmp_path, "pos.txt", '\ufeff好\r\n\r\n a, "b"\n'.encode())
    write(tmp_path, "neg.txt", b"bad\nb\xffd\nworse")
    write(tmp_path, "code.py", b"pass\n")
    rows = read(tmp_path, layout=LINES)
    assert good(rows) == [("bad", "neg"), ("worse", "neg"), ("好", "pos"), (' a, "b"', "pos")]
    assert [(row.file, row.number) for row in rows] == [
        *[("neg.txt", 1), ("neg.txt", 2), ("neg.txt", 3), ("pos.txt", 1), ("pos.txt", 3)]
    ]
    assert bad(rows) == [(2, "is not UTF-8 (byte 0xff at offset 1)")]


def test_one_file_of_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "tech.txt", b"a b c\nd\x00e\n")
    assert good(read(path, layout=LINES)) == [("a b c", "tech"), ("d\x00e", "tech")]


def test_a_line_that_is_too_long_costs_itself(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"z" * 10_000_001 + b"\n" + b"y" * 9_999_999 + b"\nb\n")
    rows = read(path, layout=LINES)
    assert bad(rows) == [(1, "longer than 10,000,000 bytes")]
    assert [text[:3] for text, _ in good(rows)] == ["yyy", "b"]


CAFE = os.fsdecode(b"caf\xe9")


def test_documents_stand_between_blank_lines(tmp_path: Path) -> None:
    text = b"\n\nOne.\nGoes on.\n \t\nTwo.\r\n\r\n\nThree\nwith \xff in it\n\nFour."
    file = write(tmp_path, "texts/b.txt", text)
    rows = read(file, ("text",), DOCUMENTS)
    assert good(rows, ("text",)) == [("One.\nGoes on.",), ("Two.",), ("Four.",)]
    assert [row.number for row in rows] == [3, 6, 10, 12]
    assert bad(rows) == [(10, "is not UTF-8 (byte 0xff at offset 5)")]
    write(tmp_path, "texts/a.txt", b"First.")
    assert [row.file for row in read(file.parent, ("text",), DOCUMENTS)] == [
        "a.txt",
        *["b.txt"] * 4,
    ]


def test_a_document_without_an_end_is_one_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "LARGEST_ROW", 100)
    file = write(tmp_path, "a.txt", b"a line of words\n" * 20 + b"\nshort\n")
    rows = read(file, ("text",), DOCUMENTS)
    assert bad(rows) == [(7, "its document is longer than 100 characters")]
    assert good(rows, ("text",)) == [("short",)]


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_a_file_name_that_is_not_utf_8_is_shown(tmp_path: Path) -> None:
    write(tmp_path, f"texts/pos/{CAFE}.txt", b"a")
    write(tmp_path, f"texts/pos/{CAFE}2.txt", b"\xff")
    rows = read(tmp_path / "texts")
    assert [row.file for row in rows] == ["pos/caf\ufffd.txt", "pos/caf\ufffd2.txt"]
    ingest(ingest_params(str(tmp_path / "texts")), TOPICS, tmp_path / "ingest")
    table = write(tmp_path, f"{CAFE}.csv", b"text,label\na,x\nb\n")
    assert {row.file for row in read(table)} == {f"{tmp_path}/caf\ufffd.csv"}


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_a_label_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    why = "this name is a label and not UTF-8: rename it"
    write(tmp_path, f"folders/{CAFE}/1.txt", b"a")
    with pytest.raises(UserError, match=f"^{tmp_path}/folders/caf\ufffd: {why}$"):
        read(tmp_path / "folders")
    file = write(tmp_path, f"lines/{CAFE}.txt", b"a\n")
    with pytest.raises(UserError, match=rf"^{tmp_path}/lines/caf\ufffd\.txt: {why}$"):
        read(file.parent, layout=LINES)
    with pytest.raises(UserError, match=rf"^{tmp_path}/lines/caf\ufffd\.txt: {why}$"):
        read(file, layout=LINES)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (LINES, "holds no .txt files: one file of lines a label is expected"),
        (Layout("conll"), "is a folder: name a file of the format conll"),
        (DOCUMENTS, "holds no .txt files: files of documents are expected"),
        (Layout(), "holds no files in folders"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(
    tmp_path: Path, layout: Layout, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, layout=layout)
    assert str(caught.value).startswith(f"{tmp_path}: {message}")
