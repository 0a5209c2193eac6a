"""Delimiters are found, JSON is read in any shape, and spreadsheets are tables."""

import json
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog
from pipeline.sources import Layout, read_rows, spreadsheets
from tests.pipeline.sources.reading import bad, good, read, write

RECORDS = [{"text": f"text {n}, or\nmore", "label": "xy"[n % 2]} for n in range(4)]
ROWS = [(record["text"], record["label"]) for record in RECORDS]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "^", "~", "§"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_delimiter_is_found_and_told(tmp_path: Path, delimiter: str, suffix: str) -> None:
    lines = ["text%label", *(f'"{text}"%{label}' for text, label in ROWS)]
    content = "\ufeff" + "\n".join(lines).replace("%", delimiter)
    path = write(tmp_path, f"a{suffix}", content.encode())
    told: list[str] = []
    log = FunctionLog(told.append)
    rows = list(read_rows(str(path), ("text", "label"), log=log))
    assert good(rows) == ROWS
    usual = {".csv": ",", ".tsv": "\t"}[suffix] == delimiter
    assert told == ([] if usual else [f"{path}: fields are separated by {delimiter!r}"])


def test_commas_in_a_column_of_a_semicolon_file_are_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"text;label;a,b\none, two;x;1\nthree;y;2\n")
    assert good(read(path)) == [("one, two", "x"), ("three", "y")]


def test_a_file_without_a_header_has_the_delimiter_that_fits_its_names(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"one, two|x\nthree|y\n")
    rows = read(path, layout=Layout(header=("text", "label")))
    assert good(rows) == [("one, two", "x"), ("three", "y")]
    path = write(tmp_path, "a.csv", b"one, two|x\nthree, four|y\n")
    with pytest.raises(UserError, match=r"',' and '\|' give 2 fields each: set ingest.delimiter"):
        read(path, layout=Layout(header=("text", "label")))


def test_a_first_line_for_excel_names_the_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"\xef\xbb\xbfsep=;\r\ntext;label\r\na, b;x\r\nc\r\nd;y\r\n")
    rows = read(path)
    assert good(rows) == [("a, b", "x"), ("d", "y")]
    assert [row.number for row in rows] == [3, 4, 5]


def test_a_named_delimiter_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"text,label;b\nx,y;z\n")
    with pytest.raises(UserError, match="no column 'text': its header names text,label, b"):
        read(path, layout=Layout(delimiter=";"))


def test_thousands_of_columns_make_a_short_message(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", ",".join(f"column {n}" for n in range(3000)).encode())
    with pytest.raises(UserError, match=r"and 2,980 more$") as caught:
        read(path)
    assert len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("shape", ["array", "data", "lines"])
def test_json_is_read_in_any_shape(
    tmp_path: Path, name: str, indent: int | None, shape: str
) -> None:
    if shape == "lines":
        content = "\n".join(json.dumps(record) for record in RECORDS)
    else:
        held = RECORDS if shape == "array" else {"version": 1, "data": RECORDS}
        content = json.dumps(held, indent=indent)
    assert good(read(write(tmp_path, name, content.encode()))) == ROWS


def test_a_column_that_the_first_records_lack_is_found_in_later_ones(tmp_path: Path) -> None:
    records = [{"text": "a"}, {"label": None}, {"text": "b", "label": "x"}, {"label": "y"}]
    content = "\n".join(["no JSON", *(json.dumps(record) for record in records)])
    rows = read(write(tmp_path, "a.jsonl", content.encode()))
    assert good(rows) == [("a", ""), ("", ""), ("b", "x"), ("", "y")]
    assert [number for number, _ in bad(rows)] == [1]
    content = "\n".join(json.dumps({"text": f"text {n}"}) for n in range(5000))
    with pytest.raises(
        UserError, match=r"no column 'label': its first 1,000 rows have text; known"
    ):
        read(write(tmp_path, "b.jsonl", content.encode()))


def test_what_is_no_record_in_an_array_costs_itself(tmp_path: Path) -> None:
    content = b'[{"text": "a", "label": "x"}, 3, {"text": "b\xff", "label": "x"}, null]'
    rows = read(write(tmp_path, "a.json", content))
    assert good(rows) == [("a", "x")]
    assert [number for number, _ in bad(rows)] == [2, 3, 4]


def test_an_array_that_breaks_off_names_the_row(tmp_path: Path) -> None:
    content = json.dumps(RECORDS)[:-20].encode()
    with pytest.raises(UserError, match=r"a.json, row 4: the array cannot be read on"):
        read(write(tmp_path, "a.json", content))


def test_an_array_is_not_held_in_memory(tmp_path: Path) -> None:
    record = json.dumps({"text": "word " * 2000, "label": "x"})
    path = write(tmp_path, "a.json", f"[{','.join([record] * 5000)}]".encode())  # 50 MB
    tracemalloc.start()
    assert sum(1 for _ in read_rows(str(path), ("text", "label"))) == 5000
    assert tracemalloc.get_traced_memory()[1] < 25e6
    tracemalloc.stop()


def test_classes_of_datasets_have_their_names(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["neg", "pos"]),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["a", "b"])),
        }
    )
    rows = {"text": ["x", "y", "z"], "label": [1, 0, -1], "tags": [[0, 1], [], [1]]}
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    assert good(read(path, ("text", "label", "tags")), ("label", "tags")) == [
        ("pos", '["a", "b"]'),
        ("neg", "[]"),
        ("", '["b"]'),
    ]


SHEET = """<?xml version="1.0" encoding="UTF-8"?>
<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>
%s</sheetData></worksheet>"""
PARTS = {
    "[Content_Types].xml": """<?xml version="1.0" encoding="UTF-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="xml" ContentType="application/xml"/>
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/xl/workbook.xml"
 ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>
<Override PartName="/xl/worksheets/sheet1.xml"
 ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>
</Types>""",
    "_rels/.rels": """<?xml version="1.0" encoding="UTF-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1" Target="xl/workbook.xml"
 Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/>
</Relationships>""",
    "xl/workbook.xml": """<?xml version="1.0" encoding="UTF-8"?>
<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"
 xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">
<sheets><sheet name="Rows" sheetId="1" r:id="r1"/></sheets></workbook>""",
    "xl/_rels/workbook.xml.rels": """<?xml version="1.0" encoding="UTF-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1" Target="worksheets/sheet1.xml"
 Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"/>
</Relationships>""",
}


def workbook(path: Path, rows: list[list[str | float | bool | None]]) -> Path:
    """Write an .xlsx file of one sheet."""

    def cell(value: str | float | bool | None) -> str:
        if value is None:
            return "<c/>"
        if isinstance(value, bool):
            return f'<c t="b"><v>{int(value)}</v></c>'
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t xml:space="preserve">{value}</t></is></c>'
        return f"<c><v>{value}</v></c>"

    lines = (f"<row>{''.join(map(cell, row))}</row>\n" for row in rows)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in PARTS.items():
            archive.writestr(name, content)
        archive.writestr("xl/worksheets/sheet1.xml", SHEET % "".join(lines))
    return path


def test_a_spreadsheet_is_a_table(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "a.xlsx",
        [["text", "label"], ["一家酒店", 3.0], ["two\nlines", 2.5], [None, None], ["c", True]],
    )
    rows = read(path)
    assert good(rows) == [("一家酒店", "3"), ("two\nlines", "2.5"), ("c", "True")]
    assert [row.number for row in rows] == [2, 3, 5]


def test_a_spreadsheet_without_a_header(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["a", "x"], ["b", "y"]])
    assert good(read(path, layout=Layout(header=("text", "label")))) == [("a", "x"), ("b", "y")]


def test_a_cell_without_a_header_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["text", "label"], ["a", "x", "more"], ["b", "y"]])
    rows = read(path)
    assert good(rows) == [("b", "y")]
    assert bad(rows) == [(2, "has 3 fields where the header has 2")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [([["body", "label"], ["a", "x"]], "row 1: no column 'text'"), ([], "has no cells")],
)
def test_a_spreadsheet_that_cannot_be_used_is_refused(
    tmp_path: Path, rows: list[list[str | float | bool | None]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(workbook(tmp_path / "a.xlsx", rows))


def test_a_damaged_spreadsheet_is_one_line(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["text", "label"], ["a", "x"]])
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match=r"cannot be read \(.+\): save it again, or as CSV"):
        read(path)


def test_a_spreadsheet_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheets, "SMALL", 1000)
    path = workbook(tmp_path / "a.xlsx", [["text", "label"], *[["a" * 50, "x"]] * 20_000])
    with pytest.raises(UserError, match="more than 100 times its size: save it as CSV"):
        read(path)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(encoding="cp1252"), "ingest.encoding is for text files alone"),
        (Layout(delimiter=";"), "ingest.delimiter is for CSV and TSV alone"),
    ],
)
def test_options_that_a_format_has_not_are_refused(
    tmp_path: Path, layout: Layout, message: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"], "label": ["x"]}), path)
    with pytest.raises(UserError, match=message):
        read(path, layout=layout)
