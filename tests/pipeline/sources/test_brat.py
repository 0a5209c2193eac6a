"""Texts with annotations of brat are read in pairs, or are refused by file and line."""

import json
from pathlib import Path

import pytest

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.sources import Layout
from tests.pipeline.sources.reading import bad, good, read, write
from tests.pipeline.stages.test_ingest import read as ingested

BRAT = Layout("brat")
TEXT = "Ann Miller moved to\r\nOslo, Norway.\n"
NOTES = """\
T1\tPER 0 10\tAnn Miller
T2\tLOC 21 25\tOslo
R1\tBorn-in Arg1:T1 Arg2:T2
E1\tMove:T1 Who:T2
A1\tSure T1
#1\tAnnotatorNotes T1\tis she?
*\tEquiv T1 T2
"""


def pair(folder: Path, text: str = TEXT, notes: str | None = NOTES, name: str = "a") -> Path:
    write(folder, f"{name}.txt", text.encode())
    if notes is not None:
        write(folder, f"{name}.ann", notes.encode())
    return folder


def test_a_text_has_the_spans_of_the_file_beside_it(tmp_path: Path) -> None:
    pair(tmp_path)
    pair(tmp_path, notes=None, name="more/b")
    pair(tmp_path, notes="", name="more/c")
    rows = read(tmp_path, ("text", "label", "document"), BRAT)
    found = good(rows, ("label", "document"))
    assert json.loads(found[0][0])[1] == {"start": 21, "end": 25, "label": "LOC", "text": "Oslo"}
    assert found[1:] == [("", "more/b"), ("[]", "more/c")]
    assert [row.file for row in rows] == ["a.txt", "more/b.txt", "more/c.txt"]


def test_spans_of_brat_are_labels_of_entities(tmp_path: Path) -> None:
    """Line ends of Windows are two characters; a line break in a span is a space in its text."""
    notes = NOTES + "T3\tLOC 17 19;21 25\tto Oslo\n"
    frame = ingested(tmp_path, str(pair(tmp_path / "in")), tasks.get("ner"), format="brat")
    assert frame["label"].tolist() == ['[[0,10,"PER"],[21,25,"LOC"]]']
    pair(tmp_path / "in", notes=notes.replace("T2\tLOC 21 25\tOslo\n", ""))
    frame = ingested(tmp_path, str(tmp_path / "in"), tasks.get("ner"), format="brat")
    assert frame["label"].tolist() == ['[[0,10,"PER"],[17,25,"LOC"]]']


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "T3\tLOC 0 3;21 25\tAnn Oslo",
            "line 8: T3 (LOC) has parts with text between them, 0 3;21 25: make it one span or"
            " leave it out",
        ),
        ("T3\tLOC 0\tAnn", "line 8: 'T3 LOC 0 Ann' is not a number, type, and places"),
        ("T3", "line 8: 'T3' is not a number, type, and places"),
    ],
)
def test_an_annotation_that_is_no_span_costs_its_text(
    tmp_path: Path, line: str, reason: str
) -> None:
    pair(tmp_path, notes=NOTES + line)
    pair(tmp_path, name="b")
    rows = read(tmp_path, layout=BRAT)
    assert bad(rows) == [(1, f"a.ann, {reason}")]
    assert len(good(rows)) == 1


def test_annotations_without_a_text_and_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    pair(tmp_path)
    write(tmp_path, "b.ann", NOTES.encode())
    pair(tmp_path, name="c")
    write(tmp_path, "c.ann", b"T1\tPER 0 3\tAnn \xff")
    rows = read(tmp_path, layout=BRAT)
    reasons = [(row.file, getattr(row, "reason", "")) for row in rows]
    assert reasons == [
        ("a.txt", ""),
        ("c.ann", "is not UTF-8 (byte 0xff at offset 15)"),
        ("b.ann", "has no text beside it: b.txt is missing"),
    ]


def test_texts_of_brat_have_an_encoding_too(tmp_path: Path) -> None:
    texts = [f"Zoë sang für {n}ö".encode("cp1252") for n in range(5)]
    for n, text in enumerate(texts):
        write(tmp_path, f"{n}.txt", text)
        write(tmp_path, f"{n}.ann", "T1\tPER 0 3\tZoë".encode("cp1252"))
    with pytest.raises(UserError, match=r"set ingest.encoding to cp1252$"):
        read(tmp_path, layout=BRAT)
    rows = read(tmp_path, layout=Layout("brat", encoding="cp1252"))
    assert good(rows)[0][0] == "Zoë sang für 0ö"
    assert json.loads(good(rows)[0][1])[0]["text"] == "Zoë"


def test_the_format_and_its_folder_are_named(tmp_path: Path) -> None:
    pair(tmp_path / "in")
    for other in (Layout(), Layout("lines")):
        with pytest.raises(UserError, match=r"in: looks like brat: set ingest.format to brat$"):
            read(tmp_path / "in", layout=other)
    with pytest.raises(UserError, match=r"is a file: name the folder of the format brat$"):
        read(tmp_path / "in" / "a.txt", layout=BRAT)
    write(tmp_path, "plain/a.txt", b"text")
    with pytest.raises(UserError, match=r"holds no \.txt files with \.ann files of the same names"):
        read(tmp_path / "plain", layout=BRAT)
