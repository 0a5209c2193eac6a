"""Summary of a run as lines of text."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.records import (
    Benchmark,
    Fit,
    Interval,
    Lengths,
    Publication,
    Scores,
    Validation,
)
from pipeline.metrics import names as words
from pipeline.registry.records import Verdict


def summary(recipe: str, home: Path, tracking: str, champion: str | None) -> str:
    """Return the summary of a run from the records in `home`; `champion` is the current one."""
    validation = Validation.read(home / "validate" / "validation.json")
    lengths = Lengths.read(home / "tokenize" / "lengths.json")
    fit = Fit.read(home / "finetune" / "fit.json")
    scores = Scores.read(home / "evaluate" / "scores.json")
    runtimes = Benchmark.read(home / "benchmark" / "benchmark.json")
    publication = Publication.read(home / "publish" / "publication.json")
    verdict = Verdict.read(home / "gate" / "verdict.json")
    lines = [f"\n{recipe}, lineage {publication.lineage[:12]}", "", "data"]
    lines += [f"  {line}" for line in validation_text(validation).splitlines()]
    lines += [f"  {line}" for line in base_lines(lengths, fit)]
    lines += ["", f"scores on {scores.test.rows:,} test rows (95 % intervals)"]
    lines += table(score_rows(scores))
    if scores.behaviour:
        broken = sum(not test.passed for test in scores.behaviour)
        lines += ["", f"behaviour: {broken} of {len(scores.behaviour)} tests fail"]
        lines += table(behaviour_rows(scores))
        lines.append(f"  every case that failed: {home / 'evaluate' / 'behaviour.csv'}")
    lines += ["", runtime_line(runtimes)]
    lines += table(runtime_rows(runtimes))
    for candidate in runtimes.candidates:
        lines.append(f"  {candidate.name}: {candidate.verdict}")
    lines += ["", *verdict_lines(verdict, champion)]
    lines += [
        "",
        "where to look next",
        f"  {home / 'report' / 'report.html'}: all of this, with pictures, in one file",
        f'  bertline predict {recipe} "a text of yours"',
        f"  bertline explain {recipe}/{publication.version}",
        f"  make ui              runs, plots, card and report in MLflow ({tracking})",
        f"  {home / 'evaluate' / 'pictures'}/ and {home / 'evaluate' / 'mistakes.csv'}",
        f"  {home / 'validate' / 'report.csv'}: every row that a rule flagged",
    ]
    return "\n".join(lines)


def verdict_lines(verdict: Verdict, champion: str | None) -> list[str]:
    """Return the verdict, and the command for a person if it needs approval."""
    name = f"{verdict.model}/{verdict.version}"
    lines = [f"verdict on {name}: {verdict.decision}: {verdict.reason}"]
    if verdict.decision == "promote" and verdict.version != champion:
        lines.append(f"  it awaits a person: bertline promote {name} --reason TEXT")
    return lines


def validation_text(validation: Validation) -> str:
    """Return the counts of rows read, kept and set aside by each rule, and notes on classes."""
    text = (
        f"{validation.rows:,} rows read, {validation.kept:,} kept,"
        f" {validation.quarantined:,} set aside"
    )
    for rule, rows in validation.quarantined_by_rule.items():
        text += f"\n  {rows:,} {rule.replace('_', ' ')}"
    if validation.leaks:
        paths = ", ".join(f"{path}: {rows}" for path, rows in validation.leaks.items())
        text += f"\nnear or exact copies across splits ({paths})"
    splits = ", ".join(f"{rows:,} {split}" for split, rows in validation.kept_by_split.items())
    return "\n".join([f"{text}\nsplits: {splits}", *validation.notes])


def base_lines(lengths: Lengths, fit: Fit) -> list[str]:
    """Return how much of the texts the vocabulary of the base covers, and how many are too long."""
    lines = [f"vocabulary of {fit.base}: knows {lengths.coverage:.1%} of the tokens of the texts"]
    share = lengths.truncated_share["test"]
    if share and lengths.long_text != "windows":
        lines.append(f"{share:.1%} of the test texts are cut to {lengths.maximum} tokens")
    return lines


def score_rows(scores: Scores) -> list[dict[str, str]]:
    """Return the scores of the model and its baselines, one row each."""
    rows = [{"model": "this one"} | _intervals(scores.test.scores) | {"": ""}]
    for baseline in scores.baselines:
        better = f"it is better on {baseline.only_baseline_right:,} rows"
        note = f"{better}, this one on {baseline.only_model_right:,}"
        rows.append({"model": baseline.name} | _intervals(baseline.scores) | {"": note})
    return rows


def behaviour_rows(scores: Scores) -> list[dict[str, str]]:
    """Return one row for each behaviour test."""
    return [
        {
            "suite": test.suite,
            "test": test.name,
            "kind": test.kind,
            "cases": f"{test.cases:,}",
            "failed": f"{test.share:.1%}",
            "allowed": f"{test.allowed:.1%}",
            "": "fails" if not test.passed else "" if test.cases else "no row to change",
        }
        for test in scores.behaviour
    ]


def runtime_line(runtimes: Benchmark) -> str:
    """Return the machine of the timings, and how busy it was."""
    line = f"runtimes on {runtimes.machine.processor}, {runtimes.threads} threads"
    if runtimes.neighbours >= 0.01:
        line += f", beside programs that took {runtimes.neighbours:.0%} of the processors"
    return line


def runtime_rows(runtimes: Benchmark) -> list[dict[str, str]]:
    """Return one row for each runtime."""
    main = next(iter(runtimes.candidates[0].test))
    return [
        {
            "runtime": ("> " if candidate.name == runtimes.picked else "  ") + candidate.name,
            "size": f"{candidate.bytes / 1e6:.0f} MB",
            "ms a text": f"{candidate.single.p50_ms:.1f}",
            "p95": f"{candidate.single.p95_ms:.1f}",
            "speed-up": f"{candidate.speedup:.2f} x",
            words.metric(main): f"{candidate.test[main]:.4f}",
            "flips": f"{candidate.test_flips:.2%}",
            "memory": f"{candidate.peak_memory_mb:,.0f} MB",
        }
        for candidate in runtimes.candidates
    ]


def _intervals(scores: Mapping[str, Interval]) -> dict[str, str]:
    return {
        words.metric(name): f"{each.value:.4f} [{each.low:.4f}, {each.high:.4f}]"
        for name, each in scores.items()
    }


def table(rows: list[dict[str, str]]) -> list[str]:
    """Return aligned lines of rows with the same keys, under a header."""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = ["  " + "  ".join(name.ljust(widths[name]) for name in names).rstrip()]
    for row in rows:
        lines.append("  " + "  ".join(row[name].ljust(widths[name]) for name in names).rstrip())
    return lines
