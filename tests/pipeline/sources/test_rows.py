"""Cells of Parquet and JSON become the same text, whatever their type."""

import datetime
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from tests.pipeline.sources.reading import bad, good, read, write

DAY = datetime.date(2026, 2, 1)
SPAN = {"start": 0.0, "end": 1.0, "label": "X", "more": {"a": [1, None]}}


def parquet(folder: Path, *labels: object, kind: pa.DataType | None = None) -> Path:
    table = pa.table({"text": ["a"] * len(labels), "label": pa.array(labels, kind)})
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


CELLS = [
    (pa.int64(), [1, -2, None], ["1", "-2", ""]),
    (pa.uint64(), [2**64 - 1], ["18446744073709551615"]),
    (pa.float64(), [1.0, -0.0, None, float("nan")], ["1", "0", "", ""]),
    (pa.float64(), [2.5, 0.1, 1e20], ["2.5", "0.1", "1e+20"]),
    (pa.float32(), [3.8, 4.0, None], ["3.8", "4", ""]),
    (pa.bool_(), [True, False, None], ["true", "false", ""]),
    (pa.decimal128(9, 2), [Decimal("1.00"), Decimal("1.50"), None], ["1", "1.50", ""]),
    (pa.date32(), [DAY], ["2026-02-01"]),
    (pa.timestamp("ns"), [datetime.datetime(2026, 2, 1, 3, 4)], ["2026-02-01 03:04:00"]),
    (pa.dictionary(pa.int32(), pa.string()), ["x", "y", "x"], ["x", "y", "x"]),
    (pa.dictionary(pa.int8(), pa.int64()), [7, 8, 7], ["7", "8", "7"]),
    (pa.large_string(), ["é", None], ["é", ""]),
    (pa.string_view(), ["é", None], ["é", ""]),
    (pa.binary(), ["é".encode(), None], ["é", ""]),
    (pa.list_(pa.string()), [["x", "é"], [], None], ['["x", "é"]', "[]", ""]),
    (pa.list_(pa.float64()), [[1.0, 2.5, float("nan")]], ["[1, 2.5, null]"]),
    (pa.list_(pa.binary()), [[b"x"]], ['["x"]']),
    (pa.list_(pa.date32()), [[DAY]], ['["2026-02-01"]']),
    (pa.list_(pa.decimal128(9, 2)), [[Decimal("1.00"), Decimal("0.10")]], ["[1, 0.1]"]),
    (
        None,
        [[SPAN], []],
        ['[{"start": 0, "end": 1, "label": "X", "more": {"a": [1, null]}}]', "[]"],
    ),
    (pa.map_(pa.string(), pa.int32()), [[("a", 1)]], ['[["a", 1]]']),
]


@pytest.mark.parametrize(("kind", "cells", "texts"), CELLS)
def test_a_cell_is_text(
    tmp_path: Path, kind: pa.DataType | None, cells: list[object], texts: list[str]
) -> None:
    found = good(read(parquet(tmp_path, *cells, kind=kind)))
    assert [label for _, label in found] == texts


def test_a_class_has_one_name_in_parquet_and_json(tmp_path: Path) -> None:
    """pandas makes floats of whole numbers beside an empty cell."""
    rows = [{"text": "a", "label": label} for label in (1, 1.0, None, [1.0, 2], True)]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)).encode())
    labels = [label for _, label in good(read(path))]
    assert labels == ["1", "1", "", "[1, 2]", "true"]
    assert good(read(parquet(tmp_path, 1, kind=pa.int8()))) == [("a", "1")]
    assert good(read(parquet(tmp_path, 1.0, None))) == [("a", "1"), ("a", "")]


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        (pa.binary(), [b"x", b"\xff", b"y"]),
        (pa.list_(pa.binary()), [[b"x"], [b"\xff"], [b"y"]]),
        (None, [{"a": b"x"}, {"a": b"\xff"}, {"a": b"y"}]),
    ],
)
def test_bytes_that_are_not_utf8_cost_their_row(
    tmp_path: Path, kind: pa.DataType | None, cells: list[object]
) -> None:
    rows = read(parquet(tmp_path, *cells, kind=kind))
    assert len(good(rows)) == 2
    assert bad(rows) == [(2, "is not Unicode text (invalid start byte)")]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice = pa.table([pa.array(["a"])] * 3, names=["text", "label", "label"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="the column 'label' is there twice: rename one"):
        read(tmp_path / "a.parquet")
