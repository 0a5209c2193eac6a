"""Windows against cutting, from the answers of two recipes."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import UserError
from tests.conftest import ROOT
from tests.pipeline.report.conftest import ladder, lengths, scores

sys.path.insert(0, str(ROOT / "bench"))
import long_texts

TEXTS = [" ".join(["word"] * length) for length in range(1, 101)]
LABELS = ["film" if i % 2 else "money" for i in range(100)]


def run(home: Path, base: Path, answers: Sequence[str], rows: int = 100) -> None:
    """What the comparison reads of a recipe that was run."""
    ids = [f"{i:03}" for i in range(100)]
    (home / "validate").mkdir(parents=True)
    columns = {"id": ids, "text": TEXTS, "label": LABELS, "second": "", "group": ""}
    pd.DataFrame(columns | {"split": "test"}).to_parquet(home / "validate" / "kept.parquet")
    (home / "tokenize" / "tokenizer").mkdir(parents=True)
    shutil.copy(base / "tokenizer.json", home / "tokenize" / "tokenizer")
    lengths().write(home / "tokenize" / "lengths.json")
    scored = scores(["film", "money"]).model_copy(update={"task": "classification"})
    scored.write(home / "evaluate" / "scores.json")
    ladder().write(home / "benchmark" / "ladder.json")
    said = pd.DataFrame({"id": ids, "answer": answers, "split": "test"})[:rows]
    said.sample(frac=1, random_state=1).to_parquet(home / "evaluate" / "predictions.parquet")


def test_the_difference_is_that_of_the_same_rows(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_texts, "WORK", tmp_path)
    wrong_where_long = [label if i < 80 else "film" for i, label in enumerate(LABELS)]
    run(tmp_path / "cut" / "data" / "cut", tiny_base, wrong_where_long)
    run(tmp_path / "all" / "data" / "all", tiny_base, LABELS)
    found = long_texts.compared("cut", "all")
    longest, every = found["parts"]["longest quarter"], found["parts"]["all"]
    assert (longest["rows"], every["rows"]) == (25, 100)
    assert longest["scores"]["all"]["accuracy"] == 1
    assert longest["difference"]["accuracy"]["value"] == pytest.approx(10 / 25)
    assert every["difference"]["accuracy"]["value"] == pytest.approx(10 / 100)
    for part in (longest, every):
        difference = part["difference"]["accuracy"]
        assert 0 < difference["low"] < difference["value"] < difference["high"]
    told = long_texts.markdown(found)
    assert "| longest quarter | accuracy | 25 | 0.6000 | 1.0000 | +0.4000 (+" in told


def test_recipes_that_answered_other_rows_are_not_compared(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_texts, "WORK", tmp_path)
    with pytest.raises(UserError, match=r"python bench/results\.py cut"):
        long_texts.compared("cut", "all")
    run(tmp_path / "cut" / "data" / "cut", tiny_base, LABELS)
    run(tmp_path / "all" / "data" / "all", tiny_base, LABELS, rows=99)
    with pytest.raises(UserError, match="has not answered 099: other rows"):
        long_texts.compared("cut", "all")
