"""Precision, recall and F1 from counts of classes.

A tally has (3 classes + 2,) numbers: hits of each class, answers, truths, then 1 if the whole row
is right, and 1 for the row.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def tally(
    hits: Iterable[str],
    answers: Iterable[str],
    truths: Iterable[str],
    right: bool,
    classes: Sequence[str],
) -> Floats:
    """Tally of one row from the classes of its hits, answers and truths. Names outside of `classes`
    belong to no class."""
    places = _places(tuple(classes))
    found = np.zeros(3 * len(classes) + 2)
    for part, names in enumerate((hits, answers, truths)):
        for name in names:
            if (place := places.get(name)) is not None:
                found[part * len(classes) + place] += 1
    found[-2:] = right, 1
    return found


@lru_cache(maxsize=4)
def _places(classes: tuple[str, ...]) -> dict[str, int]:
    return {name: i for i, name in enumerate(classes)}


def parts(tallies: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, answers and truths of each class, (..., 3 classes + 2) -> (..., classes) each."""
    hits, answers, truths = np.split(tallies[..., :-2], 3, axis=-1)
    return hits, answers, truths


def right(tallies: Floats) -> Floats:
    """Share of rows whose whole answer is right, (..., 3 classes + 2) -> (...)."""
    return np.asarray(tallies[..., -2] / np.maximum(tallies[..., -1], 1))


def f1(hits: Floats, answers: Floats, truths: Floats) -> Floats:
    """F1, 2 hits / (answers + truths); 0 without answers and truths."""
    total = answers + truths
    return np.asarray(2 * hits / np.maximum(total, 1))


def macro_f1(tallies: Floats) -> Floats:
    """Mean F1 over the classes that have a truth or an answer."""
    hits, answers, truths = parts(tallies)
    present = (answers + truths > 0).sum(-1)
    return np.asarray(f1(hits, answers, truths).sum(-1) / np.maximum(present, 1))


def micro_f1(tallies: Floats) -> Floats:
    """F1 of the sums over all classes."""
    return f1(*(part.sum(-1) for part in parts(tallies)))


def per_class(total: Floats, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Class -> precision, recall, f1 and rows (truths), from the sum of all tallies."""
    hits, answers, truths = parts(total)
    return {
        name: {**_three(hits[i], answers[i], truths[i]), "rows": float(truths[i])}
        for i, name in enumerate(classes)
    }


def averages(total: Floats) -> dict[str, dict[str, float]]:
    """Kind of average -> precision, recall and f1, as in scikit-learn: micro sums the counts first,
    macro is the mean over the classes that occur, weighted the mean weighted by truths."""
    hits, answers, truths = parts(total)
    each = [_three(*counts) for counts in zip(hits, answers, truths, strict=True)]
    weights = {"macro": (answers + truths > 0).astype(float), "weighted": truths}
    found = {"micro": _three(hits.sum(), answers.sum(), truths.sum())}
    for name, weight in weights.items():
        scale = max(float(weight.sum()), 1.0)
        found[name] = {
            kind: float(sum(w * one[kind] for w, one in zip(weight, each, strict=True)) / scale)
            for kind in ("precision", "recall", "f1")
        }
    return found


def _three(hits: float, answers: float, truths: float) -> dict[str, float]:
    return {
        "precision": float(hits / max(answers, 1)),
        "recall": float(hits / max(truths, 1)),
        "f1": float(2 * hits / max(answers + truths, 1)),
    }
