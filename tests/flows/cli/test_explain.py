"""Output on a version whose ledger is older than tasks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli.explain import explain
from flows.cli.history import history
from pipeline.registry.ledger import Ledger
from pipeline.registry.records import Entry
from pipeline.registry.versions import Registry
from tests.pipeline.promotion.test_gate import OLD_VERDICT

OLD_SCORES = '{"labels": ["a", "b"], "validation": {"accuracy": {"value": 0.97}}}'


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Registry with a version that an early bertline judged."""
    folder = tmp_path_factory.mktemp("old")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield filled(Registry(f"sqlite:///{folder / 'mlflow.db'}"))


def filled(registry: Registry) -> Registry:
    run = registry.client.create_run(registry.client.create_experiment("news")).info.run_id
    registry.client.log_text(run, OLD_SCORES, "records/scores.json")
    registry.client.create_registered_model("news")
    registry.client.create_model_version("news", source="file:///nowhere/1", run_id=run)
    entry = Entry(
        number=1,
        event="promote",
        model="news",
        version="1",
        previous=None,
        who="root",
        when="2026-11-22T09:47:19.000000+00:00",
        reason="no champion yet",
        lineage="7494",
        decision="promote",
        epoch=1,
    )
    ledger = Ledger(registry, "news")
    identity = ledger.append(entry, [("verdict.json", OLD_VERDICT)])
    registry.move("news", "1")
    ledger.settle(identity)
    return registry


def test_a_verdict_of_two_metrics_is_still_explained(registry: Registry) -> None:
    told = explain(registry, "news", None)
    assert (
        "It answered the 412 rows of test set 1 with accuracy 0.9757 and macro-F1 0.9751." in told
    )
    assert "In accuracy it has 0.9757 against the champion's 0.9733: +0.24%" in told


def test_records_that_are_gone_and_records_in_another_form_are_told_apart(
    registry: Registry,
) -> None:
    told = explain(registry, "news", "1")
    assert "records/scores.json: has the format of another version: see run" in told
    assert "records/fit.json: is not in the run any more" in told


def test_an_old_ledger_is_still_a_history(registry: Registry, tmp_path: Path) -> None:
    told = history(registry, "news", tmp_path / "history.png")
    assert "news/1 is in use" in told
    assert (tmp_path / "history.png").stat().st_size


def test_a_terminal_shows_the_same_history_as_a_table(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = history(registry, "news", tmp_path / "history.png").split()
    monkeypatch.setattr("flows.cli.terminal.watched", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    told = history(registry, "news", tmp_path / "history.png")
    assert [word for word in told.split() if set(word) != {"─"}] == plain
    assert "───" in told
