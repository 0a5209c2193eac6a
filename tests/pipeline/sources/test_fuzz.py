"""Damaged files of every reader end in rows, rejects or one line, never in a stack trace."""

import bz2
import gzip
import io
import json
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Layout, Reject, Row, read_rows
from pipeline.sources.spreadsheets import EXTENSIONS
from tests.pipeline.sources.test_shapes import workbook

TEXT = "Ann Miller, “née” Stone; moved to Oslo 🎉"
ROWS = [{"text": f"{TEXT} {n}", "label": "xy"[n % 2]} for n in range(12)]
TOKENS = {"tokens": ["Ann", "sings"], "ner_tags": ["B-PER", "O"]}
WORDS = [{"sentence": n, "word": "Ann", "tag": tag} for n in range(3) for tag in ("B-PER", "O")]
RESULT = {"value": {"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}, "type": "labels"}
TASK = {"data": {"text": TEXT}, "annotations": [{"result": [RESULT]}], "predictions": []}
ACCEPTED = {"text": TEXT, "spans": [{"start": 0, "end": 3, "label": "PER"}], "answer": "accept"}
RECORD = {"fields": {"text": TEXT}, "responses": {"topic": [{"value": "x", "user_id": "u"}]}}
ENTITY = {"text": TEXT, "entities": [{"start_offset": 0, "end_offset": 3, "label": "PER"}]}
ANSWER = {"text": "Ann", "answer_start": 0}
QUESTION = {"id": "1", "question": "Who?", "answers": [ANSWER]}
SQUAD = {"data": [{"title": "a", "paragraphs": [{"context": TEXT, "qas": [QUESTION]}]}] * 5}


def table(delimiter: str) -> str:
    lines = ["text%label", *(f'"{row["text"]}"%{row["label"]}' for row in ROWS)]
    return "\n".join(lines).replace("%", delimiter)


def lines(*records: object) -> str:
    return "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)


def parquet() -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), held)
    return held.getvalue()


def spreadsheet(folder: Path) -> bytes:
    cells = [[row["text"].replace("&", ""), row["label"]] for row in ROWS]
    return workbook(folder / "whole.xlsx", [["text", "label"], *cells]).read_bytes()


def documents() -> bytes:
    """Return a DocBin of spaCy, not packed."""
    import spacy
    from spacy.tokens import DocBin

    saved = DocBin()
    for row in ROWS:
        doc = spacy.blank("en")(row["text"])
        doc.set_ents([doc.char_span(0, 10, "PER")], default="outside")
        doc.cats = {row["label"]: 1.0}
        saved.add(doc)
    return zlib.decompress(saved.to_bytes())


def zipped(content: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.csv", content)
    return held.getvalue()


TAGGED = "Ann B-PER\nMiller I-PER\nsings O\n\n" * 5
GERMEVAL = "# text\n1\tAnn\tB-PER\tO\n2\tsings\tO\tO\n\n" * 5
CSV = table(",").encode()
WHOLE: dict[tuple[str, str | None], bytes] = {
    ("a.csv", None): CSV,
    ("b.csv", None): table(";").encode("utf-16"),
    ("a.tsv", None): table("\t").encode(),
    ("a.csv.gz", None): gzip.compress(CSV),
    ("a.csv.bz2", None): bz2.compress(CSV),
    ("a.csv.zst", None): pa.compress(CSV, "zstd", asbytes=True),
    ("a.zip", None): zipped(CSV),
    ("a.jsonl", None): lines(*ROWS).encode(),
    ("a.json", None): json.dumps(ROWS, indent=1).encode(),
    ("b.json", None): json.dumps({"data": ROWS}).encode(),
    ("squad.json", None): json.dumps(SQUAD).encode(),
    ("a.parquet", None): parquet(),
    ("a.conll", None): TAGGED.encode(),
    ("b.conll", None): GERMEVAL.encode(),
    ("c.conll", "conll_documents"): f"-DOCSTART- O\n\n{TAGGED}".encode(),
    ("t.txt", "tagged_lines"): b"Ann sings\tB-PER O\n" * 9,
    ("words.txt", "word_tags"): "安/nr 在/p 北京/ns\n".encode() * 9,
    ("x.txt", "lines"): f"{TEXT}\n".encode() * 9,
    ("y.txt", "documents"): f"{TEXT}\n{TEXT}\n\n".encode() * 9,
    ("ls.json", "label_studio"): json.dumps([TASK] * 5).encode(),
    ("dc.jsonl", "doccano"): lines(*[ENTITY] * 5).encode(),
    ("pr.jsonl", "prodigy"): lines(*[ACCEPTED] * 5).encode(),
    ("ar.jsonl", "argilla"): lines(*[RECORD] * 5).encode(),
    ("tk.jsonl", "tokens"): lines(*[TOKENS] * 5).encode(),
    ("tr.csv", "token_rows"): b"sentence_id,word,tag\n" + b"1,Ann,B-PER\n1,sings,O\n2,a,O\n" * 5,
    ("tr.jsonl", "token_rows"): lines(*WORDS).encode(),
}


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Cut, flip, repeat, swap or insert some bytes."""
    found = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        size = max(len(found), 1)
        place, other = draw.randrange(size), draw.randrange(size)
        match draw.randrange(6):
            case 0:
                del found[place:]
            case 1:
                found[place : place + 1] = bytes([draw.randrange(256)])
            case 2:
                found[place:place] = found[other : other + draw.randrange(40)]
            case 3:
                del found[place : place + draw.randrange(40)]
            case 4:
                found[place:place] = draw.choice(
                    [b'"', b"\x00", b"\xff\xfe", b"\n", b"[", b"{", b"\t"]
                )
            case _:
                half = bytes(found[:place])
                found = bytearray(found[place:] + half)
    return bytes(found)


def damaged_files(content: bytes, number: int, seed: str) -> Iterator[bytes]:
    draw = random.Random(seed)
    return (damaged(content, draw) for _ in range(number))


def check(
    folder: Path,
    name: str,
    kind: str | None,
    content: bytes,
    number: int,
    pack: Callable[[bytes], bytes] = bytes,
) -> int:
    """Read damaged copies of a file; assert that each ends in rows, rejects or a UserError. Returns
    the number of rows and rejects."""
    path, seen = folder / name, 0
    columns = ("question", "context") if name == "squad.json" else ("text",)
    for place, broken in enumerate(damaged_files(content, number, name)):
        path.write_bytes(pack(broken))
        try:
            rows = list(read_rows(str(path), columns, Layout(kind)))  # type: ignore[arg-type]
        except UserError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 1000 + len(str(path)), (place, str(error))
        else:
            assert all(isinstance(row, Row | Reject) for row in rows)
            assert all(row.number > 0 for row in rows)
            seen += len(rows)
    return seen


@pytest.mark.parametrize(("name", "kind"), WHOLE)
def test_damage_is_no_stack_trace(tmp_path: Path, name: str, kind: str | None) -> None:
    check(tmp_path, name, kind, WHOLE[name, kind], 50)


def test_a_damaged_data_set_is_no_stack_trace(tmp_path: Path) -> None:
    """pyarrow alone ends the process at some of these."""
    from datasets import Dataset

    rows = [row | {"spans": [{"a": "b" * n, "c": n}]} for n, row in enumerate(ROWS)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    columns = ("text", "label", "spans")
    for place, broken in enumerate(damaged_files(file.read_bytes(), 200, "saved")):
        file.write_bytes(broken)
        try:
            rows_read = list(read_rows(str(tmp_path / "saved"), columns))
        except UserError as error:
            assert "\n" not in str(error), place
        else:
            assert all(row.number > 0 for row in rows_read)


@pytest.mark.parametrize("suffix", [EXTENSIONS[0]])
def test_a_damaged_spreadsheet_is_no_stack_trace(tmp_path: Path, suffix: str) -> None:
    check(tmp_path, f"a{suffix}", None, spreadsheet(tmp_path), 50)


def test_damaged_documents_are_no_stack_trace(tmp_path: Path) -> None:
    check(tmp_path, "a.spacy", None, zlib.compress(documents()), 50)
    assert check(tmp_path, "a.spacy", None, documents(), 50, zlib.compress) > 0


@pytest.mark.parametrize("number", range(50))
def test_lines_are_rows_or_rejects(tmp_path: Path, number: int) -> None:
    """No line of JSON is lost without a word, whatever bytes it holds."""
    draw = random.Random(number)
    content = b"".join(
        damaged(line, draw).replace(b"\n", b" ") + b"\n" if draw.random() < 0.3 else line
        for line in lines(*ROWS).encode().splitlines(keepends=True)
    )
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "first", "label": "x"}\n' + content)
    filled = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    assert len(list(read_rows(str(path), ("text", "label")))) == filled
