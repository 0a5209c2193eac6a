"""Roles of columns, recognised by their names and by a sample of their cells."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# names in the order of preference, in lower case
TEXTS = (
    *("text", "sentence", "review", "review_body", "content", "body", "message", "comment"),
    *("tweet", "document", "utterance", "description", "question", "query", "title", "headline"),
    *(
        "文本",
        "内容",
        "评论",
        "正文",
        "句子",
        "标题",
        "texte",
        "avis",
        "kommentar",
        "texto",
        "testo",
    ),
)
LABELS = (
    *("label", "labels", "category", "categories", "class", "sentiment", "target", "intent"),
    *("topic", "topics", "tags", "tag", "emotion", "emotions", "type", "stars", "rating", "score"),
    *("team", "department", "queue", "priority"),
    *("标签", "类别", "类目", "分类", "情感", "étiquette", "catégorie", "kategorie", "etiqueta"),
)
SPANS = ("entities", "spans", "ner", "annotations")
SPLITS = ("split", "set", "partition", "subset")
PAIRS = (
    *(("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("question1", "question2")),
    *(("premise", "hypothesis"), ("text_a", "text_b"), ("text1", "text2"), ("query", "document")),
    *(("a", "b"), ("text", "second"), ("#1 string", "#2 string"), ("query", "passage")),
)
SPLIT_VALUES = {"train", "training", "validation", "valid", "val", "dev", "test"}
FLAGS = {"0", "1", "0.0", "1.0", "true", "false", "True", "False", ""}
SEPARATORS = (";", "|", ",", "/")
DATE = re.compile(r"\d{1,4}[-/.年]\d{1,2}([-/.月]\d{1,4}.*)?")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
QUOTED = re.compile(r"\[\s*('[^']*'[\s,]*)*\]")  # a list as Python and NumPy write it
LONGEST_CLASS = 80  # characters
FEW = 20  # distinct whole numbers are classes rather than a quantity


@dataclass(frozen=True)
class Column:
    """Column with a sample of its cells."""

    name: str
    cells: Sequence[str]

    @cached_property
    def filled(self) -> list[str]:
        return [cell.strip() for cell in self.cells if cell.strip()]

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.filled)

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @cached_property
    def mean(self) -> float:
        """Mean number of characters."""
        return sum(map(len, self.filled)) / max(len(self.filled), 1)

    @cached_property
    def longest(self) -> int:
        return max(map(len, self.counts), default=0)

    @cached_property
    def numeric(self) -> bool:
        return bool(self.filled) and all(map(NUMBER.fullmatch, self.counts))

    @cached_property
    def whole(self) -> bool:
        return self.numeric and all(float(cell).is_integer() for cell in self.counts)

    @cached_property
    def flags(self) -> bool:
        """True for a column of 0 and 1."""
        return self.distinct == 2 and all(cell in FLAGS for cell in self.counts)

    @cached_property
    def lists(self) -> list[list[Any]] | None:
        """Cells as JSON lists; None if one of them is none."""
        found = []
        for cell in self.filled:
            if not cell.startswith("["):
                return None
            try:
                found.append(json.loads(cell))
            except (ValueError, RecursionError):
                if not QUOTED.fullmatch(cell):
                    return None
                found.append(re.findall(r"'([^']*)'", cell))
        return found or None

    @property
    def spans(self) -> bool:
        """True for lists of spans: [start, end, type], or objects with a start and an end."""
        entries = [entry for cell in self.lists or () for entry in cell]
        return bool(entries) and all(map(_is_span, entries))

    @cached_property
    def separator(self) -> str | None:
        """Text that separates several classes of a cell: its parts recur in other cells."""
        for separator in SEPARATORS:
            several = sum(rows for cell, rows in self.counts.items() if separator in cell)
            parts = {part.strip() for cell in self.counts for part in cell.split(separator)}
            alone = {cell for cell in self.counts if separator not in cell}
            short = max(map(len, parts), default=0) <= LONGEST_CLASS
            recur = len(parts) < self.distinct and (alone & parts or len(parts) < 100)
            if several >= 0.02 * len(self.filled) and short and recur:
                return separator
        return None

    @property
    def classes(self) -> bool:
        """True if its cells recur as those of classes do."""
        limit = max(2, len(self.filled) / 2)
        if self.counts and not self.numeric and all(map(DATE.match, self.counts)):
            return False
        return 2 <= self.distinct <= limit and self.longest <= LONGEST_CLASS

    def describe(self) -> str:
        values = f"{self.distinct:,} value{'s' * (self.distinct != 1)} in {len(self.filled):,} rows"
        return f"{self.name!r}: {values}, {self.longest:,} characters at most"


def _is_span(entry: object) -> bool:
    if isinstance(entry, list):
        return len(entry) == 3 and type(entry[0]) is int and type(entry[1]) is int
    return isinstance(entry, dict) and bool(
        {"start", "start_offset"} & entry.keys() and {"end", "end_offset"} & entry.keys()
    )


def columns_of(rows: Iterable[Mapping[str, str]]) -> dict[str, Column]:
    """Return the columns of some rows by name."""
    cells: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        for name, cell in row.items():
            cells.setdefault(name, [""] * number).append(cell)
        for own in cells.values():
            own.extend([""] * (number + 1 - len(own)))
    return {name: Column(name, own) for name, own in cells.items()}


def named(columns: Mapping[str, Column], names: Iterable[str]) -> list[Column]:
    """Return the columns that have one of the names, in the order of the names."""
    lower = {name.strip().lower(): column for name, column in columns.items()}
    return [lower[name] for name in names if name in lower]


def find_pair(columns: Mapping[str, Column]) -> tuple[Column, Column] | None:
    """Return the two texts of a pair, by their names."""
    for pair in PAIRS:
        found = named(columns, pair)
        if len(found) == 2 and not any(column.numeric for column in found):
            return found[0], found[1]
    return None


def find_text(columns: Mapping[str, Column], besides: Iterable[str | None] = ()) -> Column | None:
    """Return the column of the text: by its name, or the one with the longest cells."""
    free = {name: column for name, column in columns.items() if name not in set(besides)}
    texts = [column for column in free.values() if _is_text(column)]
    for column in named(free, TEXTS):
        if _is_text(column):
            return column
    return max(texts, key=lambda column: column.mean, default=None)


def _is_text(column: Column) -> bool:
    mostly_new = column.distinct > 0.3 * len(column.filled)
    return bool(column.filled) and not column.numeric and not column.lists and mostly_new


def find_labels(columns: Mapping[str, Column], besides: Iterable[str | None]) -> list[Column]:
    """Return the columns that can be the label: the ones of such a name, or all whose cells
    recur."""
    free = {name: column for name, column in columns.items() if name not in set(besides)}
    if found := [column for column in named(free, (*SPANS, *LABELS)) if column.filled]:
        return found[:1]
    return [
        column
        for column in free.values()
        if column.classes or column.spans or (column.numeric and not column.whole)
    ]


def find_flags(columns: Mapping[str, Column], besides: Iterable[str | None]) -> list[Column]:
    """Return the columns of 0 and 1, if there are several and no other column can be the label."""
    free = [column for name, column in columns.items() if name not in set(besides)]
    flags = [column for column in free if column.flags]
    others = [column for column in free if column.classes and not column.flags]
    return flags if len(flags) > 1 and not others else []


def find_split(columns: Mapping[str, Column]) -> Column | None:
    """Return the column that names train, validation or test."""
    for column in columns.values():
        values = {cell.lower() for cell in column.counts}
        if len(values) > 1 and values <= SPLIT_VALUES and values & {"train", "training"}:
            return column
    return None
