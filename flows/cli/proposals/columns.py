"""Roles of columns, recognised by their names and by a sample of their cells."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from pipeline.stages.ingest.stage import SPLIT_NAMES

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
    *(("left", "right"), ("anchor", "positive"), ("文本1", "文本2"), ("句子1", "句子2")),
    *(("a", "b"), ("text", "second"), ("#1 string", "#2 string"), ("query", "passage")),
)
GROUPS = (
    *("group", "author", "author_id", "user", "user_id", "username", "customer_id", "patient_id"),
    *("speaker", "speaker_id", "thread", "thread_id", "conversation_id", "dialogue_id", "session"),
    *("session_id", "document_id", "doc_id", "article_id", "ticket_id", "reviewer_id"),
    *("作者", "用户", "用户id", "auteur", "autor", "benutzer", "usuario"),
)
FEWEST_GROUPS = 20
QUERIES = ("query", "query_text", "question")
QUERY_IDS = ("query_id", "qid", "query-id", "q_id", "question_id")
CANDIDATES = ("candidate", "passage", "document", "doc", "answer", "product_title", "text")
GRADES = ("relevance", "grade", "rel", "relevant", "relevance_label", "label", "score")
TRANSLATIONS = (("source", "target"), ("src", "tgt"), ("src", "trg"), ("原文", "译文"))
LANGUAGE = re.compile(
    r"((text|sentence)[_-])?"
    r"(ar|bg|cs|da|de|el|en|es|et|fa|fi|fr|he|hi|hr|hu|id|it|ja|ko|lt|lv|nl|no|pl|pt|ro|ru|sk|sl|sr"
    r"|sv|th|tr|uk|ur|vi|zh|english|french|german|spanish|italian|chinese|japanese|russian)"
    r"([_-](text|sentence))?"
)
NUMBERED = re.compile(r"(.*?)[_ .-]?[12ab]")  # names of two texts of a pair
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
    def script(self) -> str:
        """Script of most of its letters, as Unicode names it, such as LATIN or CJK."""
        letters = [c for cell in self.filled[:200] for c in cell[:200] if c.isalpha()]
        names = Counter(unicodedata.name(c, "").split(" ")[0].split("-")[0] for c in letters)
        return names.most_common(1)[0][0] if names else ""

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
        """Cells as lists; None if one of them is none."""
        found = []
        for cell in self.filled:
            if not cell.startswith("[") or (names := self.listed(cell)) == [cell]:
                return None
            found.append(names)
        return found or None

    @staticmethod
    def listed(cell: str) -> list[Any]:
        """Return the entries of a list as JSON, Python or NumPy writes it; any other cell alone."""
        if not cell.startswith("["):
            return [cell]
        try:
            return list(json.loads(cell))
        except (ValueError, RecursionError):
            return re.findall(r"'([^']*)'", cell) if QUOTED.fullmatch(cell) else [cell]

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
            common = alone & parts or (separator in ";|" and len(parts) < 100)
            recur = len(parts) < self.distinct and common
            if several >= 0.02 * len(self.filled) and short and recur:
                return separator
        return None

    @cached_property
    def recurs(self) -> bool:
        """True if its cells recur as those of classes do."""
        limit = max(2, len(self.filled) / 2)
        return 2 <= self.distinct <= limit and self.longest <= LONGEST_CLASS

    @cached_property
    def classes(self) -> bool:
        """True if its cells recur and are no dates."""
        return self.recurs and (self.numeric or not all(map(DATE.match, self.counts)))

    def describe(self) -> str:
        values = f"{counted(self.distinct, 'value')} in {counted(len(self.filled), 'row')}"
        return f"{self.name!r}: {values}, {counted(self.longest, 'character')} at most"


def counted(number: int, what: str) -> str:
    """Return a number of things, such as 1 row, 2 rows or 2 classes."""
    plural = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{plural}"


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
    stems: dict[str, list[Column]] = {}
    for column in texts_of(columns):
        if match := NUMBERED.fullmatch(column.name.strip().lower()):
            stems.setdefault(match[1], []).append(column)
    return next(((two[0], two[1]) for two in stems.values() if len(two) == 2), None)


def find_text(columns: Mapping[str, Column], besides: Iterable[str | None] = ()) -> Column | None:
    """Return the column of the text: by its name, or the one with the longest cells."""
    texts = texts_of(columns, besides)
    found = named({column.name: column for column in texts}, TEXTS)
    return found[0] if found else max(texts, key=lambda column: column.mean, default=None)


def texts_of(columns: Mapping[str, Column], besides: Iterable[str | None] = ()) -> list[Column]:
    """Return the columns that can be a text."""
    hidden = set(besides)
    return [c for name, c in columns.items() if name not in hidden and _is_text(c)]


def _is_text(column: Column) -> bool:
    mostly_new = column.distinct > 0.3 * len(column.filled)
    objects = bool(column.filled) and all(cell.startswith("{") for cell in column.filled)
    return bool(column.filled) and mostly_new and not (column.numeric or column.lists or objects)


def find_labels(columns: Mapping[str, Column], besides: Iterable[str | None]) -> list[Column]:
    """Return the columns that can be the label: the ones of such a name, or all whose cells
    recur. Of two that always say the same, it is the one in words."""
    hidden = set(besides)
    free = {name: column for name, column in columns.items() if name not in hidden}
    if found := [column for column in named(free, (*SPANS, *LABELS)) if column.filled]:
        words = [c for c in free.values() if found[0].numeric and _names(c, found[0])]
        return words[:1] or found[:1]
    return [
        column
        for column in free.values()
        if column.classes or column.spans or (column.numeric and not column.whole)
    ]


def _names(column: Column, numbers: Column) -> bool:
    """True if a column holds the name of each number of another, such as label and label_text."""
    if column.numeric or numbers.name.lower() not in column.name.lower():
        return False
    pairs = set(zip(numbers.cells, column.cells, strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) > 1


def find_group(columns: Mapping[str, Column], besides: Iterable[str | None]) -> Column | None:
    """Return the column whose equal values belong together, by its name: many values, some of which
    recur, none in a tenth of the rows."""
    hidden = set(besides)
    for column in named({n: c for n, c in columns.items() if n not in hidden}, GROUPS):
        rows = len(column.filled)
        recur = FEWEST_GROUPS <= column.distinct < 0.95 * rows
        if recur and rows == len(column.cells) and max(column.counts.values()) <= rows / 10:
            return column
    return None


def find_ranking(columns: Mapping[str, Column]) -> tuple[Column, Column, Column, Column] | None:
    """Return the group, the query, the candidate and the grade of a ranking, by their names."""
    queries, candidates = named(columns, QUERIES), named(columns, CANDIDATES)
    grades = [c for c in named(columns, GRADES) if c.whole and c.distinct > 1]
    if not queries or not candidates or not grades:
        return None
    group = next(iter(named(columns, QUERY_IDS)), queries[0])
    recur = 1 < group.distinct < 0.7 * len(group.filled)
    return (group, queries[0], candidates[0], grades[0]) if recur else None


def find_translation(table: Mapping[str, Column]) -> tuple[Column, Column] | None:
    """Return a text and its translation: two columns that are named by languages or as source and
    target, or whose scripts differ."""
    texts = texts_of(table)
    for one, two in combinations(texts, 2):
        names = one.name.strip().lower(), two.name.strip().lower()
        if names in TRANSLATIONS or all(LANGUAGE.fullmatch(name) for name in names):
            return one, two
    if len(texts) == 2 and texts[0].script != texts[1].script:
        return texts[0], texts[1]
    return None


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
        if len(values) > 1 and values <= SPLIT_NAMES.keys() and values & {"train", "training"}:
            return column
    return None
