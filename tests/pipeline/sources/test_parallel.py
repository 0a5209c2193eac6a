"""Parallel files become rows line by line, or the files are refused."""

from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Layout
from tests.pipeline.sources.reading import bad, good, read, write

PARALLEL = Layout("parallel")


def test_a_line_stands_beside_the_same_line_of_the_other_file(tmp_path: Path) -> None:
    english = write(tmp_path, "train.en", b"A cat.\n\n\nTwo dogs.\n")
    write(tmp_path, "train.fr", b"Un chat.\n\nRien.\nDeux chiens.\n")
    write(tmp_path, "training.fr", b"of another name\n")
    rows = read(english, ("en", "fr"), PARALLEL)
    assert good(rows, ("en", "fr")) == [
        ("A cat.", "Un chat."),
        ("", "Rien."),
        ("Two dogs.", "Deux chiens."),
    ]
    assert [row.number for row in rows] == [1, 3, 4]


def test_a_line_that_cannot_be_read_in_one_file_costs_its_row(tmp_path: Path) -> None:
    english = write(tmp_path, "a.en", b"one\ntwo\nthree\n")
    write(tmp_path, "a.fr", b"un\nd\xffux\ntrois\n")
    rows = read(english, ("en", "fr"), PARALLEL)
    assert bad(rows) == [(2, "is not UTF-8 (byte 0xff at offset 1)")]
    assert good(rows, ("fr",)) == [("un",), ("trois",)]


@pytest.mark.parametrize(
    ("french", "message"),
    [
        (b"un\n", "a.en has 2, a.fr has 1 lines: line N of every file must be the same text$"),
        (None, r"no column 'fr': files called a have the suffixes en"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, french: bytes | None, message: str
) -> None:
    english = write(tmp_path, "a.en", b"one\ntwo\n")
    if french:
        write(tmp_path, "a.fr", french)
    with pytest.raises(UserError, match=message):
        read(english, ("en", "fr"), PARALLEL)
