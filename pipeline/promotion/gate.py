"""The gate: answers in, verdict out. Pure: the same inputs give the same verdict.

A model without a rival must reach the recipe's floors. Otherwise champion and challenger have
answered the same test rows through the runtimes that serve them, and an exact one-sided McNemar
test on the rows where just one of them is right decides. A tie never replaces a champion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from pipeline import scoring
from pipeline.config import Settings
from pipeline.records import Decision, Verdict


class GateParams(Settings):
    floor_accuracy: float = Field(ge=0, le=1)
    floor_macro_f1: float = Field(ge=0, le=1)
    """Of the test rows, as served: below either a version is rejected."""
    significance: float = Field(gt=0, le=0.5)
    """p-value under which a difference is believed."""


@dataclass(frozen=True)
class Champion:
    version: str
    answers: Sequence[str]


def judge(
    params: GateParams,
    version: str,
    labels: Sequence[str],
    truth: Sequence[str],
    challenger: Sequence[str],
    champion: Champion | None,
) -> Verdict:
    """Compare answers row by row; `truth` and both answers are labels of the same rows."""
    given = [*challenger, *(champion.answers if champion else ())]
    foreign = sorted(set(given) - set(labels))  # an older version can know other classes
    number = {label: i for i, label in enumerate([*labels, *foreign])}
    true = np.array([number[label] for label in truth])
    confusion = scoring.confusion_matrix(
        true, np.array([number[label] for label in challenger]), len(number)
    )
    accuracy, f1 = float(scoring.accuracy(confusion)), float(scoring.macro_f1(confusion))
    right = np.asarray(challenger) == np.asarray(truth)
    wins = losses = 0
    better = worse = old = None
    if champion:
        rival = np.asarray(champion.answers) == np.asarray(truth)
        old = float(rival.mean())
        wins, losses = int((right & ~rival).sum()), int((rival & ~right).sum())
        better, worse = scoring.mcnemar_p(wins, losses), scoring.mcnemar_p(losses, wins)
    decision, reason = _decide(params, accuracy, f1, champion, wins, losses, better, worse, foreign)
    return Verdict(
        version=version,
        decision=decision,
        reason=reason,
        rows=len(truth),
        accuracy=accuracy,
        macro_f1=f1,
        champion=champion.version if champion else None,
        champion_accuracy=old,
        only_challenger_right=wins,
        only_champion_right=losses,
        p_better=better,
        p_worse=worse,
    )


def _decide(
    params: GateParams,
    accuracy: float,
    f1: float,
    champion: Champion | None,
    wins: int,
    losses: int,
    better: float | None,
    worse: float | None,
    foreign: list[str],
) -> tuple[Decision, str]:
    if accuracy < params.floor_accuracy:
        return "reject", f"test accuracy {accuracy:.4f} is below the floor {params.floor_accuracy}"
    if f1 < params.floor_macro_f1:
        return "reject", f"test macro-F1 {f1:.4f} is below the floor {params.floor_macro_f1}"
    if foreign:
        return "hold", (
            f"{foreign[0]!r} is answered, which is no class of these rows: they cannot be compared"
        )
    if champion is None or better is None or worse is None:
        return "promote", f"no champion yet, and test accuracy {accuracy:.4f} is above the floor"
    tally = f"alone right on {wins} rows, the champion on {losses}"
    if better < params.significance:
        return "promote", f"better than champion {champion.version}: {tally} (p = {better:.2g})"
    if worse < params.significance:
        return "reject", f"worse than champion {champion.version}: {tally} (p = {worse:.2g})"
    if wins == losses == 0:
        return (
            "hold",
            f"right on the same rows as champion {champion.version}: a tie changes nothing",
        )
    return "hold", (
        f"not shown to be better than champion {champion.version}: {tally}"
        f" (p = {better:.2g}, {params.significance} needed)"
    )
