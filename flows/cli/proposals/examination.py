"""Examination of all rows by the rules of validate, in parts, so that memory stays bounded."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.core.files import parquet_batches
from pipeline.core.log import Log
from pipeline.core.records import SPLITS
from pipeline.core.text import join_texts, normalised
from pipeline.stages.ingest.stage import ROWS
from pipeline.stages.validate import label_notes, shortfalls
from pipeline.stages.validate.findings import Examination, Place, examine
from pipeline.stages.validate.params import ValidateParams
from pipeline.stages.validate.survey import digest
from pipeline.tasks.base import Task

PART = 150_000  # rows
FLUSHED = 2000  # rows of a part that are written at once
UNKNOWN = "unknown_label"


@dataclass
class Flagged:
    """Rows that one rule flags."""

    policy: str
    first: Place
    rows: int = 0
    refused: int = 0
    """Rows that stop the run."""


@dataclass
class Examined:
    """Findings of the rules on all rows, added up over their parts."""

    rows: int = 0
    rules: dict[str, Flagged] = field(default_factory=dict)
    fates: Counter[str] = field(default_factory=Counter)
    """Rows that each rule sets aside; "" counts the kept ones."""
    missing: list[str] = field(default_factory=list)
    """Sentences on what is missing besides, which stops the run."""
    notes: list[str] = field(default_factory=list)
    """Sentences on classes that are likely mistakes."""

    def add(self, rule: str, policy: str, rows: int, refused: int, first: Place) -> None:
        """Add rows that a rule flags in a part."""
        known = self.rules.setdefault(rule, Flagged(policy, first))
        known.rows += rows
        known.refused += refused
        known.first = min(known.first, first, key=lambda place: (place.file, place.line))


def examined(params: ValidateParams, task: Task, folder: Path, log: Log) -> Examined:
    """Examine the rows that ingest wrote into a folder.

    More rows than PART are examined in parts, into which the rows of the folder are moved. Equal
    texts are in the same part. Near copies are then searched only if they stop the run.
    """
    import pyarrow.parquet as pq

    total = pq.read_metadata(folder / ROWS).num_rows
    if total <= PART:
        examination = examine(params, task, folder, log)
        found = Examined()
        _add(found, examination)
        anyhow = params.model_copy(update={"max_quarantine_percent": 100.0})
        found.missing = replace(examination, params=anyhow).shortfalls()
        found.notes = examination.notes()
        return found
    parts = Parts(folder, -(-total // PART), task)
    log.info(f"examining {parts.number} parts")
    parts.write()
    return _merged(params, parts, log)


def _merged(params: ValidateParams, parts: "Parts", log: Log) -> Examined:
    found = Examined()
    kept: Counter[str] = Counter()
    near = params.rules.near_duplicate == "fail"
    counts: list[tuple[label_notes.Counts, label_notes.Counts]] = []
    for part in parts.folders:
        examination = examine(params, parts.task, part, log, near=near)
        (part / ROWS).unlink()
        _add(found, examination, without=UNKNOWN)
        kept.update(examination.kept["split"])
        counts.append((examination.counts(examination.frame), examination.counts(examination.kept)))
    policy = params.rules.unknown_label
    for rows, first in parts.unknown():
        found.add(UNKNOWN, policy, rows, rows * (policy == "fail"), first)
    every, left = (_sum(each) for each in zip(*counts, strict=True))
    few = [split for split in SPLITS if kept[split] < params.min_rows]
    found.missing = [shortfalls.split(split, kept[split], params.min_rows) for split in few]
    found.notes = label_notes.notes(every, left, parts.task.exclusive)
    where = "searched within parts of them here" if near else "left to validate"
    found.notes.append(f"near copies are {where}, since the rows are many")
    return found


def _add(found: Examined, examination: Examination, without: str = "") -> None:
    """Add the rows of a part and what the rules say of them."""
    found.rows += len(examination.frame)
    found.fates.update(examination.frame["fate"])
    for finding in examination.findings():
        if finding.rule != without:
            first = finding.first[0]
            found.add(finding.rule, finding.policy, finding.rows, finding.refused, first)


def _sum(parts: Sequence[label_notes.Counts]) -> label_notes.Counts:
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for name, by_split in part.items():
            total.setdefault(name, Counter()).update(by_split)
    return total


class Parts:
    """Rows of a folder in several folders, by a hash of their normalised texts."""

    def __init__(self, folder: Path, number: int, task: Task) -> None:
        self.folder, self.number, self.task = folder, number, task
        self.folders: list[Path] = []
        """Folders of the parts that have rows, once they are written."""
        self.trained: set[str] = set()
        """Classes of the training rows."""
        self.others: dict[str, tuple[int, Place]] = {}
        """Rows of each class in other splits, and the first one."""

    def write(self) -> None:
        """Move the rows into the folders."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pq.read_schema(self.folder / ROWS)
        pending: list[list[dict[str, Any]]] = [[] for _ in range(self.number)]
        writers: dict[int, pq.ParquetWriter] = {}

        def write(place: int) -> None:
            if place not in writers:
                self.folders.append(self.folder / str(place))
                self.folders[-1].mkdir()
                writers[place] = pq.ParquetWriter(self.folders[-1] / ROWS, schema)
            writers[place].write_table(pa.Table.from_pylist(pending[place], schema))
            pending[place].clear()

        for batch in parquet_batches(self.folder / ROWS):
            for row in batch.to_pylist():
                place = digest(normalised(join_texts(row["text"], row["second"]))) % self.number
                pending[place].append(row)
                self._count(row)
                if len(pending[place]) == FLUSHED:
                    write(place)
        for place, rows in enumerate(pending):
            if rows:
                write(place)
        for writer in writers.values():
            writer.close()
        (self.folder / ROWS).unlink()
        rejects = self.folder / "rejects.parquet"
        for part in self.folders[1:]:
            pq.write_table(pq.read_schema(rejects).empty_table(), part / rejects.name)
        rejects.replace(self.folders[0] / rejects.name)

    def _count(self, row: Mapping[str, Any]) -> None:
        names = self.task.classes(row["label"]) if row["label"] else ()
        if row["split"] == "train":
            self.trained.update(names)
            return
        for name in names:
            label = f"label {name!r} is in no training row"
            rows, first = self.others.get(name, (0, Place(row["file"], row["line"], label)))
            self.others[name] = rows + 1, first

    def unknown(self) -> Iterator[tuple[int, Place]]:
        """Yield the rows of each class that no training row has, and the first one."""
        for name, (rows, first) in self.others.items():
            if name not in self.trained:
                yield rows, first
