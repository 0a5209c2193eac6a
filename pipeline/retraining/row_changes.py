"""Changes between the rows of a version and those of today.

A row is identified by its text, or by both of its texts. Copies of a text are paired by label and
split first, then by label, then by split, then in the order of their labels: the order of rows in
the source does not matter. Labels are compared as written; an empty one is no class.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.records import Record
from pipeline.core.text import excerpt

if TYPE_CHECKING:
    import pandas as pd

# Share of a class's rows that must get the same new label for the class to count as renamed or
# merged: a few percent of labels are usually wrong, and may be corrected at the same time.
MOST = 0.9
FEWEST = 2  # such rows: a single one may be a corrected label
ALIKE = (["text", "label", "split"], ["text", "label"], ["text", "split"], ["text"])
SHOWN = 8  # names in a line, the largest first
UNLABELLED = "no label"


class Passage(Record):
    """Number of rows that are still present and whose class has another name now."""

    old: str
    new: str
    rows: int


class Changes(Record):
    """Changes between two tables of rows: before + new - gone = now."""

    before: int
    now: int
    new: int
    gone: int
    corrected: int
    """Rows of a known text with another label, unless their whole class was renamed to it."""
    moved: int
    """Rows of a known text in another split; possible only if the source names the split."""
    new_by_label: dict[str, int]
    gone_by_label: dict[str, int]
    """Gone rows by label; by class if a label can have several classes or none."""
    corrections: dict[str, int]
    """Corrected rows by 'old > new', if a label is a class."""
    added: dict[str, int]
    """Rows of each new class that is not a renamed one."""
    dropped: dict[str, int]
    """Former rows of each class that is gone and was not renamed."""
    renamed: list[Passage]
    """Classes with a name that is new."""
    merged: list[Passage]
    """Classes merged into another one, or together into a new one."""
    split: list[Passage]
    """Classes split into several new ones, one passage each."""

    @property
    def rows(self) -> int:
        """Number of rows that are new, gone, or have another label."""
        renamed = (passage.rows for passage in (*self.renamed, *self.merged, *self.split))
        return self.new + self.gone + self.corrected + sum(renamed)


def learned(rows: Path) -> set[str]:
    """IDs of the texts that a version was trained or selected on, from its rows.parquet."""
    import pandas as pd

    filters = [("kept", "==", True), ("split", "!=", "test")]
    return set(_texts(pd.read_parquet(rows, columns=["id"], filters=filters)["id"]))


def compare(
    before: "pd.DataFrame",
    now: "pd.DataFrame",
    classes: Callable[[str], Sequence[str]] | None = None,
) -> Changes:
    """Compare two tables of rows by their columns id, label and split.

    `classes` returns the classes of a label, for tasks whose labels are not classes themselves.
    Then classes can be new or gone, but renamed, merged and split ones are not detected.
    """
    old, new = _coded(before, now)
    pairs, gone, fresh = _paired(old, new)
    before_by, now_by, new_by, gone_by = (
        _counted(rows["label"], classes) for rows in (old, new, fresh, gone)
    )
    flows = Counter(zip(pairs["old"], pairs["new"], strict=True))
    renamed, merged, split = (
        _passages(flows, set(before_by), new_by) if classes is None else ([], [], [])
    )
    passages = {(passage.old, passage.new) for passage in (*renamed, *merged, *split)}
    corrected = {
        (a, b): rows for (a, b), rows in sorted(flows.items()) if a != b and (a, b) not in passages
    }
    corrections = {f"{a or UNLABELLED} > {b or UNLABELLED}": n for (a, b), n in corrected.items()}
    added = now_by.keys() - before_by.keys() - {b for _, b in passages} - {""}
    dropped = before_by.keys() - now_by.keys() - {a for a, _ in passages} - {""}
    return Changes(
        before=len(old),
        now=len(new),
        new=len(fresh),
        gone=len(gone),
        corrected=sum(corrected.values()),
        moved=int(pairs["moved"].sum()),
        new_by_label=dict(sorted(new_by.items())),
        gone_by_label=dict(sorted(gone_by.items())),
        corrections=corrections if classes is None else {},
        added={name: now_by[name] for name in sorted(added)},
        dropped={name: before_by[name] for name in sorted(dropped)},
        renamed=renamed,
        merged=merged,
        split=split,
    )


def words(changes: Changes) -> list[str]:
    """Describe the changes, one line each."""
    lines = []
    if changes.new:
        lines.append(f"{_count(changes.new, 'new row')}{_parts(changes.new_by_label)}")
    if changes.gone:
        lines.append(f"{_count(changes.gone, 'row')} gone{_parts(changes.gone_by_label)}")
    if changes.corrected:
        corrections = _parts(changes.corrections)
        lines.append(f"{_count(changes.corrected, 'label')} corrected{corrections}")
    if changes.moved:
        lines.append(f"{_count(changes.moved, 'row')} moved to another split")
    for name, rows in changes.added.items():
        lines.append(f"class {_name(name)} is new ({_count(rows, 'row')})")
    for name, rows in changes.dropped.items():
        lines.append(f"class {_name(name)} is gone (it had {_count(rows, 'row')})")
    for verb, passages in (("renamed", changes.renamed), ("merged into", changes.merged)):
        for p in passages:
            lines.append(f"class {_name(p.old)} is {verb} {_name(p.new)} ({_count(p.rows, 'row')})")
    for name in dict.fromkeys(p.old for p in changes.split):
        parts = {p.new: p.rows for p in changes.split if p.old == name}
        lines.append(f"class {_name(name)} is split{_parts(parts)}")
    return lines or ["nothing new"]


def _texts(ids: "pd.Series[str]") -> "pd.Series[str]":
    """Text part of row IDs: rows with the same text differ in a suffix."""
    return ids.str.replace("-.*", "", regex=True)


def _coded(before: "pd.DataFrame", now: "pd.DataFrame") -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return both tables with texts as numbers, in the order in which copies are paired."""
    import pandas as pd

    both = pd.concat([before, now], ignore_index=True)
    rows = pd.DataFrame(
        {
            "text": pd.factorize(_texts(both["id"]))[0],
            "label": both["label"].fillna("").astype("category"),
            "split": both["split"].astype("category"),
        }
    ).sort_values(["label", "split"])
    return rows[rows.index < len(before)], rows[rows.index >= len(before)]


def _paired(
    old: "pd.DataFrame", new: "pd.DataFrame"
) -> "tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]":
    """Pair the rows of both tables. Return old and new label of each pair, and the rows of each
    table that are left."""
    import pandas as pd

    pairs = []
    for keys in ALIKE:
        numbered = [
            rows.assign(copy=rows.groupby(keys, observed=True).cumcount(), row=rows.index)[
                [*keys, "copy", "row"]
            ]
            for rows in (old, new)
        ]
        matches = numbered[0].merge(numbered[1], on=[*keys, "copy"])
        was, became = old.loc[matches["row_x"]], new.loc[matches["row_y"]]
        moved = was["split"].to_numpy() != became["split"].to_numpy()
        labels = {"old": was["label"].to_numpy(), "new": became["label"].to_numpy()}
        pairs.append(pd.DataFrame({**labels, "moved": moved}))
        old, new = old.drop(was.index), new.drop(became.index)
    return pd.concat(pairs), old, new


def _counted(labels: Iterable[str], classes: Callable[[str], Sequence[str]] | None) -> Counter[str]:
    """Number of rows of each class."""
    counts = Counter(labels)
    if classes is None:
        return counts
    found: Counter[str] = Counter()
    for label, rows in counts.items():
        for name in set(classes(label)) if label else ():
            found[name] += rows
    return found


def _passages(
    flows: Mapping[tuple[str, str], int], known: Set[str], new_by: Mapping[str, int]
) -> tuple[list[Passage], list[Passage], list[Passage]]:
    """Return the classes that are renamed, merged and split.

    New rows with the old name count as rows that kept it.
    """
    new_names: dict[str, Counter[str]] = defaultdict(Counter)
    for (old, new), rows in flows.items():
        if old:
            new_names[old][new] = rows
    replaced: dict[str, Passage] = {}
    split: list[Passage] = []
    for name, names in sorted(new_names.items()):
        enough = max(FEWEST, MOST * (names.total() + new_by.get(name, 0)))
        commonest, rows = names.most_common(1)[0]
        unknown = {new: names[new] for new in sorted(names.keys() - known - {""})}
        if rows >= enough and commonest not in (name, ""):
            replaced[name] = Passage(old=name, new=commonest, rows=rows)
        elif len(unknown) > 1 and sum(unknown.values()) >= enough:
            split += [Passage(old=name, new=new, rows=rows) for new, rows in unknown.items()]
    shared = Counter(passage.new for passage in replaced.values())
    taken = known - replaced.keys()  # the name of a class that has another one now is free
    renamed = [p for p in replaced.values() if p.new not in taken and shared[p.new] == 1]
    return renamed, [p for p in replaced.values() if p not in renamed], split


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _name(label: str) -> str:
    return f"'{excerpt(label)}'"


def _parts(counts: Mapping[str, int]) -> str:
    """Names and their counts in brackets, largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{excerpt(name) or UNLABELLED} {rows:,}" for name, rows in ordered[:SHOWN]]
    more = [f"{len(ordered) - SHOWN} more"] if len(ordered) > SHOWN else []
    return f" ({', '.join(parts + more)})" if parts else ""
