"""The champion's alias and its ledger. Both live in MLflow, where versions live.

Every move is written to the ledger first, as an intent, and settled once the alias has moved; an
intent that a crash left behind is carried out at the next look.
"""

import getpass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.adapters.mlflow import Registry
from pipeline.errors import UserError
from pipeline.log import Log, no_log
from pipeline.promotion.gate import Champion, GateParams, judge
from pipeline.records import Entry, Event, Validation, Verdict

MOVES = ("promote", "rollback")


def champion_of(registry: Registry, model: str) -> str | None:
    """The version in use, after carrying out what a crash left undone."""
    moves = [item for item in registry.entries(model) if item[1].event in MOVES]
    if moves and not moves[-1][2]:
        identity, entry, _ = moves[-1]
        registry.move(model, entry.version)
        registry.settle(identity)
    return registry.champion(model)


def ask_gate(
    registry: Registry,
    params: GateParams,
    model: str,
    number: str,
    validate: Path,
    *,
    log: Log = no_log,
) -> Verdict:
    """Let challenger and champion answer the same test rows, each as it is served, and judge."""
    import pandas as pd

    labels = Validation.read(validate / "validation.json").labels
    rows = pd.read_parquet(
        validate / "kept.parquet", columns=["text", "label"], filters=[("split", "==", "test")]
    )
    texts = rows["text"].tolist()
    old = champion_of(registry, model)
    log.say(f"{model}/{number} answers {len(texts):,} test rows")
    answers = registry.answers(model, number, texts)
    rival = Champion(number, answers) if old == number else None
    if old is not None and old != number:
        log.say(f"champion {model}/{old} answers the same rows")
        rival = Champion(old, registry.answers(model, old, texts))
    return judge(params, number, labels, rows["label"].tolist(), answers, rival)


def decide(registry: Registry, model: str, number: str, verdict: Verdict) -> Entry | None:
    """Write a verdict to the ledger and make the version the champion where it says so.

    The same verdict on the same version is written once.
    """
    if verdict.decision == "promote":
        return promote(registry, model, number, verdict.reason)
    past = [entry for _, entry, _ in registry.entries(model) if entry.version == number]
    if past and (past[-1].event, past[-1].reason) == (verdict.decision, verdict.reason):
        return None
    entry = _entry(registry, verdict.decision, model, number, verdict.reason)
    registry.settle(registry.append(entry))
    return entry


def promote(registry: Registry, model: str, number: str, reason: str) -> Entry:
    """Make a version the champion: ledger first, then the alias."""
    return _move(registry, "promote", model, number, reason)


def rollback(registry: Registry, model: str, reason: str = "asked for") -> Entry:
    """Make the champion's predecessor the champion again.

    Raises UserError where there is none.
    """
    if champion_of(registry, model) is None:
        raise UserError(f"{model}: has no champion to roll back from")
    lived: list[str] = []
    for _, entry, _ in registry.entries(model):
        if entry.event == "promote" and lived[-1:] != [entry.version]:
            lived.append(entry.version)
        elif entry.event == "rollback" and lived:
            lived.pop()
    if len(lived) < 2:
        raise UserError(f"{model}/{lived[-1] if lived else '?'}: has no predecessor to return to")
    return _move(registry, "rollback", model, lived[-2], reason)


def _move(registry: Registry, event: Event, model: str, number: str, reason: str) -> Entry:
    entry = _entry(registry, event, model, number, reason)
    identity = registry.append(entry)
    registry.move(model, number)
    registry.settle(identity)
    return entry


def _entry(registry: Registry, event: Event, model: str, number: str, reason: str) -> Entry:
    return Entry(
        event=event,
        model=model,
        version=number,
        previous=champion_of(registry, model),
        who=getpass.getuser(),
        when=datetime.now(UTC).isoformat(timespec="microseconds"),
        reason=reason,
        lineage=registry.version_tags(model, number).get("bertline.lineage", ""),
    )
