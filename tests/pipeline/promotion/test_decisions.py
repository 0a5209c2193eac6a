"""Decisions on a verdict: written once, approved or overruled by a person, overtaken."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import gate
from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.promotion import champion as promotion
from pipeline.promotion import evidence
from pipeline.promotion.evidence import Bench
from pipeline.registry.ledger import Ledger
from pipeline.registry.records import Verdict
from tests.pipeline.promotion.toys import history, promote, verdict
from tests.pipeline.registry.toys import Versions


def test_a_verdict_is_in_the_ledger_once_with_its_pages(tracking: str) -> None:
    registry = Versions(tracking)
    promote(registry, "1")
    held = verdict("2", "1", "hold")
    for _ in range(2):
        promotion.decide(registry, held, approved=True, pages=[("verdict.md", "# held")])
    assert registry.champion("toy") == "1"
    assert history(registry) == [("promote", "1", None), ("hold", "2", "1")]
    identity = Ledger(registry, "toy").written()[-1][0]
    assert registry.artifact(identity, "verdict.md").read_text() == "# held"
    assert Verdict.read(registry.artifact(identity, "verdict.json")) == held
    with pytest.raises(UserError, match="no predecessor"):
        promotion.rollback(registry, "toy")


def test_where_a_person_has_to_agree_the_gate_alone_moves_nothing(tracking: str) -> None:
    registry = Versions(tracking)
    judged = verdict("1", None)
    waiting = promotion.decide(registry, judged, approved=False)
    assert waiting is not None
    assert (waiting.event, registry.champion("toy")) == ("await", None)
    agreed = promotion.decide(registry, judged, approved=True, reason="looked at it")
    assert agreed is not None
    assert agreed.reason == "reason 1; looked at it"
    assert registry.champion("toy") == "1"
    assert history(registry) == [("await", "1", None), ("promote", "1", None)]


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_a_person_took_out_of_use_only_a_person_brings_back(
    tracking: str, by_hand: bool
) -> None:
    registry = Versions(tracking)
    for number in ("1", "2"):
        promote(registry, number)
    if by_hand:
        registry.move("toy", "1")
        promotion.champion_of(registry, "toy")
    else:
        promotion.rollback(registry, "toy")
    judged = verdict("2", "1")
    before = history(registry)
    for approved in (True, False):
        assert promotion.decide(registry, judged, approved=approved) is None
    assert (registry.champion("toy"), history(registry)) == ("1", before)

    later = verdict("2", "1", evidence={"challenger": "2", "champion": "1", "rows": "new"})
    for _ in range(2):  # the gate says so on new rows: that is written, once, and waits
        promotion.decide(registry, later, approved=True)
    assert (registry.champion("toy"), history(registry)) == ("1", [*before, ("await", "2", "1")])

    again = promotion.decide(registry, judged, approved=True, person=True, reason="it was the data")
    assert again is not None
    assert (again.event, again.reason) == ("promote", "reason 2; it was the data")
    assert registry.champion("toy") == "2"
    assert promotion.decide(registry, judged, approved=True, person=True) is None
    assert history(registry) == [*before, ("await", "2", "1"), ("promote", "2", "1")]
    assert promotion.rollback(registry, "toy").version == "1"


def test_after_a_rollback_a_run_waits_and_promote_does_what_it_says(
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from flows.cli import main
    from flows.cli.commands import versions

    registry = Versions(tracking)
    params: Any = SimpleNamespace(approve=False)
    bench = Bench(registry, "toy", tasks.get("classification"), params, tmp_path, tmp_path)

    def ask(_: Bench, number: str) -> Verdict:
        return verdict(number, "1" if number == "2" else None)

    monkeypatch.setattr(evidence, "ask", ask)
    monkeypatch.setattr(evidence, "answers_page", lambda *_: [])
    monkeypatch.setattr(versions, "_bench", lambda *_: bench)
    for number in ("1", "2"):
        assert gate.decide(bench, number, person=False)[1] == "promote"
    promotion.rollback(registry, "toy")
    for _ in range(2):
        assert gate.decide(bench, "2", person=False)[1] == "await"
    assert registry.champion("toy") == "1"
    assert main.main(["promote", "toy/2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["promote: reason 2", "toy/2 is the champion"]
    assert registry.champion("toy") == "2"
    events = [(event, number) for event, number, _ in history(registry)]
    assert events == [("promote", "1"), ("promote", "2"), ("rollback", "1"), ("promote", "2")]


def test_a_person_against_the_gate_gives_the_reason(tracking: str) -> None:
    registry = Versions(tracking)
    judged = verdict("1", None, "reject")
    with pytest.raises(UserError, match="toy/1: give a reason for the ledger: --reason TEXT"):
        promotion.force(registry, "override", " ", judged)
    entry = promotion.force(registry, "override", "the old one leaks names", judged)
    assert (entry.decision, entry.reason) == ("reject", "the old one leaks names")
    assert registry.champion("toy") == "1"


def test_a_verdict_that_was_overtaken_is_not_carried_out(tracking: str) -> None:
    registry = Versions(tracking)
    promote(registry, "1")
    against_none = verdict("2", None)
    with pytest.raises(promotion.Overtaken):
        promotion.decide(registry, against_none, approved=True)
    spent = verdict("2", "1", "hold", question=1)
    promotion.decide(registry, spent, approved=True)
    same_question = verdict("3", "1", "hold", question=1)
    with pytest.raises(promotion.Overtaken):
        promotion.decide(registry, same_question, approved=True)
