"""Scores in the words and the order that people read them in, the same wherever they are shown."""

import re
from collections.abc import Mapping, Sequence

NOTHING = "nothing"
TOLD = {
    "roc auc": "area under ROC",
    "pr auc": "area under precision-recall",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
    "bleu": "BLEU",
    "chrf": "chrF",
    "f1": "F1",
    "(micro|macro|weighted|samples?) F1": r"\1-F1",
}


def metric(name: str) -> str:
    """A metric's name as people say it: macro_f1 is macro-F1, exact_match is exact match."""
    spaced = name.replace("_", " ")
    for pattern, told in TOLD.items():
        spaced = re.sub(rf"\b{pattern}\b", told, spaced)
    return spaced


def number(value: float) -> str:
    """A score, or a count where it can be nothing else."""
    return f"{value:,.0f}" if value > 1 and value.is_integer() else f"{value:.4f}"


def confused(name: str) -> str:
    """A truth or an answer of a confusion, where "" is none at all."""
    return name or NOTHING


def confusion(
    confusions: Mapping[str, Mapping[str, int]], labels: Sequence[str] = ()
) -> tuple[list[str], list[list[int]]]:
    """Names, and how often each truth (row) got each answer (column): the classes in their order,
    then whatever else occurs, "" last."""
    found = {*confusions, *(answer for row in confusions.values() for answer in row)}
    others = sorted(found.difference(labels), key=lambda name: (not name, name))
    names = [*labels, *others]
    counts = [[confusions.get(truth, {}).get(answer, 0) for answer in names] for truth in names]
    return names, counts
