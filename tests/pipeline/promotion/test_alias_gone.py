"""A champion whose alias or version was deleted in MLflow itself: the ledger still knows it."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from flows.cli import main
from flows.cli.commands import versions
from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog
from pipeline.promotion import champion as promotion
from pipeline.promotion.evidence import Bench, ask_and_decide
from pipeline.registry.ledger import Ledger
from pipeline.registry.versions import Registry
from tests.pipeline.promotion.test_bad_challengers import noisy
from tests.pipeline.promotion.toys import Publish, decided, history, promote, verdict, with_params
from tests.pipeline.registry.toys import Versions


@pytest.fixture
def rejected(bench: Bench, published: Publish) -> Bench:
    """A champion, and a version that it has beaten by far."""
    bench = with_params(bench, floors={"accuracy": 0.0})
    assert decided(bench, published()).decision == "promote"
    assert decided(bench, published("2", noisy(0))).decision == "reject"
    return bench


def drop_alias(registry: Registry) -> None:
    registry.client.delete_registered_model_alias("toy", "champion")


def drop_version(registry: Registry, number: str) -> None:
    registry.client.delete_model_version("toy", number)


def test_a_version_is_judged_against_the_champion_whose_alias_is_gone(rejected: Bench) -> None:
    before = Ledger(rejected.registry, "toy").entries()
    drop_alias(rejected.registry)
    lines: list[str] = []
    judged = decided(replace(rejected, log=FunctionLog(lines.append)), "2")
    assert (judged.decision, judged.champion) == ("reject", "1")
    assert "worse than the champion" in judged.reason
    assert rejected.registry.champion("toy") is None
    assert re.fullmatch(
        r"toy: has no champion: the alias was taken away in MLflow itself, found 20[-\d]+ [:\d]+:"
        r" bertline rollback toy restores toy/1",
        lines[0],
    )
    events = [entry.event for entry in Ledger(rejected.registry, "toy").entries()]
    assert events == [*(entry.event for entry in before), "by hand"]


def test_a_rejected_version_is_not_promoted_because_the_champion_was_deleted(
    rejected: Bench,
) -> None:
    drop_version(rejected.registry, "1")
    for _ in range(2):
        judged = decided(rejected, "2")
        assert (judged.decision, judged.champion) == ("hold", None)
        assert "it was rejected on 20" in judged.reason
        assert "bertline promote toy/2 --override --reason TEXT" in judged.reason
    assert rejected.registry.champion("toy") is None
    events = [entry.event for entry in Ledger(rejected.registry, "toy").entries()]
    assert events == ["promote", "reject", "by hand", "hold"]

    promotion.force(rejected.registry, "override", "it is all that is left", judged)
    assert rejected.registry.champion("toy") == "2"
    drop_alias(rejected.registry)
    assert decided(rejected, "2").decision == "promote"  # a person has promoted it since


def test_a_new_version_is_promoted_alone_where_no_champion_is_left(
    rejected: Bench, published: Publish
) -> None:
    drop_version(rejected.registry, "1")
    assert decided(rejected, published("3")).decision == "promote"
    assert rejected.registry.champion("toy") == "3"


def test_a_champion_whose_alias_is_gone_may_come_back_by_a_person_alone(rejected: Bench) -> None:
    drop_alias(rejected.registry)
    assert decided(rejected, "1").decision == "promote"
    assert rejected.registry.champion("toy") is None
    ask_and_decide(rejected, "1", approved=True, person=True)
    assert rejected.registry.champion("toy") == "1"


def test_rollback_restores_an_alias_that_is_gone(
    tracking: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Versions(tracking)
    for number in ("1", "2"):
        promote(registry, number)
    drop_alias(registry)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    assert main.main(["rollback", "toy"]) == 0
    assert capsys.readouterr().out == "toy/2 is the champion again, its alias was gone\n"
    assert registry.champion("toy") == "2"
    assert promotion.rollback(registry, "toy").version == "1"
    assert history(registry) == [
        ("promote", "1", None),
        ("promote", "2", "1"),
        ("by hand", "", "2"),
        ("rollback", "2", None),
        ("rollback", "1", "2"),
    ]


def test_rollback_passes_over_versions_that_were_deleted(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "3", "4"):
        promote(registry, number)
    drop_version(registry, "3")
    assert promotion.rollback(registry, "toy").version == "2"
    drop_version(registry, "2")
    assert promotion.champion_of(registry, "toy") is None
    reason = Ledger(registry, "toy").entries()[-1].reason
    assert reason == "version 2, the champion, was deleted in MLflow itself: gate not asked"
    assert promotion.rollback(registry, "toy").version == "1"
    assert promotion.can_return(registry, "toy") == ["1"]
    with pytest.raises(UserError, match="toy/1: has no predecessor"):
        promotion.rollback(registry, "toy")


def test_rollback_without_any_champion_left_names_what_happened(tracking: str) -> None:
    registry = Versions(tracking)
    promote(registry, "1")
    drop_version(registry, "1")
    with pytest.raises(UserError) as caught:
        promotion.rollback(registry, "toy")
    told = str(caught.value)
    assert told.startswith("toy: has no champion to roll back from: version 1, the champion, was")
    assert "no earlier champion is left: bertline run toy, or bertline promote toy/VERSION" in told


def test_an_intent_for_a_version_that_was_deleted_blocks_nothing(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    registry = Versions(tracking)
    promote(registry, "1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Registry, "move", crash)
        promote(registry, "2")
    drop_version(registry, "2")
    assert promotion.champion_of(registry, "toy") == "1"
    promote(registry, "3")
    assert promotion.rollback(registry, "toy").version == "1"


def test_a_verdict_without_the_last_champion_is_overtaken(tracking: str) -> None:
    registry = Versions(tracking)
    promote(registry, "1")
    drop_alias(registry)
    with pytest.raises(promotion.Overtaken):
        promotion.decide(registry, verdict("2", None), approved=True)
    assert promotion.decide(registry, verdict("2", "1"), approved=True)
    assert registry.champion("toy") == "2"


@pytest.mark.parametrize("command", ["judge", "explain", "history", "predict"])
def test_commands_name_what_happened_to_the_champion_and_how_to_go_on(
    tracking: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    registry = Versions(tracking)
    promote(registry, "1")
    drop_alias(registry)
    settings: Any = SimpleNamespace()
    monkeypatch.setattr(versions, "_bench", lambda *_: settings)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    name = "toy@champion" if command in ("judge", "explain") else "toy"
    main.main([command, name, *["a text"] * (command == "predict")])
    told = "".join(capsys.readouterr())
    assert "the alias was taken away in MLflow itself" in told
    assert "bertline rollback toy restores toy/1" in told
