"""The rows behind a version, and what has changed in them since.

A row is known by its text, or both of its texts. Copies of one text are paired first where all is
the same, then by label, then by split, then in the order of their labels: no row's place in its
source matters. A label is taken as it is written; an empty one is no class.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.records import Record
from pipeline.core.text import excerpt

if TYPE_CHECKING:
    import pandas as pd

# The share of a class's rows that must go one way for the class itself to have gone: labels in
# use are wrong in a few percent of rows, so corrections made on the way stay below what is left.
MOST = 0.9
FEWEST = 2  # such rows: one alone cannot tell a renamed class from a corrected label
ALIKE = (["text", "label", "split"], ["text", "label"], ["text", "split"], ["text"])
SHOWN = 8  # names in a line, the largest first
UNLABELLED = "no label"


class Passage(Record):
    """Rows of one class that are there still and carry another class's name."""

    old: str
    new: str
    rows: int


class Changes(Record):
    """What became of a table of rows: before + new - gone = now."""

    before: int
    now: int
    new: int
    gone: int
    corrected: int
    """Rows of an old text under another label, where the class as a whole did not go there."""
    moved: int
    """Rows of an old text in another split: only a source that says the split does that."""
    new_by_label: dict[str, int]
    gone_by_label: dict[str, int]
    """By class, where labels name several or none."""
    corrections: dict[str, int]
    """Corrected rows, as 'old > new', where a label is a class."""
    added: dict[str, int]
    """Rows of each class that is new, and no other's new name."""
    dropped: dict[str, int]
    """Rows that each class had that is no more, under whatever name."""
    renamed: list[Passage]
    """Classes under a name that was unknown."""
    merged: list[Passage]
    """Classes under the name of another, or together under a new one."""
    split: list[Passage]
    """Classes under several names that were unknown, one a passage."""

    @property
    def rows(self) -> int:
        """How many rows there are to learn anew: new, gone, or under another label."""
        passed = (passage.rows for passage in (*self.renamed, *self.merged, *self.split))
        return self.new + self.gone + self.corrected + sum(passed)


def learned(rows: Path) -> set[str]:
    """The texts that a version was trained or selected on, by name, from its rows.parquet."""
    import pandas as pd

    seen = [("kept", "==", True), ("split", "!=", "test")]
    return set(_texts(pd.read_parquet(rows, columns=["id"], filters=seen)["id"]))


def compare(
    before: "pd.DataFrame",
    now: "pd.DataFrame",
    classes: Callable[[str], Sequence[str]] | None = None,
) -> Changes:
    """What has changed between two tables of rows, by their columns id, label and split.

    `classes` gives those of a label, where a label is not one class itself: classes can then be new
    or gone, and are not followed from name to name.
    """
    old, new = _coded(before, now)
    pairs, gone, fresh = _paired(old, new)
    had, has, came, went = (_counted(rows["label"], classes) for rows in (old, new, fresh, gone))
    flows = Counter(zip(pairs["old"], pairs["new"], strict=True))
    renamed, merged, split = _passages(flows, set(had), came) if classes is None else ([], [], [])
    passed = {(passage.old, passage.new) for passage in (*renamed, *merged, *split)}
    corrected = {
        (a, b): rows for (a, b), rows in sorted(flows.items()) if a != b and (a, b) not in passed
    }
    corrections = {f"{a or UNLABELLED} > {b or UNLABELLED}": n for (a, b), n in corrected.items()}
    added = has.keys() - had.keys() - {b for _, b in passed} - {""}
    dropped = had.keys() - has.keys() - {a for a, _ in passed} - {""}
    return Changes(
        before=len(old),
        now=len(new),
        new=len(fresh),
        gone=len(gone),
        corrected=sum(corrected.values()),
        moved=int(pairs["moved"].sum()),
        new_by_label=dict(sorted(came.items())),
        gone_by_label=dict(sorted(went.items())),
        corrections=corrections if classes is None else {},
        added={name: has[name] for name in sorted(added)},
        dropped={name: had[name] for name in sorted(dropped)},
        renamed=renamed,
        merged=merged,
        split=split,
    )


def words(changes: Changes) -> list[str]:
    """The changes as plain lines."""
    told = []
    if changes.new:
        told.append(f"{_count(changes.new, 'new row')}{_parts(changes.new_by_label)}")
    if changes.gone:
        told.append(f"{_count(changes.gone, 'row')} gone{_parts(changes.gone_by_label)}")
    if changes.corrected:
        corrections = _parts(changes.corrections)
        told.append(f"{_count(changes.corrected, 'label')} corrected{corrections}")
    if changes.moved:
        told.append(f"{_count(changes.moved, 'row')} moved to another split")
    for name, rows in changes.added.items():
        told.append(f"class {_name(name)} is new ({_count(rows, 'row')})")
    for name, rows in changes.dropped.items():
        told.append(f"class {_name(name)} is gone (it had {_count(rows, 'row')})")
    for verb, passages in (("renamed", changes.renamed), ("merged into", changes.merged)):
        for p in passages:
            told.append(f"class {_name(p.old)} is {verb} {_name(p.new)} ({_count(p.rows, 'row')})")
    for name in dict.fromkeys(p.old for p in changes.split):
        parts = {p.new: p.rows for p in changes.split if p.old == name}
        told.append(f"class {_name(name)} is split{_parts(parts)}")
    return told or ["nothing new"]


def _texts(ids: "pd.Series[str]") -> "pd.Series[str]":
    """Rows of one text differ in a number behind its digest."""
    return ids.str.replace("-.*", "", regex=True)


def _coded(before: "pd.DataFrame", now: "pd.DataFrame") -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Both tables, texts as numbers, in the order in which copies are paired."""
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
    """The rows that are there still, a pair of labels each, and what is left of either side."""
    import pandas as pd

    pairs = []
    for keys in ALIKE:
        turned = [
            rows.assign(turn=rows.groupby(keys, observed=True).cumcount(), place=rows.index)[
                [*keys, "turn", "place"]
            ]
            for rows in (old, new)
        ]
        places = turned[0].merge(turned[1], on=[*keys, "turn"])
        was, became = old.loc[places["place_x"]], new.loc[places["place_y"]]
        moved = was["split"].to_numpy() != became["split"].to_numpy()
        labels = {"old": was["label"].to_numpy(), "new": became["label"].to_numpy()}
        pairs.append(pd.DataFrame({**labels, "moved": moved}))
        old, new = old.drop(was.index), new.drop(became.index)
    return pd.concat(pairs), old, new


def _counted(labels: Iterable[str], classes: Callable[[str], Sequence[str]] | None) -> Counter[str]:
    """How many rows have each class."""
    counts = Counter(labels)
    if classes is None:
        return counts
    found: Counter[str] = Counter()
    for label, rows in counts.items():
        for name in set(classes(label)) if label else ():
            found[name] += rows
    return found


def _passages(
    flows: Mapping[tuple[str, str], int], known: Set[str], came: Mapping[str, int]
) -> tuple[list[Passage], list[Passage], list[Passage]]:
    """Classes that are renamed, merged and split. New rows under the old name speak against it."""
    went: dict[str, Counter[str]] = defaultdict(Counter)
    for (old, new), rows in flows.items():
        if old:
            went[old][new] = rows
    heirs: dict[str, Passage] = {}
    split: list[Passage] = []
    for name, names in sorted(went.items()):
        enough = max(FEWEST, MOST * (names.total() + came.get(name, 0)))
        heir, rows = names.most_common(1)[0]
        unknown = {new: names[new] for new in sorted(names.keys() - known - {""})}
        if rows >= enough and heir not in (name, ""):
            heirs[name] = Passage(old=name, new=heir, rows=rows)
        elif len(unknown) > 1 and sum(unknown.values()) >= enough:
            split += [Passage(old=name, new=new, rows=rows) for new, rows in unknown.items()]
    shared = Counter(passage.new for passage in heirs.values())
    taken = known - heirs.keys()  # a name that its own class has left is free
    renamed = [p for p in heirs.values() if p.new not in taken and shared[p.new] == 1]
    return renamed, [p for p in heirs.values() if p not in renamed], split


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _name(label: str) -> str:
    return f"'{excerpt(label)}'"


def _parts(counts: Mapping[str, int]) -> str:
    """Names and their counts in brackets, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{excerpt(name) or UNLABELLED} {rows:,}" for name, rows in ordered[:SHOWN]]
    more = [f"{len(ordered) - SHOWN} more"] if len(ordered) > SHOWN else []
    return f" ({', '.join(parts + more)})" if parts else ""
