"""The gate's input from registered versions: cached answers, leaks and unfit versions."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from pipeline.core.errors import Unavailable
from pipeline.core.log import FunctionLog
from pipeline.promotion.evidence import Bench, ask, ask_and_decide
from pipeline.registry.artifacts import ROWS
from pipeline.registry.ledger import Ledger
from pipeline.retraining.row_changes import compare, learned
from tests.pipeline.conftest import Home
from tests.pipeline.promotion.toys import (
    Publish,
    decided,
    leaked,
)


def test_the_first_is_promoted_and_its_twin_is_a_tie(bench: Bench, published: Publish) -> None:
    first = decided(bench, published())
    assert (first.decision, first.epoch, first.question) == ("promote", 1, 0)
    test = pd.read_parquet(bench.validate / "kept.parquet", filters=[("split", "==", "test")])
    assert first.rows == len(test)
    said: list[str] = []

    twin = decided(replace(bench, log=FunctionLog(said.append)), published("2"))
    assert (twin.decision, "a tie changes nothing" in twin.reason) == ("hold", True)
    assert bench.registry.champion("toy") == "1"
    # the twin's files say when they were made; the champion's answers were kept
    assert [sentence for sentence in said if "answers" in sentence] == [
        f"toy/2 answers {len(test)} test rows"
    ]
    assert ask(bench, "2") == twin


def test_a_version_keeps_its_rows_without_their_texts(
    bench: Bench, published: Publish, line: Home
) -> None:
    run = bench.registry.version_tags("toy", published())["run"]
    rows = pd.read_parquet(bench.registry.artifact(run, ROWS))
    read = pd.read_parquet(line.ingest / "rows.parquet")
    assert rows.columns.tolist() == ["id", "label", "split", "kept"]
    assert compare(rows, read).rows == 0
    kept = pd.read_parquet(line.validate / "kept.parquet")
    assert rows.loc[rows["kept"], "id"].tolist() == kept["id"].tolist()
    seen = kept.loc[kept["split"] != "test", "id"]
    assert learned(bench.registry.artifact(run, ROWS)) == set(seen)


def test_answers_under_other_versions_are_not_taken_from_before(
    bench: Bench, published: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = published()
    decided(bench, number)
    kept = set(bench.cache.iterdir())
    monkeypatch.setattr("pipeline.promotion.evidence.installed", lambda package: "99")
    ask(bench, number)
    assert len(set(bench.cache.iterdir()) - kept) == 1


def test_a_test_row_that_was_trained_on_is_a_leak(bench: Bench, published: Publish) -> None:
    decided(bench, published())

    verdict = decided(bench, published("leak", leaked(3)))
    assert (verdict.decision, verdict.unfit) == ("reject", True)
    assert "it was trained on 3 of the" in verdict.reason


def test_an_mlflow_that_fails_makes_no_version_unfit(
    bench: Bench, published: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = published()

    def fail(*_: object) -> None:
        raise Unavailable("MLflow does not answer")

    for call in ("artifact", "table"):
        with monkeypatch.context() as patch, pytest.raises(Unavailable):
            patch.setattr(bench.registry, call, fail)
            ask(bench, number)


def test_another_tokenizer_than_the_trained_one_is_unfit(bench: Bench, published: Publish) -> None:
    def swap(home: Home) -> None:
        path = home.export / "tokenizer.json"
        path.write_text(path.read_text(encoding="utf-8").replace("goal", "gaol"), encoding="utf-8")

    verdict = decided(bench, published("swap", swap))
    assert (verdict.decision, verdict.unfit) == ("reject", True)
    assert "another tokenizer.json than it was trained with" in verdict.reason
    assert bench.registry.champion("toy") is None


def test_a_version_of_another_task_is_unfit(bench: Bench, published: Publish) -> None:
    def of_pairs(home: Home) -> None:
        path = home.export / "serving.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"task": "pair"}))

    verdict = decided(bench, published("pair", of_pairs))
    assert (verdict.decision, verdict.unfit) == ("reject", True)
    assert verdict.reason == "it was trained for the task pair, and the recipe's is classification"


def test_a_model_that_does_not_load_is_unfit(bench: Bench, published: Publish) -> None:
    def cut(home: Home) -> None:
        for path in home.export.rglob("*.onnx"):
            path.write_bytes(path.read_bytes()[:1000])

    verdict = decided(bench, published("cut", cut))
    assert verdict.unfit
    assert "it does not answer" in verdict.reason


def test_a_champion_by_hand_can_be_judged_afterwards(bench: Bench, published: Publish) -> None:
    decided(bench, published())
    number = published("2")
    bench.registry.move("toy", number)
    verdict, entry = ask_and_decide(bench, number, approved=True)
    assert (verdict.decision, verdict.champion) == ("hold", "1")
    assert entry is not None
    assert [entry.event for entry in Ledger(bench.registry, "toy").entries()] == [
        "promote",
        "by hand",
        "hold",
    ]
    assert bench.registry.champion("toy") == number
    assert ask_and_decide(bench, number, approved=True)[1] is None
