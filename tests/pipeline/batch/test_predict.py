"""Rows of a file are answered in their order, and a stopped job ends in the same bytes."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.batch import chunks, predict
from pipeline.batch.predict import Input, Texts, rejects_of
from pipeline.core.errors import UserError
from tests.conftest import write_csv

ROWS = [{"id": str(n), "text": "word " * (n % 7 + 1) + str(n), "label": "x"} for n in range(50)]


def answer(texts: Sequence[Texts]) -> list[dict[str, Any]]:
    """Answers that depend on their text alone; entities are there for long texts only."""
    return [
        {
            "label": "long" if len(text) > 30 else "short",
            "score": len(text) / 100,
            "entities": [{"start": 0, "end": 4}] if len(text) > 30 else [],
        }
        for text, _ in texts
    ]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 8)
    monkeypatch.setattr(chunks.in_chunks, "__defaults__", (8,))
    monkeypatch.setattr(predict, "AT_ONCE", 3)
    monkeypatch.chdir(tmp_path)


def run(source: Path, out: str = "out.parquet", **options: Any) -> list[dict[str, Any]]:
    rows = Input(str(source), "text", options.pop("second", None))
    own = options.pop("answer", answer)
    predict.predict(rows, own, "toy/1", Path(out), Path("jobs"), **options)
    assert not any(path.is_dir() for path in Path("jobs").iterdir())
    return pq.read_table(out).to_pylist() if out.endswith(".parquet") else []


def test_rows_keep_their_order_and_columns(tmp_path: Path) -> None:
    found = run(write_csv(tmp_path / "a.csv", ROWS))
    assert [row["id"] for row in found] == [row["id"] for row in ROWS]
    expected = answer([(row["text"], "") for row in ROWS])
    assert [{key: row[key] for key in expected[0]} for row in found] == expected
    assert {row["version"] for row in found} == {"toy/1"}
    assert {row["input_label"] for row in found} == {"x"}  # the file's own


def test_columns_of_parquet_keep_their_types(tmp_path: Path) -> None:
    texts = [row["text"] if n % 9 else None for n, row in enumerate(ROWS)]
    table = pa.table({"n": pa.array(range(50), pa.int16()), "text": texts, "on": [True] * 50})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    found = run(tmp_path / "a.parquet")
    assert pq.read_schema("out.parquet").field("n").type == pa.int16()
    assert [row["n"] for row in found] == [n for n in range(50) if n % 9]
    assert all(row["text"] == ROWS[row["n"]]["text"] for row in found)
    lines = rejects_of(Path("out.parquet")).read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [n + 1 for n in range(50) if not n % 9]
    assert json.loads(lines[0])["reason"] == "its 'text' is empty"


def test_tables_of_a_folder_keep_their_columns(tmp_path: Path) -> None:
    for n, part in enumerate((ROWS[:30], ROWS[30:])):
        path = tmp_path / "parts" / f"part-{n}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(part), path)
    assert [row["id"] for row in run(tmp_path / "parts")] == [row["id"] for row in ROWS]
    with pytest.raises(UserError, match="no column 'body'"):
        predict.predict(
            Input("parts", "body"), answer, "toy/1", Path("other.parquet"), Path("jobs")
        )


def test_rejects_of_an_earlier_job_go(tmp_path: Path) -> None:
    run(write_csv(tmp_path / "a.csv", [*ROWS, {"id": "x", "text": " ", "label": ""}]))
    assert rejects_of(Path("out.parquet")).exists()
    run(write_csv(tmp_path / "a.csv", ROWS), overwrite=True)
    assert not rejects_of(Path("out.parquet")).exists()


@pytest.mark.parametrize("out", ["out.parquet", "out.jsonl", "out.csv"])
def test_a_stopped_job_ends_in_the_same_bytes(tmp_path: Path, out: str) -> None:
    source = write_csv(tmp_path / "a.csv", [*ROWS, {"id": "x", "text": "", "label": ""}])
    run(source, out)
    whole, asked = Path(out).read_bytes(), 0

    def stops(texts: Sequence[Texts]) -> list[dict[str, Any]]:
        nonlocal asked
        asked += 1
        if asked == 11:
            raise KeyboardInterrupt
        return answer(texts)

    Path(out).unlink()
    with pytest.raises(KeyboardInterrupt):
        run(source, out, answer=stops)
    assert not Path(out).exists()
    done = len(list(Path("jobs").glob("*/*.parquet")))
    assert done == 3
    asked = 11
    run(source, out, answer=stops)
    assert asked - 11 == 10  # calls: the other half
    assert Path(out).read_bytes() == whole


def test_answers_are_written_as_lines_of_json_and_as_csv(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", ROWS)
    run(source, "out.jsonl")
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert lines[5]["entities"] == [{"start": 0, "end": 4}]
    run(source, "out.csv")
    with Path("out.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [row["text"] for row in cells] == [row["text"] for row in ROWS]
    assert [json.loads(row["entities"]) for row in cells] == [row["entities"] for row in lines]


def test_pairs_have_two_texts(tmp_path: Path) -> None:
    rows = [{"text": "a", "other": "b"}, {"text": "c", "other": ""}]
    source = write_csv(tmp_path / "a.csv", rows)
    seen: list[Texts] = []
    found = run(source, second="other", answer=lambda texts: (seen.extend(texts), answer(texts))[1])
    assert (len(found), seen) == (1, [("a", "b")])


def test_an_output_is_not_replaced_unless_told(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", ROWS)
    Path("out.parquet").write_text("mine")
    with pytest.raises(UserError, match=r"out\.parquet: exists: name another, or replace it"):
        run(source)
    assert Path("out.parquet").read_text() == "mine"
    for out, message in (("a.csv", "is the file of rows"), ("b.txt", "name a file that ends in")):
        with pytest.raises(UserError, match=message):
            run(source, out, overwrite=True)


def test_a_source_without_rows_is_one_line(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", [{"text": "", "label": ""}])
    with pytest.raises(UserError, match=r"no rows that can be answered: .*line 2: its 'text' is"):
        run(source)


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", ROWS)

    def changes(texts: Sequence[Texts]) -> list[dict[str, Any]]:
        write_csv(source, ROWS[::-1])
        return answer(texts)

    with pytest.raises(UserError, match="has changed while it was read"):
        run(source, answer=changes)
    assert not Path("out.parquet").exists()
