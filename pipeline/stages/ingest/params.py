"""Parameters of ingest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from pipeline.core.config import Settings
from pipeline.core.records import SPLITS, Split
from pipeline.sources import Format, Layout
from pipeline.sources.encodings import known
from pipeline.tasks.base import Task

ROW_COLUMNS = ("id", "text", "second", "label", "split", "group", "file", "line")
ADDED = ("truth", "answer", "confidence", "whole", "scores", "far", "characters")  # by evaluate
TAKEN = {*ROW_COLUMNS, "reason", *ADDED}


class Part(NamedTuple):
    """Source of rows."""

    split: Split | None
    """Split of its rows; None if a hash or a column decides."""
    source: str
    layout: Layout


class IngestParams(Settings):
    source: str | list[str] | dict[Split, str | list[str]]
    """File, folder (docs/TASKS.md), `package:NAME/FOLDER`, URL, data set `hub:NAME@REVISION` or one
    of its configurations `hub:NAME@REVISION:CONFIGURATION`, a list of these, or one of all this for
    each split."""
    format: Format | list[Format | None] | dict[Split, Format | list[Format | None] | None] | None
    """`conll` (tokens and tags in columns), `conll_documents` (the same, a document a row), `squad`
    (SQuAD's JSON), `word_tags` (a text a line as word/tag), `tagged_lines` (a text a line, a tab
    and its tags), `lines` (a text a line, a file a label), `documents` (separated by blank lines),
    `parallel` (a file a language, a text a line), `tokens` (JSON or Parquet with lists of tokens
    and tags), `token_rows` (a table with a row for each token), or JSON that an annotation tool
    exports: `label_studio`, `doccano`, `prodigy` or `argilla`, or `brat` (a folder of .txt and .ann
    files); null goes by the file's extension. One format for all sources, one for each split, or a
    list as long as a list of sources."""
    header: list[str] | None
    """Column names of a CSV or TSV file that has no header line; null takes its first line."""
    quotes: bool
    """True if quotes enclose fields of a CSV or TSV file; else a quote is a plain character."""
    encoding: str
    """Character encoding of text files, such as utf-8, utf-16, gb18030 or cp1252."""
    delimiter: str | None = Field(min_length=1, max_length=1)
    """Character between the fields of a CSV or TSV file; null finds it."""
    text: str
    """Column of the text."""
    second: str | None
    """Column of the second text, for tasks that have two."""
    label: str | list[str] | None
    """Column of the label; null for tasks whose rows have none. In multi-label tasks also a list of
    columns that are classes, with 1 or true where the row has the class, and 0, false or nothing
    where not."""
    separator: str | None = Field(min_length=1)
    """Text between the classes of a cell, in multi-label tasks; null for commas or a JSON list."""
    offsets: Literal["characters", "utf-16"]
    """Unit of the positions in labels: characters, or UTF-16 code units, which JavaScript counts.
    They differ behind emoji."""
    label_names: str | None
    """File with a class a line, if label cells are line numbers from 0 on (several as a JSON list
    or with commas); null if cells hold the label itself."""
    group: str | None
    """Column whose equal values (an author, a thread, a document) keep rows in one split, if the
    split is drawn."""
    split: str | None
    """Column that names train, validation or test. A split that it never names is drawn from the
    training rows."""
    carry: list[str]
    """Further columns to keep, for slices."""
    validation_percent: float = Field(ge=0, lt=100)
    test_percent: float = Field(ge=0, lt=100)
    """Shares of the rows, drawn by hash, if the source does not split them itself: of the training
    rows, if it has no other split of that name."""

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
        if not known(self.encoding):
            raise ValueError(f"encoding: Python knows no encoding {self.encoding!r}")
        for split, sources in self._by_split().items():
            formats = self._formats(split)
            if not sources:
                raise ValueError("a list of sources names one at least")
            if isinstance(formats, list) and (
                isinstance(sources, str) or len(formats) != len(sources)
            ):
                raise ValueError("a list of formats needs a list of as many sources")
        if clash := set(self.carry) & TAKEN:
            raise ValueError(f"carry cannot hold {sorted(clash)[0]!r}: the pipeline uses that name")
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
        """Return all sources. If they have formats of their own, header and quotes apply to those
        without a format, which go by their extension."""
        header = tuple(self.header) if self.header else None
        one = self.format is None or isinstance(self.format, str)
        parts = []
        for split, given in self._by_split().items():
            sources, formats = given if isinstance(given, list) else [given], self._formats(split)
            each = formats if isinstance(formats, list) else [formats] * len(sources)
            for source, form in zip(sources, each, strict=True):
                layout = Layout(form, encoding=self.encoding, utf16=self.offsets == "utf-16")
                if one or not form:
                    quotes, delimiter = self.quotes, self.delimiter
                    layout = replace(layout, header=header, quotes=quotes, delimiter=delimiter)
                parts.append(Part(split, source, layout))
        return parts

    def sources(self) -> list[str]:
        return [part.source for part in self.parts()]

    def columns(self) -> tuple[str, ...]:
        """Return the columns that are read, each once."""
        labels = self.label if isinstance(self.label, list) else [self.label]
        names = (self.text, self.second, *labels, self.group, self.split, *self.carry)
        return tuple(dict.fromkeys(name for name in names if name))


def check(params: IngestParams, task: Task) -> None:
    """Raise ValueError, beginning with the key, for settings that do not fit the task."""
    if task.two_texts and not params.second:
        raise ValueError(f"second: {task.name} reads two texts: name the column of the second")
    if params.second and not task.two_texts:
        raise ValueError(f"second: {task.name} reads one text: set it to null")
    if task.labelled and not params.label:
        raise ValueError(f"label: {task.name} learns labels: name their column")
    if params.label and not task.labelled:
        raise ValueError(f"label: {task.name} learns from texts alone: set it to null")
    if isinstance(params.label, list) and not task.many_classes:
        raise ValueError(f"label: {task.name} reads one column: name one, not a list")
    if params.separator and (not task.many_classes or isinstance(params.label, list)):
        raise ValueError("separator: is for multi-label tasks whose label is a column of lists")
    if params.offsets != "characters" and not task.offsets:
        raise ValueError(f"offsets: labels of {task.name} have no positions: set it to characters")
    if task.by_group and not params.group:
        raise ValueError(f"group: {task.name} is scored by group: name the column that groups rows")
    drawn = not {part.split for part in params.parts()} >= set(SPLITS)
    if params.group and not drawn and not task.by_group:
        raise ValueError("group: keeps rows together by hash: the source splits them already")
