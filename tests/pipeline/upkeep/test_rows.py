"""A row is found wherever and however it is written, and cut out without touching the others."""

import csv
import html
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.core.text import content_id, excerpt
from pipeline.sources import Row, read_rows
from pipeline.upkeep.rows import Forgotten, read_ids, records

TEXT = 'She wrote "I & my <sister> Ödön live at 12 Elm Row"\nand signed it.'
OTHER = "Somebody else wrote of other things."
NAME = content_id(TEXT)


@pytest.fixture
def forgotten() -> Forgotten:
    return Forgotten.of([NAME], [TEXT], [OTHER])


def as_csv(*rows: tuple[str, ...]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize(
    "written",
    [
        TEXT,
        excerpt(TEXT),
        as_csv(("id", "text"), ("x", TEXT)),
        json.dumps({"text": TEXT}),
        json.dumps({"text": TEXT}, ensure_ascii=False),
        f"<td>{html.escape(TEXT)}</td>",
        f"{NAME}-2",
    ],
)
def test_its_words_and_its_name_are_found(
    forgotten: Forgotten, tmp_path: Path, written: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\0" * 5000 + written.encode() + b"\xff" * 99)
    assert forgotten.in_file(file)
    file.write_text(OTHER)
    assert not forgotten.in_file(file)


def test_words_across_two_blocks_are_found(
    forgotten: Forgotten, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.upkeep import rows

    monkeypatch.setattr(rows, "BLOCK", 64)
    for shift in range(64, 128):
        (tmp_path / "file").write_bytes(b"." * shift + NAME.encode() + b"." * 100)
        assert forgotten.in_file(tmp_path / "file")


def test_tables_are_searched_decoded(forgotten: Forgotten, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = pa.table({"n": [1, 2], "text": [OTHER * 50, TEXT]})
    named = pa.table({"id": ["x", f"{NAME}-3"], "input_ids": [[1, 2], [3]]})
    clean = pa.table({"id": ["x"], "text": [OTHER], "p": [[0.5, 0.5]]})
    for table, found in ((held, True), (named, True), (clean, False)):
        pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
        assert forgotten.in_file(tmp_path / "t.parquet") is found
        with (
            pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table)
        assert forgotten.in_file(tmp_path / "t.arrow") is found
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content[:-20])
    assert forgotten.in_file(tmp_path / "t.parquet")  # an unreadable table counts as a match


def test_words_that_others_share_are_not_searched_for() -> None:
    shared = "Dear customer service of the shop"
    alone = Forgotten.of(["a" * 20], [f"{shared}. My own order is late"], [f"{shared}. Thanks"])
    assert not alone.in_bytes(f"{shared}. Thanks".encode())
    assert alone.in_bytes(f"{shared}. My own order is late".encode())
    assert alone.wordless == 0
    assert Forgotten.of(["a" * 20], ["ok"], []).wordless == 1


def test_a_csv_a_json_and_a_table_lose_the_row_alone(forgotten: Forgotten) -> None:
    import pandas as pd

    kept = as_csv(("id", "excerpt"), ("y", OTHER))
    held = as_csv(("id", "excerpt"), (NAME, TEXT), ("y", OTHER))
    assert forgotten.cut("mistakes.csv", held.encode()) == kept.encode()
    left = forgotten.cut("epoch.json", json.dumps({"ids": [f"{NAME}-2", "y"], "n": 1}).encode())
    assert json.loads(left or b"") == {"ids": ["y"], "n": 1}
    table = pd.DataFrame(
        {"id": [NAME, f"{NAME}-2", "y"], "label": "a", "kept": [True, False, True]}
    )
    left = forgotten.cut("records/rows.parquet", table.to_parquet())
    assert pd.read_parquet(io.BytesIO(left or b"")).equals(table[2:].reset_index(drop=True))
    assert forgotten.cut("report.html", held.encode()) is None
    assert forgotten.cut("note.json", json.dumps({"text": TEXT}).encode()) is None


cells = st.text(st.sampled_from('ab,"\n\r\té'), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_the_records_of_a_csv_are_its_bytes_and_those_that_are_read(
    rows: list[tuple[str, str]], ending: str
) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=ending).writerows([("a", "b"), *rows])
    content = b"\xef\xbb\xbf" + stream.getvalue().encode()
    parts = dict(records(content))
    assert b"".join(parts.values()) == content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(content)
        for row in read_rows(str(path), ("a",)):
            if isinstance(row, Row):
                [fields] = csv.reader(io.StringIO(parts[row.number].decode(), newline=""))
                assert fields == list(row.fields.values())


def test_a_broken_csv_is_still_its_bytes() -> None:
    content = b'a,b\n1,"x" y\n2,\xff\n3,"open\n4,z'
    assert b"".join(part for _, part in records(content)) == content


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "holds no id"),
        ("7\n", "line 1: '7' is not a row id"),
        (f"{NAME}\n{NAME}x\n", "line 2"),
    ],
)
def test_a_file_of_ids_that_is_none_is_told(tmp_path: Path, written: str, message: str) -> None:
    (tmp_path / "ids").write_text(written)
    with pytest.raises(UserError, match=message):
        read_ids(tmp_path / "ids")


def test_copies_of_a_text_are_one_row(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(f"\ufeff{NAME}-2\r\n\n{NAME}\n")
    assert read_ids(tmp_path / "ids") == {NAME}
