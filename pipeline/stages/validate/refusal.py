"""Messages of a run that validate stops: one line that names every rule, and how to go on."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.stages.validate.findings import Examination, Finding
from pipeline.stages.validate.shortfalls import percent

NAMED = 4  # rules that are named with their first row; of further ones the numbers


def refusal(found: Examination, report: Path) -> str | None:
    """Return the message if rules with the policy `fail` flag rows or no training row has a class;
    None if neither. `report` is the path of the listed rows."""
    failing = [finding for finding in found.findings() if finding.stops]
    missing = found.shortfalls()
    if not failing:
        learns = found.task.outputs(found.labels)
        return None if learns else f"{found.source}: {missing[0]}: fix the labels ({report})"
    rest = "".join(f"; besides, {sentence}" for sentence in missing)
    return f"{_flagged(failing)}{rest}: {advice(found, f'fix the rows listed in {report}')}"


def shortage(found: Examination, report: Path, unmet: Sequence[str]) -> str:
    """Return the message on expectations that are not met, with the rules that took the rows."""
    known = found.shortfalls()
    told = [*known, *(each for each in unmet if not any(s.startswith(each) for s in known))]
    return (
        f"{found.source}: of {len(found.frame):,} rows, {len(found.kept):,} kept:"
        f" {'; '.join(told[:NAMED])}: fix the data or the recipe's validate section (rows:"
        f" {report})"
    )


def _flagged(failing: Sequence[Finding]) -> str:
    if len(failing) == 1:
        [only] = failing
        more = f" (and {only.refused - 1:,} more rows)" if only.refused > 1 else ""
        return f"{only.first[0]}{more}"
    each = [f"{_counted(finding)}, first {finding.first[0]}" for finding in failing[:NAMED]]
    also = ", ".join(_counted(finding) for finding in failing[NAMED:])
    each += [f"also {also}"] if also else []
    return f"{len(failing)} rules stop the run: {'; '.join(each)}"


def _counted(finding: Finding) -> str:
    return f"{finding.rule} {finding.refused:,} {'row' if finding.refused == 1 else 'rows'}"


def advice(found: Examination, fix: str) -> str:
    """Return how to go on where rules stop a run, first by `fix`, then by their policies."""
    frame, failing = found.frame, [each.rule for each in found.findings() if each.stops]
    aside = frame[failing].any(axis=1) | (frame["fate"] != "")
    if len(frame) - aside.sum() < found.fewest_kept:
        return (
            f"{fix}; to set them aside would cost {percent(aside.sum(), len(frame))} of the rows,"
            " more than validate.max_quarantine_percent"
        )
    if len(failing) == 1:
        return f"{fix}, or set validate.rules.{failing[0]} to quarantine"
    return f"{fix}, or set {', '.join(failing)} of validate.rules to quarantine"
