"""The gate as the flow and the command ask it: a recipe's rule, its rows, and what is kept."""

from pathlib import Path

from pipeline.core.config import read_task
from pipeline.core.errors import UserError
from pipeline.core.log import Log
from pipeline.core.workspace import DATA, STATE
from pipeline.promotion.champion import champion_of, force, need_reason
from pipeline.promotion.evidence import Bench, answers_page, ask, ask_and_decide, freeze_anew
from pipeline.promotion.summary import guardrails_table, paragraph
from pipeline.recipe import Recipe
from pipeline.registry.ledger import Ledger
from pipeline.registry.records import Decision, Event, Verdict
from pipeline.registry.versions import Registry

EXIT: dict[Decision, int] = {"promote": 0, "hold": 1, "reject": 1}


def bench_of(registry: Registry, recipe: str, settings: Recipe, log: Log) -> Bench:
    """Where a recipe's versions are judged."""
    return Bench(
        registry=registry,
        model=recipe,
        task=read_task(settings.task, f"recipes.{recipe}.task"),
        params=settings.gate,
        validate=DATA / recipe / "validate",
        cache=STATE / "answers",
        slices=settings.evaluate.slices,
        log=log,
    )


def decide(bench: Bench, number: str, *, person: bool, reason: str = "") -> tuple[Verdict, Event]:
    """Ask the gate and write down what it said. Returns the verdict and what came of it.

    Where the recipe asks for a person's approval, and for a version that a rollback or a hand has
    taken out of use, only a `person` promotes.
    """
    approved = person or not bench.params.approve
    verdict, entry = ask_and_decide(
        bench, number, approved=approved, person=person, reason=reason, pages=pages
    )
    verdict.write(verdict_path(bench.model))
    if entry:
        return verdict, entry.event
    if verdict.decision == "promote" and not in_use(bench, number):
        return verdict, "await"
    return verdict, verdict.decision


def overrule(bench: Bench, event: Event, number: str, reason: str) -> Verdict:
    """Promote on a person's word, `override` or `rebaseline`; what the gate says is kept beside.

    Raises UserError without a reason, for a version that is unfit, and for a rebaseline that does
    not reach the floors: that is what an override is for.
    """
    need_reason(bench.model, number, reason)
    anew = event == "rebaseline"
    verdict = ask(bench, number, rebaseline=anew, keep=not anew)
    if verdict.unfit or (anew and verdict.decision != "promote"):
        raise UserError(f"{bench.model}/{number}: {verdict.reason}")
    if anew:
        verdict = freeze_anew(bench, verdict)
    kept = [*pages(verdict), *answers_page(bench, verdict)]
    force(bench.registry, event, reason, verdict, kept)
    return verdict.write(verdict_path(bench.model))


def in_use(bench: Bench, number: str) -> bool:
    return champion_of(bench.registry, bench.model) == number


def was_judged(bench: Bench, number: str) -> bool:
    """True if the gate has ever been asked about a version: not where a hand made it champion."""
    entries = Ledger(bench.registry, bench.model).entries()
    return any(entry.version == number and entry.decision for entry in entries)


def pages(verdict: Verdict) -> list[tuple[str, str | bytes]]:
    """What is kept beside a verdict in the ledger."""
    from pipeline.promotion import figures

    found: list[tuple[str, str | bytes]] = [("verdict.md", page(verdict))]
    if verdict.comparisons:
        found.append(("verdict.png", figures.verdict(verdict)))
    return found


def page(verdict: Verdict) -> str:
    """A verdict as Markdown."""
    return (
        f"# {verdict.model}/{verdict.version}: {verdict.decision}\n\n{paragraph(verdict)}\n\n"
        f"{guardrails_table(verdict)}\n"
    )


def verdict_path(recipe: str) -> Path:
    return DATA / recipe / "gate" / "verdict.json"
