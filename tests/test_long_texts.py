"""Every word against a cut, from the answers of one recipe's three ways."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Row
from pipeline.stages.benchmark.machine import this_machine
from tests.conftest import ROOT
from tests.pipeline.report.records import lengths, scores, validation

sys.path.insert(0, str(ROOT / "bench"))
import long_texts

LABELS = ["film" if i % 2 else "money" for i in range(100)]


def run(folder: Path, answers: Sequence[str], rows: int = 100) -> Path:
    """Results of a variant that the comparison reads."""
    ids = [f"{i:03}" for i in range(100)]
    (folder / "validate").mkdir(parents=True)
    columns = {"id": ids, "text": "words", "label": LABELS, "second": "", "group": ""}
    pd.DataFrame(columns | {"split": "test"}).to_parquet(folder / "validate" / "kept.parquet")
    validation(["film", "money"]).write(folder / "validate" / "validation.json")
    lengths().write(folder / "tokenize" / "lengths.json")
    scored = scores(["film", "money"]).model_copy(update={"task": "classification"})
    scored.write(folder / "evaluate" / "scores.json")
    said = pd.DataFrame({"id": ids, "answer": answers, "split": "test"})[:rows]
    said.sample(frac=1, random_state=1).to_parquet(folder / "evaluate" / "predictions.parquet")
    return folder


def test_the_difference_is_that_of_the_same_rows(tmp_path: Path) -> None:
    wrong = [label if i < 80 else "film" for i, label in enumerate(LABELS)]
    ways = {"truncate": wrong, "head_tail": wrong, "windows": LABELS}
    found = long_texts.compared({way: run(tmp_path / way, said) for way, said in ways.items()})
    assert found["scores"]["truncate"]["accuracy"] == 0.9
    assert found["scores"]["windows"]["accuracy"] == 1
    difference = found["differences"]["windows"]["accuracy"]
    assert difference["value"] == pytest.approx(0.1)
    assert 0 < difference["low"] < 0.1 < difference["high"] < 0.2
    assert set(found["differences"]["head_tail"]["accuracy"].values()) == {0.0}
    found |= {"recipe": "imdb", "machine": this_machine().model_dump()}
    told = long_texts.markdown(found | {"seconds": dict.fromkeys(ways, 600)})
    assert "| truncate | 10 min | 0.9000 |  | " in told
    assert "| windows | 10 min | 1.0000 | +0.1000 (+0.0" in told


def test_ways_that_answered_other_rows_are_not_compared(tmp_path: Path) -> None:
    folders = {
        "truncate": run(tmp_path / "truncate", LABELS),
        "windows": run(tmp_path / "windows", LABELS, rows=99),
    }
    with pytest.raises(UserError, match="has not answered 099: its rows differ"):
        long_texts.compared(folders)


def test_the_longest_quarter_is_that_of_tokens(tiny_base: Path) -> None:
    texts = [" ".join(["the"] * length) for length in range(1, 41)]
    texts += ["x" * 200] * 4  # many characters, and one unknown word
    rows = [Row("a.csv", number, {"body": text}) for number, text in enumerate(texts)]
    base = {
        "model": str(tiny_base),
        "sha256": None,
        "watch": "constraints.txt",
        "languages": None,
        "han_characters": False,
        "network": None,
    }
    found = long_texts.longest_quarter(rows[::-1], "body", base)
    assert [row.number for row in found] == list(range(39, 28, -1))
