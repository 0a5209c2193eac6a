"""A verdict in sentences and as a table of guardrails."""

from pipeline.metrics import names
from pipeline.registry.records import Verdict


def paragraph(verdict: Verdict) -> str:
    """Describe a verdict in a few sentences: decision, reason, rows, scores, comparisons, error
    rate and guardrails."""
    name = f"{verdict.model}/{verdict.version}"
    decided = {"promote": "is promoted", "hold": "is held", "reject": "is rejected"}
    sentences = [f"{name} {decided[verdict.decision]}: {verdict.reason}."]
    if verdict.scores:
        scores = [f"{names.metric(name)} {value:.4f}" for name, value in verdict.scores.items()]
        sentences.append(
            f"It answered the {verdict.rows:,} rows of test set {verdict.epoch} with"
            f" {' and '.join(', '.join(scores).rsplit(', ', 1))}."
        )
    for each in verdict.comparisons:
        gap = each.difference
        sentences.append(
            f"In {names.metric(each.metric)} it has {each.challenger:.4f} against the"
            f" champion's {each.champion:.4f}: {gap.value:+.2%}, 95 % interval {gap.low:+.2%} to"
            f" {gap.high:+.2%} ({each.test}, p = {each.p_better:.2g}). A true difference of"
            f" {each.detectable:.2%} would have been seen 8 times in 10."
        )
    if verdict.question:
        sentences.append(
            f"This was question {verdict.question} to this test set, which could spend an error"
            f" rate of {verdict.level:.2g}."
        )
    if verdict.guardrails:
        held = sum(guardrail.held for guardrail in verdict.guardrails)
        sentences.append(f"{held} of {len(verdict.guardrails)} guardrails held.")
    return " ".join(sentences)


def guardrails_table(verdict: Verdict) -> str:
    """Return the guardrails as a Markdown table; empty if there are none."""
    if not verdict.guardrails:
        return ""
    lines = ["| guardrail | found | |", "|---|---|---|"]
    lines += [
        f"| {guardrail.name} | {guardrail.note} | {'held' if guardrail.held else '**broken**'} |"
        for guardrail in verdict.guardrails
    ]
    return "\n".join(lines)
