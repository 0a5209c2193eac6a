"""Names and formats of metrics for people, the same in all outputs."""

import re
from collections import Counter
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
    confusions: Mapping[str, Mapping[str, int]],
    labels: Sequence[str] = (),
    most: int | None = None,
) -> tuple[list[str], list[list[int]]]:
    """Return the names and counts of a confusion matrix with truths as rows, answers as columns.

    The names are the classes in their order, then all others that occur, "" last. Of more than
    `most` names, those with the most mistakes are kept, and the rest is one name at the end.
    """
    found = {*confusions, *(answer for row in confusions.values() for answer in row)}
    others = sorted(found.difference(labels), key=lambda name: (not name, name))
    names = [*labels, *others]
    if most is not None and len(names) > most:
        kept = _most_mistaken(confusions, names, most - 1)
        rest = f"{len(names) - len(kept):,} others"
        names = [name for name in names if name in kept]
        place = {name: i for i, name in enumerate(names)}
        names.append(rest)
    else:
        place = {name: i for i, name in enumerate(names)}
    counts = [[0] * len(names) for _ in names]
    for truth, row in confusions.items():
        for answer, count in row.items():
            counts[place.get(truth, -1)][place.get(answer, -1)] += count
    return names, counts


def _most_mistaken(
    confusions: Mapping[str, Mapping[str, int]], names: Sequence[str], most: int
) -> set[str]:
    """Return the names with the most mistakes, as truth or as answer."""
    mistakes: Counter[str] = Counter(dict.fromkeys(names, 0))
    for truth, row in confusions.items():
        for answer, count in row.items():
            if truth != answer:
                mistakes.update({truth: count, answer: count})
    return {name for name, _ in mistakes.most_common(most)}


def most_mistaken(per_class: Mapping[str, Mapping[str, float]], most: int) -> list[str]:
    """Return the classes of the most mistakes in their order: those whose F1 lacks the most, summed
    over their rows."""
    if len(per_class) <= most:
        return list(per_class)
    lacking = {name: (1 - each["f1"]) * each["rows"] for name, each in per_class.items()}
    kept = {name for name, _ in Counter(lacking).most_common(most)}
    return [name for name in per_class if name in kept]
