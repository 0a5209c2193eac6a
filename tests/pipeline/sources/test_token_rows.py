"""Tables of tokens are read as sentences with spans, or refused by row."""

import gzip
import json
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Layout
from tests.pipeline.sources.reading import bad, good, read, write
from tests.pipeline.sources.test_shapes import workbook

TOKEN_ROWS = Layout("token_rows")
NAMED_ONCE = """\
Sentence #,Word,POS,Tag
Sentence: 1,Ann,NNP,B-per
,Miller,NNP,I-per
,sings,VBZ,O
Sentence: 2,In,IN,O
,"Oslo, Norway",NNP,B-geo
"""
EXPECTED = [
    ("Ann Miller sings", [[0, 10, "per"]], "Sentence: 1"),
    ("In Oslo, Norway", [[3, 15, "geo"]], "Sentence: 2"),
]
COLUMNS = ("text", "label", "sentence")


def sentences(path: Path, layout: Layout = TOKEN_ROWS) -> list[tuple[str, list[object], str]]:
    rows = good(read(path, COLUMNS, layout), COLUMNS)
    return [(text, json.loads(label), name) for text, label, name in rows]


def test_the_name_of_a_sentence_may_stand_in_its_first_row_alone(tmp_path: Path) -> None:
    assert sentences(write(tmp_path, "a.csv", NAMED_ONCE.encode())) == EXPECTED
    assert sentences(write(tmp_path, "a.csv.gz", gzip.compress(NAMED_ONCE.encode()))) == EXPECTED
    rows = read(write(tmp_path, "a.csv", NAMED_ONCE.encode()), COLUMNS, TOKEN_ROWS)
    assert [row.number for row in rows] == [2, 5]


def test_the_name_of_a_sentence_may_stand_in_each_row(tmp_path: Path) -> None:
    rows = "1;Ann;B-per\n1;sings;O\n2;Ö;B-geo\n1;Ann;B-per\n"
    layout = Layout("token_rows", encoding="utf-16")
    content = f"sentence_id;words;labels\n{rows}".encode("utf-16")
    assert sentences(write(tmp_path, "a.csv", content), layout) == [
        ("Ann sings", [[0, 3, "per"]], "1"),
        ("Ö", [[0, 1, "geo"]], "2"),
        ("Ann", [[0, 3, "per"]], "1"),
    ]


def test_a_header_may_be_given(tmp_path: Path) -> None:
    layout = Layout("token_rows", header=("sentence", "pos", "form", "x"))
    content = b"1\tNNP\tAnn\tB-per\n1\tVBZ\tsings\tO\n"
    found = sentences(write(tmp_path, "a.tsv", content), layout)
    assert found == [("Ann sings", [[0, 3, "per"]], "1")]


def test_tags_may_be_types_alone(tmp_path: Path) -> None:
    content = b"Sentence,Token,NER\n1,Ann,PER\n1,Miller,PER\n1,sings,O\n"
    found = sentences(write(tmp_path, "a.csv", content))
    assert found == [("Ann Miller sings", [[0, 10, "PER"]], "1")]


def test_spreadsheets_and_json_are_tables_of_tokens_too(tmp_path: Path) -> None:
    header, *rows = (line.split(",") for line in NAMED_ONCE.splitlines()[:4])
    path = workbook(tmp_path / "a.xlsx", [header, *rows])
    assert sentences(path) == EXPECTED[:1]
    lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    assert sentences(write(tmp_path, "a.jsonl", "\n".join(lines).encode())) == EXPECTED[:1]


def test_a_bad_row_costs_its_sentence_and_is_named(tmp_path: Path) -> None:
    lines = [
        *("sentence_id,word,tag", "1,Ann,B-per", "1,,O", "2,Ann,B-per", "2,\xff,O"),
        *("3,sings,O", "4,a,O", "4,b,Q-x", "5,Ann,B-per", "5,Miller,I-geo", "6,Ann,B-per"),
        *["6,sings,O"] * 20,
    ]
    rows = read(write(tmp_path, "a.csv", "\n".join(lines).encode("latin-1")), COLUMNS, TOKEN_ROWS)
    assert [text.split()[0] for text, *_ in good(rows, COLUMNS)] == ["sings", "Ann"]
    reasons = dict(bad(rows))
    assert list(reasons) == [3, 5, 8, 10]
    assert reasons[3] == "its token is empty"
    assert "is not UTF-8" in reasons[5]
    assert "'Q-x' is not IOB2" in reasons[8]
    assert "'I-geo' follows 'B-per', against IOB2" in reasons[10]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("name,word,tag", "no column of its sentence: call it 'sentence_id'"),
        ("sentence,name,tag", "no column of its token: call it 'word'"),
    ],
)
def test_a_column_that_is_not_found_is_named(tmp_path: Path, header: str, message: str) -> None:
    path = write(tmp_path, "a.csv", f"{header}\n1,Ann,B-per\n1,sings,O\n".encode())
    with pytest.raises(UserError, match=message):
        read(path, COLUMNS, TOKEN_ROWS)
    plain = write(tmp_path, "b.csv", b"sentence,word,label\n1,a good one,x\n2,a bad one,y\n")
    with pytest.raises(UserError, match="no column of its tag: call it 'tag'"):
        read(plain, COLUMNS, TOKEN_ROWS)
