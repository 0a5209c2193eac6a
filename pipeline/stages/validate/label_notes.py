"""Classes that are likely mistakes: names that look alike, too many, too few rows."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence

from pipeline.core.records import SPLITS
from pipeline.core.text import excerpt

Counts = Mapping[str, Mapping[str, int]]
"""Rows of each class in each split."""
FEW = 5  # training rows of a class, below which it is hardly learned
MANY = 20  # classes; fewer are not suspected to be amounts or texts
SHOWN = 3  # classes or groups of them in a sentence
WIDTH = 40  # characters of a class in a sentence
# differences between names that people take for one, in the order in which they are removed
DIFFERENCES: Mapping[str, Callable[[str], str]] = {
    "width": lambda name: unicodedata.normalize("NFKC", name),
    "spaces": lambda name: "".join(name.split()),
    "a full stop": lambda name: name.rstrip(".。"),
    "case": str.casefold,
}


def notes(counts: Counts, kept: Counts, exclusive: bool) -> list[str]:
    """Return a sentence for each likely mistake in the classes of all rows and of the kept ones;
    `exclusive` if a row has one class."""
    totals = {name: sum(by_split.values()) for name, by_split in counts.items()}
    left = {name: kept.get(name, {}) for name in counts}
    mistaken = [*_no_classes(totals, exclusive)]
    return [*alike(totals), *(mistaken or _too_few(left))]


def alike(totals: Mapping[str, int]) -> list[str]:
    """Return a sentence for each group of classes that differ by case, spaces, width (NFKC) or
    a full stop at the end only; `totals` holds the rows of each."""
    groups: dict[str, list[str]] = {}
    for name in totals:
        groups.setdefault(_plain(name), []).append(name)
    found = [sorted(group, key=lambda n: (-totals[n], n)) for group in groups.values()]
    found = [group for group in found if len(group) > 1]
    told = [
        f"{_named([(name, totals[name]) for name in group])} differ by {_difference(group)} only:"
        " are they one class?"
        for group in found[:SHOWN]
    ]
    if more := len(found) - len(told):
        told.append(f"{more:,} more groups of classes differ by case, spaces, width or a stop only")
    return told


def near_name(name: str, others: Sequence[str]) -> str | None:
    """Return one of the other classes that looks like a name, None if there is none."""
    return next((other for other in others if _plain(other) == _plain(name)), None)


def _plain(name: str, kept: str = "") -> str:
    """Return a name without the differences, except for one that is kept."""
    for difference, remove in DIFFERENCES.items():
        if difference != kept:
            name = remove(name)
    return name


def _difference(group: Sequence[str]) -> str:
    """Return the differences without any of which the names of a group would still differ."""
    needed = [kept for kept in DIFFERENCES if len({_plain(name, kept) for name in group}) > 1]
    return _listed(needed or list(DIFFERENCES), "or")


def _no_classes(totals: Mapping[str, int], exclusive: bool) -> Iterator[str]:
    """Yield a sentence if the labels are numbers that name no classes, or nearly all different."""
    rows = sum(totals.values())
    if not exclusive or len(totals) < MANY:
        return
    numbers = [number for name in totals if (number := _number(name)) is not None]
    if len(numbers) == len(totals) and not _numbered(numbers):
        shown = ", ".join(excerpt(name, WIDTH) for name in list(totals)[:SHOWN])
        yield (
            f"all {len(totals):,} classes are numbers ({shown}, …): are they amounts? Then the"
            " task is one of numbers, such as regression"
        )
    elif 2 * len(totals) > rows:
        yield (
            f"{len(totals):,} classes in {rows:,} rows: is ingest.label the right column? A class"
            " is learned from several rows"
        )


def _number(name: str) -> float | None:
    try:
        return float(name.replace(",", "."))
    except ValueError:
        return None


def _numbered(numbers: Sequence[float]) -> bool:
    """True if the numbers count the classes from 0 or 1 on."""
    return sorted(numbers) in ([*range(len(numbers))], [*range(1, len(numbers) + 1)])


def _too_few(counts: Counts) -> Iterator[str]:
    """Yield a sentence on classes with few training rows, and one on classes of a split without."""
    train = {name: by_split.get("train", 0) for name, by_split in counts.items()}
    if few := sorted((rows, name) for name, rows in train.items() if rows < FEW):
        named = _named([(name, rows) for rows, name in few], of="training ")
        yield f"{_classes(len(few), len(counts))} fewer than {FEW} training rows: {named}"
    for split in SPLITS[1:]:
        without = sorted(name for name, by_split in counts.items() if not by_split.get(split))
        if without and len(without) < len(counts):
            totals = [(name, sum(counts[name].values())) for name in without]
            has = _classes(len(without), len(counts))
            yield f"{has} no {split} row, hence no score there: {_named(totals)}"


def _classes(some: int, of: int) -> str:
    return f"{some:,} of {of:,} classes {'has' if some == 1 else 'have'}"


def _named(rows: Sequence[tuple[str, int]], of: str = "") -> str:
    """Return the names with the numbers of their rows, the first few of many."""
    shown = [
        f"{excerpt(name, WIDTH)!r} ({number:,} {of if place == 0 else ''}"
        f"{'row' if number == 1 else 'rows'})"
        for place, (name, number) in enumerate(rows[:SHOWN])
    ]
    more = len(rows) - SHOWN
    return f"{', '.join(shown)} and {more:,} more" if more > 0 else _listed(shown, "and")


def _listed(parts: Sequence[str], word: str) -> str:
    return f" {word} ".join(", ".join(parts).rsplit(", ", 1)) if len(parts) > 1 else parts[0]
