"""The champion's alias and its ledger. Both live in MLflow, where versions live.

Every move is written to the ledger first, as an intent, and settled once the alias has moved; an
intent that a crash left behind is carried out at the next look. An alias that stands elsewhere than
the ledger says was moved by hand: that is written down, and stands. All of it happens under one
lock a model, which the tracking server keeps, so it holds across machines.
"""

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.core.errors import UserError
from pipeline.registry.ledger import Ledger, Pages
from pipeline.registry.records import Entry, Event, Reign, Verdict
from pipeline.registry.versions import Registry


class Overtaken(Exception):  # noqa: N818 - not an error: the verdict is asked for again
    """Another champion, or another question, came in while a version was being judged."""


def champion_of(registry: Registry, model: str) -> str | None:
    """The version in use, after carrying out what a crash left undone and writing down what a hand
    has moved."""
    with Ledger(registry, model).lock():
        return _champion(registry, model)


def _champion(registry: Registry, model: str) -> str | None:
    """Under the lock."""
    ledger, found = Ledger(registry, model), registry.champion(model)
    moves = [written for written in ledger.written() if written.entry.moves]
    if not moves:
        if found is not None:
            _write_hand(registry, model, found, None)
        return found
    run, last, settled = moves[-1]
    if not settled:
        if last.event != "by hand":  # the hand has moved the alias already
            registry.move(model, last.version)
            found = last.version
        ledger.settle(run)
    if found != (last.version or None):
        _write_hand(registry, model, found, last.version or None)
    return found


def _write_hand(registry: Registry, model: str, found: str | None, before: str | None) -> None:
    ledger, what = Ledger(registry, model), "moved" if found else "taken away"
    entry = Entry(
        number=_next(ledger),
        event="by hand",
        model=model,
        version=found or "",
        previous=before,
        who="unknown",
        when=_now(),
        reason=f"the alias was {what} in MLflow itself: gate not asked",
        lineage=registry.version_tags(model, found).get("bertline.lineage", "") if found else "",
    )
    ledger.settle(ledger.append(entry))


def decide(
    registry: Registry,
    verdict: Verdict,
    *,
    approved: bool,
    person: bool = False,
    reason: str = "",
    pages: Pages = (),
) -> Entry | None:
    """Write a verdict to the ledger and make its version the champion where it says so.

    The same verdict on the same evidence is written once, and again where a `person` asks and it
    moves the alias. `approved` says that nobody need be asked any more, but for a version that a
    rollback or a hand has taken out of use: only a person brings that back. `reason` is what the
    person said; `pages` are kept with the entry, by file name. Raises Overtaken where the champion
    is another than the one that was judged against.
    """
    model, number = verdict.model, verdict.version
    with Ledger(registry, model).lock():
        champion = _champion(registry, model)
        entries = Ledger(registry, model).entries()
        if champion not in (verdict.champion, number) or any(
            _same_question(e, verdict) for e in entries
        ):
            raise Overtaken
        event: Event = verdict.decision
        if event == "promote" and not person and (not approved or _put_back(entries, number)):
            event = "await"
        past = [entry for entry in entries if entry.version == number and entry.decision]
        told = f"{verdict.reason}; {reason}" if reason else verdict.reason
        if past and past[-1].evidence == verdict.evidence:
            again = person and event == "promote" and champion != number
            written = [event, "promote"] if event == "await" else [event]
            if past[-1].event in written and not again:
                return None
        if verdict.decision == "promote" and champion == number and past:
            return None
        entry = _entry(registry, event, model, number, champion, told)
        return _write_judged(registry, entry, verdict, pages)


def _put_back(entries: Sequence[Entry], number: str) -> bool:
    """Whether it was a rollback or a hand that took a version out of use, the last time."""
    after = [e.event for e in entries if e.moves and e.previous == number != e.version]
    return after[-1:] in (["rollback"], ["by hand"])


def _same_question(entry: Entry, verdict: Verdict) -> bool:
    """True if an entry has spent what a verdict on other evidence was going to spend."""
    return bool(
        verdict.question
        and (entry.epoch, entry.question) == (verdict.epoch, verdict.question)
        and entry.evidence != verdict.evidence
    )


def force(
    registry: Registry, event: Event, reason: str, verdict: Verdict, pages: Pages = ()
) -> Entry:
    """A person's own decision, `override` or `rebaseline`, with the reason and what the gate said.

    Raises UserError without a reason.
    """
    model, number = verdict.model, verdict.version
    need_reason(model, number, reason)
    with Ledger(registry, model).lock():
        champion = _champion(registry, model)
        entry = _entry(registry, event, model, number, champion, reason)
        return _write_judged(registry, entry, verdict, pages)


def need_reason(model: str, number: str, reason: str) -> None:
    """Raises UserError where a person gives none."""
    if not reason.strip():
        raise UserError(f"{model}/{number}: write why: --reason TEXT goes into the ledger")


def rollback(registry: Registry, model: str, reason: str = "asked for") -> Entry:
    """Make the champion's predecessor the champion again.

    Raises UserError where there is none.
    """
    with Ledger(registry, model).lock():
        champion = _champion(registry, model)
        if champion is None:
            raise UserError(f"{model}: has no champion to roll back from")
        lived = _lived(Ledger(registry, model).entries())
        if len(lived) < 2:
            raise UserError(f"{model}/{champion}: has no predecessor to return to")
        return _write(registry, _entry(registry, "rollback", model, lived[-2], champion, reason))


def can_return(registry: Registry, model: str) -> list[str]:
    """The versions that rolling back, again and again, would bring back; the champion is last."""
    return _lived(Ledger(registry, model).entries())


def _lived(entries: Sequence[Entry]) -> list[str]:
    lived: list[str] = []
    for entry in entries:
        if entry.event == "rollback":
            del lived[-1:]
        elif entry.moves and entry.version and lived[-1:] != [entry.version]:
            lived.append(entry.version)
    return lived


def reigns(entries: Sequence[Entry]) -> list[Reign]:
    """What was in use when, oldest first."""
    found: list[Reign] = []
    moves = [entry for entry in entries if entry.moves]
    for place, entry in enumerate(moves):
        after = moves[place + 1] if place + 1 < len(moves) else None
        if entry.version:
            found.append(
                Reign(
                    version=entry.version,
                    since=entry.when,
                    until=after.when if after else None,
                    how=entry.event,
                    reason=entry.reason,
                    ended=after.event if after else None,
                )
            )
    return found


def _entry(
    registry: Registry, event: Event, model: str, number: str, champion: str | None, reason: str
) -> Entry:
    """The ledger's next entry: of a version, by whoever runs this. Under the lock."""
    return Entry(
        number=_next(Ledger(registry, model)),
        event=event,
        model=model,
        version=number,
        previous=champion,
        who=getpass.getuser(),
        when=_now(),
        reason=reason,
        lineage=registry.version_tags(model, number).get("bertline.lineage", ""),
    )


def _write_judged(registry: Registry, entry: Entry, verdict: Verdict, pages: Pages) -> Entry:
    """Write an entry with what the gate said, and the whole verdict beside it."""
    said = ("decision", "epoch", "question", "evidence")
    judged = entry.model_copy(update={name: getattr(verdict, name) for name in said})
    page = ("verdict.json", verdict.model_dump_json(indent=2))
    return _write(registry, judged, [page, *pages])


def _write(registry: Registry, entry: Entry, pages: Pages = ()) -> Entry:
    """Ledger first, then the alias. Under the lock."""
    ledger = Ledger(registry, entry.model)
    run = ledger.append(entry, pages)
    if entry.moves:
        registry.move(entry.model, entry.version)
    ledger.settle(run)
    return entry


def _next(ledger: Ledger) -> int:
    return max((entry.number for entry in ledger.entries()), default=0) + 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
