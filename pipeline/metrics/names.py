"""Names and formats of metrics for people, the same in all outputs."""

import re
from collections.abc import Mapping, Sequence

NOTHING = "nothing"
DISPLAY_NAMES = {
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
    """Display name of a metric: macro-F1 for macro_f1, exact match for exact_match."""
    spaced = name.replace("_", " ")
    for pattern, display_name in DISPLAY_NAMES.items():
        spaced = re.sub(rf"\b{pattern}\b", display_name, spaced)
    return spaced


def number(value: float) -> str:
    """Format a score with four decimals; whole numbers above 1 are counts and have none."""
    return f"{value:,.0f}" if value > 1 and value.is_integer() else f"{value:.4f}"


def confused(name: str) -> str:
    """Display name of a confusion's truth or answer, where "" means none."""
    return name or NOTHING


def confusion(
    confusions: Mapping[str, Mapping[str, int]], labels: Sequence[str] = ()
) -> tuple[list[str], list[list[int]]]:
    """Return the names and counts of a confusion matrix with truths as rows, answers as columns.

    The names are the classes in their order, then all others that occur, "" last.
    """
    found = {*confusions, *(answer for row in confusions.values() for answer in row)}
    others = sorted(found.difference(labels), key=lambda name: (not name, name))
    names = [*labels, *others]
    counts = [[confusions.get(truth, {}).get(answer, 0) for answer in names] for truth in names]
    return names, counts
