"""Parameters of ingest."""

from collections.abc import Mapping
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from pipeline.core.config import Settings
from pipeline.core.records import SPLITS, Split
from pipeline.sources import Format, Layout
from pipeline.tasks.base import Task

ROW_COLUMNS = ("id", "text", "second", "label", "split", "group", "file", "line")
ADDED = ("truth", "answer", "confidence", "whole", "scores", "far", "characters")  # by evaluate
TAKEN = {*ROW_COLUMNS, "reason", *ADDED}


class Part(NamedTuple):
    """A source of rows."""

    split: Split | None
    """None where rows are parted by hash or by a column."""
    source: str
    layout: Layout


class IngestParams(Settings):
    source: str | list[str] | dict[Split, str | list[str]]
    """A file, a folder a label, `package:NAME/FOLDER`, a list of these, or as much for each
    split."""
    format: Format | list[Format | None] | dict[Split, Format | list[Format | None] | None] | None
    """`conll` (tokens and tags in columns), `conll_documents` (the same, a document a row), `squad`
    (its JSON), `word_tags` (a text a line as word/tag), `lines` (a text a line, a file a label) or
    `documents` (with blank lines between them) or `parallel` (a file a language, a text a line);
    null goes by the file's extension. One for all, or for each split, or a list beside a list of
    sources."""
    header: list[str] | None
    """Column names of a CSV or TSV file that has no header line; null takes its first line."""
    quotes: bool
    """Whether quotes enclose fields of a CSV or TSV file; if not, a quote is a plain character."""
    text: str
    """Column of the text."""
    second: str | None
    """Column of the second text, for tasks that have two."""
    label: str | None
    """Column of the label; null for tasks whose rows have none."""
    label_names: str | None
    """A file with a class a line, where cells of the label are numbers of its lines from 0 on,
    several as a JSON list or with commas; null where they say the label itself."""
    group: str | None
    """Column whose rows stay together (an author, a thread, a document) where a split is drawn."""
    split: str | None
    """Column that already says train, validation or test."""
    carry: list[str]
    """More columns to keep, for slices."""
    validation_percent: float = Field(ge=0, lt=100)
    test_percent: float = Field(ge=0, lt=100)
    """Shares of the rows, by hash, where the source does not split them itself."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.validation_percent + self.test_percent >= 100:
            raise ValueError("validation_percent and test_percent leave nothing to train on")
        if isinstance(self.source, dict) and (self.split or "train" not in self.source):
            raise ValueError("a source for each split needs one for train, and no split column")
        if isinstance(self.format, dict) and (
            isinstance(self.source, str) or set(self.format) != set(self.source)
        ):
            raise ValueError("a format for each split needs a source for each of these splits")
        for split, sources in self._by_split().items():
            formats = self._formats(split)
            if not sources:
                raise ValueError("a list of sources names one at least")
            if isinstance(formats, list) and (
                isinstance(sources, str) or len(formats) != len(sources)
            ):
                raise ValueError("a list of formats needs a list of as many sources")
        if clash := set(self.carry) & TAKEN:
            raise ValueError(f"carry cannot hold {sorted(clash)[0]!r}: the line uses that name")
        return self

    def _by_split(self) -> Mapping[Split | None, str | list[str]]:
        if isinstance(self.source, dict):
            return {split: sources for split, sources in self.source.items()}  # noqa: C416 - type
        return {None: self.source}

    def _formats(self, split: Split | None) -> Format | list[Format | None] | None:
        if isinstance(self.format, dict):
            return self.format.get(split) if split else None
        return self.format

    def parts(self) -> list[Part]:
        """All sources. Where they have formats of their own, header and quotes are of those that go
        by their extension."""
        header = tuple(self.header) if self.header else None
        one = self.format is None or isinstance(self.format, str)
        found = []
        for split, given in self._by_split().items():
            sources, formats = given if isinstance(given, list) else [given], self._formats(split)
            each = formats if isinstance(formats, list) else [formats] * len(sources)
            for source, form in zip(sources, each, strict=True):
                named = Layout(form) if form and not one else Layout(form, header, self.quotes)
                found.append(Part(split, source, named))
        return found

    def sources(self) -> list[str]:
        return [part.source for part in self.parts()]


def check(params: IngestParams, task: Task) -> None:
    """Raises ValueError, beginning with the key, for what the task lacks or has no use of."""
    if task.two_texts and not params.second:
        raise ValueError(f"second: {task.name} reads two texts: name the column of the second")
    if params.second and not task.two_texts:
        raise ValueError(f"second: {task.name} reads one text: set it to null")
    if task.labelled and not params.label:
        raise ValueError(f"label: {task.name} learns labels: name their column")
    if params.label and not task.labelled:
        raise ValueError(f"label: {task.name} learns from texts alone: set it to null")
    if task.by_group and not params.group:
        raise ValueError(f"group: {task.name} is scored by group: name the column that groups rows")
    drawn = params.split is None and not {part.split for part in params.parts()} >= set(SPLITS)
    if params.group and not drawn and not task.by_group:
        raise ValueError("group: keeps rows together by hash: the source splits them already")
