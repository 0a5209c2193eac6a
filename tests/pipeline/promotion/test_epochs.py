"""Frozen test sets: when a new one begins, and the questions to each."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from flows import gate
from pipeline.core.errors import UserError
from pipeline.promotion.champion import force
from pipeline.promotion.evidence import ANSWERS, Bench, ask
from pipeline.registry.ledger import Ledger
from tests.pipeline.conftest import Home
from tests.pipeline.promotion.toys import Publish, decided, spoiled_onnx, with_params


def test_new_rows_wait_until_they_make_the_next_test_set(bench: Bench, published: Publish) -> None:
    bench = with_params(bench, epoch_rows=10)
    number = published()
    assert decided(bench, number).rows == (
        first := len(Ledger(bench.registry, "toy").epochs()[0].ids)
    )
    kept = pd.read_parquet(bench.validate / "kept.parquet")

    def arrive(count: int) -> None:
        fresh = kept[kept["split"] == "test"].head(count).copy()
        fresh["id"] = [f"{place:020x}" for place in range(count)]
        pd.concat([kept, fresh]).to_parquet(bench.validate / "kept.parquet")

    arrive(9)
    assert (ask(bench, number).epoch, ask(bench, number).rows) == (1, first)
    arrive(10)
    assert (ask(bench, number).epoch, ask(bench, number).rows) == (2, 10)
    kept[kept["split"] != "test"].to_parquet(bench.validate / "kept.parquet")
    assert ask(bench, number).reason == "there are no test rows to judge it on"


def test_questions_are_counted_once_and_cost_more_each_time(
    bench: Bench, published: Publish
) -> None:
    decided(bench, published())

    def answer_alone(place: int) -> Callable[[Home], None]:
        def change(name: str, values: np.ndarray) -> np.ndarray | None:
            if not name.endswith("classifier.bias"):
                return None
            values[place] += 50.0  # it answers one class alone
            return values

        return spoiled_onnx(change)

    bench = with_params(bench, min_discordant=1, floors={"accuracy": 0.0})
    verdicts = [decided(bench, published(f"b{place}", answer_alone(place))) for place in range(2)]
    reasons = [verdict.reason for verdict in verdicts]
    assert [verdict.question for verdict in verdicts] == [1, 2], reasons
    assert [verdict.level for verdict in verdicts] == [0.05 / 2, 0.05 / 6]
    assert decided(bench, "2") == verdicts[0]  # the same question, not a third
    assert [entry.question for entry in Ledger(bench.registry, "toy").entries()] == [0, 1, 2]


def test_changed_labels_go_through_a_new_baseline(bench: Bench, published: Publish) -> None:
    decided(bench, published())

    def rename(home: Home) -> None:
        path = home.export / "serving.json"
        path.write_text(path.read_text(encoding="utf-8").replace('"sport"', '"games"'))

    number = published("renamed", rename)
    path = bench.validate / "validation.json"
    path.write_text(path.read_text().replace('"sport"', '"games"'))
    kept = pd.read_parquet(bench.validate / "kept.parquet").replace({"label": {"sport": "games"}})
    kept.to_parquet(bench.validate / "kept.parquet")
    verdict = decided(bench, number)
    assert verdict.decision == "hold"
    assert "'sport' gone and 'games' new" in verdict.reason
    assert f"bertline promote toy/{number} --rebaseline" in verdict.reason
    alone = ask(bench, number, rebaseline=True)
    assert (alone.decision, alone.champion, alone.epoch) == ("promote", None, 2)
    force(bench.registry, "rebaseline", "sport is games now", alone)
    assert bench.registry.champion("toy") == number
    with pytest.raises(UserError, match="give a reason"):
        force(bench.registry, "rebaseline", "", alone)


def test_a_test_set_is_frozen_anew_only_by_a_rebaseline_that_is_carried_out(
    bench: Bench, published: Publish
) -> None:
    number = published()
    decided(bench, number)
    high = with_params(bench, floors={"accuracy": 1.0, "macro_f1": 1.0})
    path = bench.validate / "kept.parquet"
    kept = pd.read_parquet(path)
    wrong = kept["split"].eq("test") & kept["label"].eq("sport")
    kept.assign(label=kept["label"].mask(wrong, "film")).to_parquet(path)
    for _ in range(2):
        with pytest.raises(UserError, match="is below the floor"):
            gate.overrule(high, "rebaseline", number, "the labels are others now")
    assert [epoch.number for epoch in Ledger(bench.registry, "toy").epochs()] == [1]
    low = with_params(bench, floors={"accuracy": 0.0})
    verdict = gate.overrule(low, "rebaseline", number, "the labels are others now")
    assert (
        [epoch.number for epoch in Ledger(bench.registry, "toy").epochs()]
        == [1, verdict.epoch]
        == [1, 2]
    )
    assert set(Ledger(bench.registry, "toy").epochs()[1].ids) == set(
        kept.loc[kept["split"] == "test", "id"]
    )
    identity, entry, _ = Ledger(bench.registry, "toy").written()[-1]
    assert (entry.event, entry.epoch) == ("rebaseline", 2)
    assert len(pd.read_parquet(bench.registry.artifact(identity, ANSWERS))) == verdict.rows
