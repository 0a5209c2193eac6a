"""Text of `bertline explain`: the inputs, scores and history of a version.

All of it is read from MLflow, where `publish` has written it, so it needs nothing of the folder in
which the version was made.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from flows.summary import runtime_rows, score_rows, table, validation_text
from pipeline.core.errors import UserError
from pipeline.core.records import Benchmark, Fit, Intake, Record, Scores, Validation
from pipeline.promotion.champion import champion_of, no_champion, reigns
from pipeline.promotion.summary import paragraph
from pipeline.registry.artifacts import LOCK
from pipeline.registry.ledger import Ledger, Written
from pipeline.registry.records import Entry, Verdict
from pipeline.registry.tags import MODEL_TAG, RUNTIME_TAG, WEIGHTS_TAG
from pipeline.registry.versions import Registry

R = TypeVar("R", bound=Record)
SHOWN = 12  # hexadecimal digits of a file's digest


def explain(registry: Registry, model: str, number: str | None) -> str:
    """Return a text with the sources, recipe, code, scores, runtimes, verdict and history of a
    version; `number` None takes the champion. The digest of every served file is checked."""
    champion = champion_of(registry, model)
    number = number or champion
    if number is None:
        raise UserError(no_champion(registry, model, "name a version, or "))
    tags = registry.version_tags(model, number)
    ledger = Ledger(registry, model).written()
    lines = [f"{model}/{number}, {'in use' if number == champion else 'not in use'}"]
    lines += _named(
        {
            "lineage": tags.get("bertline.lineage"),
            "served": f"{tags.get(RUNTIME_TAG)}, sha256 {tags.get(MODEL_TAG)}",
            "weights": f"sha256 {tags.get(WEIGHTS_TAG)}",
            "run": tags["run"],
        }
    )
    damage = registry.damage(model, number)
    served = {} if damage else registry.files(model, number) or {}
    intact = f"{len(served)} files served, each as it was registered"
    lines += [f"  files    {each}" for each in damage or [intact]]
    lines += _history(model, number, [written.entry for written in ledger])
    lines += _verdict(registry, number, ledger)
    lines += _made_of(registry, tags["run"])
    return "\n".join(lines)


def _named(facts: dict[str, str | None]) -> list[str]:
    return [f"  {name:<9}{value}" for name, value in facts.items()]


def _history(model: str, number: str, entries: list[Entry]) -> Iterator[str]:
    yield "\nin use"
    periods = [reign for reign in reigns(entries) if reign.version == number]
    for reign in periods:
        until = f"until {reign.until[:19]}Z ({reign.ended})" if reign.until else "until now"
        yield f"  {reign.since[:19]}Z {until}, by {reign.how}"
    if not periods:
        yield "  never"
    yield "ledger"
    own_entries = [entry for entry in entries if number in (entry.version, entry.previous)]
    for entry in own_entries:
        place = f" (champion {model}/{entry.previous})" if entry.previous else ""
        yield (
            f"  {entry.number:>3} {entry.when[:19]}Z  {entry.who}: {entry.event}"
            f" {model}/{entry.version}{place}: {entry.reason}"
        )
    if not own_entries:
        yield "  nothing: the gate was not asked"


def _verdict(registry: Registry, number: str, ledger: list[Written]) -> Iterator[str]:
    judged = [run for run, entry, _ in ledger if entry.version == number and entry.decision]
    if judged:
        verdict = Verdict.read(registry.artifact(judged[-1], "verdict.json"))
        yield f"\nverdict\n  {paragraph(verdict)}"
        yield from (f"  {name} sha256 {value}" for name, value in verdict.evidence.items())


def _made_of(registry: Registry, run: str) -> Iterator[str]:
    params, _, _ = registry.run_facts(run)
    missing: list[str] = []

    def read(kind: type[R], path: str) -> R | None:
        try:
            found = registry.artifact(run, path)
        except UserError:
            missing.append(f"{path}: is not in the run any more")
            return None
        try:
            return kind.read(found)
        except UserError:
            missing.append(f"{path}: has the format of another version: see run {run}")
            return None

    yield "\ndata"
    if intake := read(Intake, "records/intake.json"):
        yield f"  {intake.source}, {intake.rows:,} rows, sha256 {intake.rows_sha256}"
    if validation := read(Validation, "validation/validation.json"):
        yield from (f"  {line}" for line in validation_text(validation).splitlines())
    yield "\ntraining"
    if fit := read(Fit, "records/fit.json"):
        mean = ", head on the mean of the tokens" if fit.pooling == "mean" else ""
        yield (
            f"  {fit.base}, {fit.parameters / 1e6:.1f} M parameters{mean}, {fit.steps:,} steps,"
            f" {fit.epochs:.1f} epochs, {fit.precision} on {fit.device}; best {fit.best_metric}"
            f" {fit.best_value:.4f} at step {fit.best_step:,}"
        )
    yield f"  curves: training.* and validation.* of run {run} in MLflow"
    if scores := read(Scores, "records/scores.json"):
        yield f"\nscores on {scores.test.rows:,} test rows (95 % intervals)"
        yield from table(score_rows(scores))
    if runtimes := read(Benchmark, "records/benchmark.json"):
        yield f"\nruntimes on {runtimes.machine.processor}"
        yield from table(runtime_rows(runtimes))
        versions = runtimes.machine.versions.items()
        yield "  installed: " + ", ".join(f"{name} {version}" for name, version in versions)
    yield "\ncode and inputs (from dvc.lock)"
    yield from _lock(registry, run, missing)
    yield "\nrecipe"
    yield from (f"  {name}: {value}" for name, value in sorted(params.items()))
    yield from (f"  {each}" for each in missing)


def _lock(registry: Registry, run: str, missing: list[str]) -> Iterator[str]:
    """Yield each file that a stage read, once, with its digest."""
    try:
        path: Path = registry.artifact(run, LOCK)
    except UserError:
        missing.append(f"{LOCK}: is not in the run any more")
        return
    stages = json.loads(path.read_text(encoding="utf-8"))
    read = {
        dep["path"]: dep["md5"]
        for stage in stages.values()
        for dep in stage.get("deps", [])
        if not dep["path"].startswith("data/")
        or dep["path"].startswith(("data/raw/", "data/labels"))
    }
    yield from (f"  {path:<46} md5 {digest[:SHOWN]}" for path, digest in sorted(read.items()))
