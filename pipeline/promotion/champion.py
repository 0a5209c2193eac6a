"""The champion's alias and its ledger. Both live in MLflow, where versions live.

Every move is written to the ledger first, as an intent, and settled once the alias has moved. If a
crash leaves an intent, the next call carries it out. If the alias is not where the ledger says, it
was moved by hand: that is added to the ledger, and the alias stays. If a hand has taken the alias
away, no version is in use, but the ledger still knows the last champion: new versions are judged
against it, and a rollback restores it. Each model has one lock, which the tracking server holds, so
it works across machines.
"""

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest

from pipeline.core.errors import UserError
from pipeline.registry.ledger import Ledger, Pages
from pipeline.registry.records import Entry, Event, Reign, Verdict
from pipeline.registry.tags import LINEAGE_TAG
from pipeline.registry.versions import Registry


class Overtaken(Exception):  # noqa: N818 - not an error: the caller judges again
    """Another champion or another question came in while a version was judged."""


def champion_of(registry: Registry, model: str) -> str | None:
    """Return the version in use, after finishing interrupted moves and recording moves by hand."""
    ledger = Ledger(registry, model)
    with ledger.lock():
        return _champion(ledger)


def _champion(ledger: Ledger) -> str | None:
    """The same for a caller that holds the lock."""
    registry, model = ledger.registry, ledger.model
    found = registry.champion(model)
    moves = [written for written in ledger.written() if written.entry.moves]
    expected = None
    if moves:
        run, last, settled = moves[-1]
        if not settled:
            # the alias of a move by hand has moved already
            if last.event != "by hand" and registry.exists(model, last.version):
                registry.move(model, last.version)
                found = last.version
            ledger.settle(run)
        expected = last.version or None
    if found != expected:
        reason = f"{_hand(registry, model, found, expected)} in MLflow itself: gate not asked"
        entry = _entry(ledger, "by hand", found or "", expected, reason, who="unknown")
        ledger.settle(ledger.append(entry))
    return found


def _hand(registry: Registry, model: str, found: str | None, expected: str | None) -> str:
    """Return what a hand has done to the alias."""
    if found:
        return "the alias was moved"
    if expected and not registry.exists(model, expected):
        return f"version {expected}, the champion, was deleted"
    return "the alias was taken away"


def rival_of(registry: Registry, model: str) -> str | None:
    """Return the version that others are judged against: the champion or, if its alias was taken
    away, the last champion of the ledger that still exists. None if there is none."""
    ledger = Ledger(registry, model)
    with ledger.lock():
        return _rival(ledger, _champion(ledger))


def _rival(ledger: Ledger, champion: str | None) -> str | None:
    """The same for a caller that holds the lock and knows the champion."""
    if champion:
        return champion
    return next(iter(_standing(ledger)[::-1]), None)


def no_champion(registry: Registry, model: str, first: str = "") -> str:
    """Return why a model has no champion, and how to go on: a message for a UserError. `first`
    stands before the advice to run a recipe that has none yet."""
    if not any(entry.moves for entry in Ledger(registry, model).entries()):
        return f"{model}: has no champion yet: {first}bertline run {model}"
    champion_of(registry, model)  # which writes down what a hand has done
    return f"{model}: has no champion: {lost(registry, model)}"


def lost(registry: Registry, model: str) -> str:
    """Return what happened to the alias, which a hand has taken away, and how to go on."""
    ledger = Ledger(registry, model)
    last = [entry for entry in ledger.entries() if entry.moves][-1]
    told = f"{last.reason.partition(':')[0]}, found {last.when[:16].replace('T', ' ')}"
    if standing := _standing(ledger):
        return f"{told}: bertline rollback {model} restores {model}/{standing[-1]}"
    return (
        f"{told}, and no earlier champion is left: bertline run {model}, or bertline promote"
        f" {model}/VERSION --override --reason TEXT"
    )


def decide(
    registry: Registry,
    verdict: Verdict,
    *,
    approved: bool,
    person: bool = False,
    reason: str = "",
    pages: Pages = (),
) -> Entry | None:
    """Write a verdict to the ledger and make its version the champion if the verdict says so.

    The same verdict on the same evidence is written once, and again if a `person` asks and it moves
    the alias. `approved` means that no approval is needed, except for a version that a rollback or
    a move by hand has taken out of use: only a person brings that back. `reason` is the person's;
    `pages` are stored with the entry, by file name. Raises Overtaken if the champion is not the one
    that the version was judged against.
    """
    model, number = verdict.model, verdict.version
    ledger = Ledger(registry, model)
    with ledger.lock():
        champion = _champion(ledger)
        entries = ledger.entries()
        if _rival(ledger, champion) not in (verdict.champion, number) or any(
            _same_question(e, verdict) for e in entries
        ):
            raise Overtaken
        event: Event = verdict.decision
        if event == "promote" and not person and (not approved or _withdrawn(entries, number)):
            event = "await"
        past = [entry for entry in entries if entry.version == number and entry.decision]
        reason = f"{verdict.reason}; {reason}" if reason else verdict.reason
        if past and past[-1].evidence == verdict.evidence:
            again = person and event == "promote" and champion != number
            written = [event, "promote"] if event == "await" else [event]
            if past[-1].event in written and not again:
                return None
        if verdict.decision == "promote" and champion == number and past:
            return None
        entry = _entry(ledger, event, number, champion, reason)
        return _write_judged(ledger, entry, verdict, pages)


def _withdrawn(entries: Sequence[Entry], number: str) -> bool:
    """True if the last replacement of a version was a rollback or a move by hand."""
    after = [e.event for e in entries if e.moves and e.previous == number != e.version]
    return after[-1:] in (["rollback"], ["by hand"])


def _same_question(entry: Entry, verdict: Verdict) -> bool:
    """True if an entry on other evidence has used up the question of a verdict."""
    return bool(
        verdict.question
        and (entry.epoch, entry.question) == (verdict.epoch, verdict.question)
        and entry.evidence != verdict.evidence
    )


def hold_rejected(verdict: Verdict, entries: Sequence[Entry]) -> Verdict:
    """Hold a version that would be promoted for want of a rival if it was rejected against one, and
    nobody has promoted it since."""
    own = [entry for entry in entries if entry.version == verdict.version]
    compared = [entry for entry in own if entry.moves or "champion" in entry.evidence]
    if verdict.decision != "promote" or not compared or compared[-1].event != "reject":
        return verdict
    last = compared[-1]
    reason = (
        f"it was rejected on {last.when[:10]} against a champion that is gone ({last.reason}): that"
        f" no rival is left is no reason to promote it: train another version, or bertline promote"
        f" {verdict.model}/{verdict.version} --override --reason TEXT"
    )
    return verdict.model_copy(update={"decision": "hold", "reason": reason})


def force(
    registry: Registry, event: Event, reason: str, verdict: Verdict, pages: Pages = ()
) -> Entry:
    """Carry out a person's own decision, `override` or `rebaseline`, and store reason and verdict.

    Raises UserError without a reason.
    """
    model, number = verdict.model, verdict.version
    need_reason(model, number, reason)
    ledger = Ledger(registry, model)
    with ledger.lock():
        entry = _entry(ledger, event, number, _champion(ledger), reason)
        return _write_judged(ledger, entry, verdict, pages)


def need_reason(model: str, number: str, reason: str) -> None:
    """Raise UserError if a person's reason is empty."""
    if not reason.strip():
        raise UserError(f"{model}/{number}: give a reason for the ledger: --reason TEXT")


def rollback(registry: Registry, model: str, reason: str = "asked for") -> Entry:
    """Make the champion's predecessor the champion again or, if the alias was taken away by hand,
    the last champion. Versions that were deleted are passed over.

    Raises UserError if there is none.
    """
    ledger = Ledger(registry, model)
    with ledger.lock():
        champion = _champion(ledger)
        standing = [number for number in _standing(ledger) if number != champion]
        if not standing and champion is None:
            moved = any(entry.moves for entry in ledger.entries())
            why = f": {lost(registry, model)}" if moved else ""
            raise UserError(f"{model}: has no champion to roll back from{why}")
        if not standing:
            raise UserError(f"{model}/{champion}: has no predecessor to return to")
        return _write(ledger, _entry(ledger, "rollback", standing[-1], champion, reason))


def can_return(registry: Registry, model: str) -> list[str]:
    """Versions that repeated rollbacks would bring back, oldest first; the champion is the last."""
    return _standing(Ledger(registry, model))


def _standing(ledger: Ledger) -> list[str]:
    """The same of a ledger: without versions that were deleted."""
    exists = ledger.registry.exists
    return [each for each in _rollback_versions(ledger.entries()) if exists(ledger.model, each)]


def _rollback_versions(entries: Sequence[Entry]) -> list[str]:
    versions: list[str] = []
    for entry in entries:
        if entry.event == "rollback":
            if entry.previous:  # else it restores the last champion
                del versions[-1:]
            while versions and versions[-1] != entry.version:  # passed over: deleted
                del versions[-1:]
        elif entry.moves and entry.version and versions[-1:] != [entry.version]:
            versions.append(entry.version)
    return versions


def reigns(entries: Sequence[Entry]) -> list[Reign]:
    """Periods in which each version was the champion, oldest first."""
    moves = [entry for entry in entries if entry.moves]
    return [
        Reign(
            version=entry.version,
            since=entry.when,
            until=after.when if after else None,
            how=entry.event,
            reason=entry.reason,
            ended=after.event if after else None,
        )
        for entry, after in zip_longest(moves, moves[1:])
        if entry.version
    ]


def _entry(
    ledger: Ledger,
    event: Event,
    number: str,
    champion: str | None,
    reason: str,
    who: str | None = None,
) -> Entry:
    """Next entry of the ledger, by default of the current user. The caller holds the lock."""
    tags = ledger.registry.version_tags(ledger.model, number) if number else {}
    return Entry(
        number=max((entry.number for entry in ledger.entries()), default=0) + 1,
        event=event,
        model=ledger.model,
        version=number,
        previous=champion,
        who=who or getpass.getuser(),
        when=datetime.now(UTC).isoformat(timespec="microseconds"),
        reason=reason,
        lineage=tags.get(LINEAGE_TAG, ""),
    )


def _write_judged(ledger: Ledger, entry: Entry, verdict: Verdict, pages: Pages) -> Entry:
    """Write an entry with the result of the gate, and the complete verdict as a file."""
    copied = ("decision", "epoch", "question", "evidence")
    judged = entry.model_copy(update={name: getattr(verdict, name) for name in copied})
    page = ("verdict.json", verdict.model_dump_json(indent=2))
    return _write(ledger, judged, [page, *pages])


def _write(ledger: Ledger, entry: Entry, pages: Pages = ()) -> Entry:
    """Write an entry, then move the alias. The caller holds the lock."""
    run = ledger.append(entry, pages)
    if entry.moves:
        ledger.registry.move(entry.model, entry.version)
    ledger.settle(run)
    return entry
