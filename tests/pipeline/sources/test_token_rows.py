"""Tables of tokens are read as sentences with spans, or refused by row."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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


def test_a_sentence_ends_with_its_document(tmp_path: Path) -> None:
    each = b"doc_id,sentence_id,word,tag\nA,0,Ann,B-per\nA,0,sings,O\nB,0,Bo,B-per\nB,1,It,O\n"
    columns = ("text", "sentence", "document")
    expected = [("Ann sings", "0", "A"), ("Bo", "0", "B"), ("It", "1", "B")]
    assert good(read(write(tmp_path, "a.csv", each), columns, TOKEN_ROWS), columns) == expected
    once = each.replace(b"\nA,0,sings", b"\n,,sings").replace(b"\nB,1,It", b"\n,1,It")
    assert good(read(write(tmp_path, "b.csv", once), columns, TOKEN_ROWS), columns) == expected
    alone = b"document,word,tag\nA,Ann,B-per\nA,sings,O\nB,Bo,B-per\n"
    rows = good(read(write(tmp_path, "c.csv", alone), columns, TOKEN_ROWS), columns)
    assert rows == [("Ann sings", "A", ""), ("Bo", "B", "")]


def test_spreadsheets_json_and_parquet_are_tables_of_tokens_too(tmp_path: Path) -> None:
    header, *rows = (line.split(",") for line in NAMED_ONCE.splitlines()[:4])
    path = workbook(tmp_path / "a.xlsx", [header, *rows])
    assert sentences(path) == EXPECTED[:1]
    records = [dict(zip(header, row, strict=True)) for row in rows]
    filled = [{name: cell for name, cell in record.items() if cell} for record in records]
    lines = "\n".join(map(json.dumps, filled))
    assert sentences(write(tmp_path, "a.jsonl", lines.encode())) == EXPECTED[:1]
    pq.write_table(pa.Table.from_pylist(filled), tmp_path / "a.parquet")
    assert sentences(tmp_path / "a.parquet") == EXPECTED[:1]


def test_a_bad_row_costs_its_sentence_and_is_named(tmp_path: Path) -> None:
    lines = [
        *("sentence_id,word,tag", "1,Ann,B-per", "1,,O", "2,Ann,B-per", "2,\xff,O", "2,it,O"),
        *("3,sings,O", "4,a,O", "4,b,Q-x", "5,Ann,B-per", "5,Miller,I-geo", "6,Ann,B-per"),
        *["6,sings,O"] * 20,
    ]
    rows = read(write(tmp_path, "a.csv", "\n".join(lines).encode("latin-1")), COLUMNS, TOKEN_ROWS)
    assert [text.split()[0] for text, *_ in good(rows, COLUMNS)] == ["sings", "Ann"]
    reasons = dict(bad(rows))
    assert list(reasons) == [3, 5, 9, 11]
    assert reasons[3] == "its token is empty"
    assert "is not UTF-8" in reasons[5]
    assert "'Q-x' is not IOB2" in reasons[9]
    assert "'I-geo' follows 'B-per', against IOB2" in reasons[11]


def test_a_bad_row_between_two_sentences_costs_both(tmp_path: Path) -> None:
    lines = ["sentence_id,word,tag", "1,Ann,B-per", "2,\xff,O", "2,sings,O", "3,Bo,B-per", "3,a,O"]
    rows = read(write(tmp_path, "a.csv", "\n".join(lines).encode("latin-1")), COLUMNS, TOKEN_ROWS)
    assert [number for number, _ in bad(rows)] == [3, 3]
    assert [text for text, *_ in good(rows, COLUMNS)] == ["Bo a"]
    rows = read(
        write(tmp_path, "b.csv", b"sentence_id,word,tag\n1\n1,a,O\n2,b,O\n"), (), TOKEN_ROWS
    )
    assert [number for number, _ in bad(rows)] == [2]
    assert [text for (text,) in good(rows, ("text",))] == ["b"]


def test_a_record_without_a_tag_costs_its_sentence(tmp_path: Path) -> None:
    records = [("1", "Ann", "B-per"), ("1", "sings", None), ("2", "a", "O")]
    lines = [
        json.dumps({k: v for k, v in zip(("sent_id", "word", "tag"), record, strict=True) if v})
        for record in records
    ]
    rows = read(write(tmp_path, "a.jsonl", "\n".join(lines).encode()), COLUMNS, TOKEN_ROWS)
    assert bad(rows) == [(2, "its tag '' is not IOB2 (O, B-TYPE, I-TYPE)")]
    assert good(rows, COLUMNS) == [("a", "[]", "2")]


def test_quotes_that_hide_rows_are_told(tmp_path: Path) -> None:
    words = ["Ann", '"', "a", '"', "b"]
    content = "".join(f"1\t{word}\t{'O' if word != 'Ann' else 'B-per'}\n" for word in words)
    path = write(tmp_path, "a.tsv", f"sentence\tword\ttag\n{content}".encode())
    ((number, reason),) = bad(read(path, COLUMNS, TOKEN_ROWS))
    assert number == 3
    assert "several lines: in CSV, set ingest.quotes to false" in reason
    assert sentences(path, Layout("token_rows", quotes=False)) == [
        ('Ann " a " b', [[0, 3, "per"]], "1")
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("name,word,tag", "no column of sentences, among name, word, tag: call it 'sentence_id'"),
        ("sentence,name,tag", "no column of tokens, among sentence, name, tag: call it 'word'"),
    ],
)
def test_a_column_that_is_not_found_is_named(tmp_path: Path, header: str, message: str) -> None:
    path = write(tmp_path, "a.csv", f"{header}\n1,Ann,B-per\n1,sings,O\n".encode())
    with pytest.raises(UserError, match=message):
        read(path, COLUMNS, TOKEN_ROWS)
    plain = write(tmp_path, "b.csv", b"sentence,word,label\n1,a good one,x\n2,a bad one,y\n")
    with pytest.raises(UserError, match=r"no column of tags, .* among sentence, word, label: "):
        read(plain, COLUMNS, TOKEN_ROWS)
    empty = write(tmp_path, "c.csv", b"sentence,word,tag\n")
    with pytest.raises(UserError, match=r"c\.csv: holds no row that can be read"):
        read(empty, COLUMNS, TOKEN_ROWS)
