"""The gate for the flow and the command: its inputs from a recipe, and the files of a verdict."""

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
    """Ask the gate and record its verdict. Returns the verdict and the resulting event.

    Only a `person` promotes if the recipe requires approval, and if a rollback or a manual change
    of the alias has taken the version out of use.
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
    """Promote by a person's decision, `override` or `rebaseline`; the gate's verdict is recorded.

    Raises UserError without a reason, for an unfit version, and for a rebaseline below the floors,
    which needs an override.
    """
    need_reason(bench.model, number, reason)
    rebaseline = event == "rebaseline"
    verdict = ask(bench, number, rebaseline=rebaseline, keep=not rebaseline)
    if verdict.unfit or (rebaseline and verdict.decision != "promote"):
        raise UserError(f"{bench.model}/{number}: {verdict.reason}")
    if rebaseline:
        verdict = freeze_anew(bench, verdict)
    artifacts = [*pages(verdict), *answers_page(bench, verdict)]
    force(bench.registry, event, reason, verdict, artifacts)
    return verdict.write(verdict_path(bench.model))


def in_use(bench: Bench, number: str) -> bool:
    return champion_of(bench.registry, bench.model) == number


def was_judged(bench: Bench, number: str) -> bool:
    """True if the gate has judged a version: False if someone only moved the alias to it."""
    entries = Ledger(bench.registry, bench.model).entries()
    return any(entry.version == number and entry.decision for entry in entries)


def pages(verdict: Verdict) -> list[tuple[str, str | bytes]]:
    """Return the files that the ledger keeps with a verdict."""
    from pipeline.promotion import figures

    files: list[tuple[str, str | bytes]] = [("verdict.md", page(verdict))]
    if verdict.comparisons:
        files.append(("verdict.png", figures.verdict(verdict)))
    return files


def page(verdict: Verdict) -> str:
    """Format a verdict as Markdown."""
    return (
        f"# {verdict.model}/{verdict.version}: {verdict.decision}\n\n{paragraph(verdict)}\n\n"
        f"{guardrails_table(verdict)}\n"
    )


def verdict_path(recipe: str) -> Path:
    return DATA / recipe / "gate" / "verdict.json"
