"""Source to Parquet: every row with a stable name, its place in the source and its split.

    python -m pipeline ingest news

Writes rows.parquet (id, text, second, label, split, group, file, line, and the carried columns),
rejects.parquet (file, line, reason, excerpt) and intake.json. What people said of answers, as
`bertline labels` has taken it into data/labels/<recipe>.jsonl, comes after the source's own rows.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of, whole
from pipeline.core.locations import locate
from pipeline.core.log import Log, no_log
from pipeline.core.records import SPLITS, Intake, Split
from pipeline.core.text import both, content_id, excerpt, normalised, position
from pipeline.sources import Reject, Row, read_rows
from pipeline.sources.tables import read_json_lines
from pipeline.stages.ingest.params import ROW_COLUMNS, IngestParams, check
from pipeline.tasks.base import Task

REJECT_COLUMNS = ("file", "line", "reason", "excerpt")
SPLIT_NAMES: dict[str, Split] = {
    **{split: split for split in SPLITS},
    **dict.fromkeys(("valid", "val", "dev"), "validation"),
}
BATCH, LONGEST_BATCH = 10_000, 16_000_000  # rows; characters of their texts


def ingest(
    params: IngestParams,
    task: Task,
    out: Path,
    labels: Path | None = None,
    *,
    log: Log = no_log,
) -> Intake:
    """Read every row of the source, and of `labels` where there is such a file, into `out`.

    Raises UserError for a source that is missing, empty or lacks a column, and for a second text
    that the task has no use for, or lacks.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check(params, task)
    except ValueError as error:
        raise UserError(f"ingest.{error}") from None
    reader = Reader(params, task, labels)
    rejects = reader.rejects
    counts: Counter[str] = Counter()
    columns = (*ROW_COLUMNS, *params.carry)
    types = {"line": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    rows_file = out / "rows.parquet"
    with whole(rows_file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        batch: list[dict[str, Any]] = []
        characters = 0
        for row in reader.rows():
            batch.append(row)
            counts[row["split"]] += 1
            characters += len(row["text"]) + len(row["second"])
            if len(batch) == BATCH or characters >= LONGEST_BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                log.say(f"{counts.total():,} rows read")
                batch.clear()
                characters = 0
        writer.write_table(pa.Table.from_pylist(batch, schema))
        reader.require(counts.total())
    with whole(out / "rejects.parquet") as temporary:
        listing = [
            dict(zip(REJECT_COLUMNS, (r.file, r.number, r.reason, r.excerpt), strict=True))
            for r in rejects
        ]
        kinds = pa.schema([(name, types.get(name, pa.string())) for name in REJECT_COLUMNS])
        pq.write_table(pa.Table.from_pylist(listing, kinds), temporary)
    log.say(f"{counts.total():,} rows read, {len(rejects):,} cannot be used")
    return Intake(
        source=", ".join(
            f"{part.split}: {part.source}" if part.split else part.source for part in params.parts()
        ),
        rows=counts.total(),
        undecodable=len(rejects),
        by_split={split: counts[split] for split in SPLITS},
        rows_sha256=sha256_of(rows_file),
        labelled=reader.labelled,
    ).write(out / "intake.json")


@dataclass
class Reader:
    """All rows of a recipe's sources, as the line holds rows, and those of `labels` behind them:
    what comes back later renames and moves none of the others."""

    params: IngestParams
    task: Task
    labels: Path | None = None
    rejects: list[Reject] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    """Rows of `labels` so far."""

    def __post_init__(self) -> None:
        self.given = {part.split for part in self.params.parts()} - {None}
        self.names = read_names(self.params.label_names) if self.params.label_names else None

    def require(self, rows: int) -> None:
        """Raises UserError where none of so many rows that were read is of the source."""
        if rows == self.labelled:
            first = self.rejects[0] if self.rejects else None
            where = f"{first.file}, line {first.number}" if first else self.params.sources()[0]
            reason = f": all are unreadable, the first {first.reason}" if first else ""
            raise UserError(f"{where}: no rows{reason}")

    def rows(self) -> Iterator[dict[str, Any]]:
        params = self.params
        named = (
            *(params.text, params.second, params.label, params.group, params.split),
            *params.carry,
        )
        columns = tuple(dict.fromkeys(name for name in named if name))
        for part in params.parts():
            read = read_rows(part.source, columns, part.layout)
            yield from self._taken(read, partial(self._row, split=part.split), params.text)
        if self.labels and self.labels.exists():
            read = read_json_lines(self.labels, str(self.labels), ("text", "label"))
            for taken in self._taken(read, self._labelled, "text"):
                self.labelled += 1
                yield taken

    def _taken(
        self,
        read: Iterator[Row | Reject],
        taken: Callable[[Row], dict[str, Any]],
        text: str,
    ) -> Iterator[dict[str, Any]]:
        """What becomes of the rows that were read; `text` is the column that a reject shows."""
        for row in read:
            if isinstance(row, Reject):
                self.rejects.append(row)
                continue
            try:
                yield taken(row)
            except (ValueError, RecursionError) as error:  # the latter of lists in lists
                shown = excerpt(row.fields.get(text, ""))
                reason = " ".join(str(error).split())
                self.rejects.append(Reject(row.file, row.number, reason, shown))

    def _row(self, row: Row, split: Split | None) -> dict[str, Any]:
        """Raises ValueError for a row whose group, split or label is none."""
        params, cell = self.params, row.fields.get
        text = cell(params.text, "")
        second = cell(params.second, "") if params.second else ""
        group = cell(params.group, "") if params.group else ""
        if self.task.by_group and not group:
            raise ValueError(f"its {params.group!r} is empty: it belongs to no group")
        label = cell(params.label, "").strip() if params.label else ""
        if label or not self.task.labelled:
            label = self.task.label(self._named(label), text, second)
        if params.split:
            value = cell(params.split, "")
            split = SPLIT_NAMES.get(value.strip().lower())
            if split is None:
                shown = repr(excerpt(value))
                raise ValueError(f"its {params.split!r} is {shown}, not train, validation or test")
        whole_text = both(text, second)
        if split is None or (split == "train" and self.given):
            split = hashed_split(group or normalised(whole_text), params, self.given)
        carried = {column: cell(column, "") for column in params.carry}
        return self._held(row, (text, second), label, split, group, carried)

    def _labelled(self, row: Row) -> dict[str, Any]:
        """A row that people have labelled is of training, whatever hash or column would say: they
        send what struck them, and a score on that would be no estimate of anything.

        Raises ValueError for a row whose label is none.
        """
        text, second, label = (row.fields.get(name, "") for name in ("text", "second", "label"))
        label = label.strip()
        if bool(second) != self.task.two_texts:
            raise ValueError("it has a second text" if second else "it has no second text")
        if label:
            label = self.task.label(label, text, second)
        group = content_id(text) if self.task.by_group else ""
        carried = dict.fromkeys(self.params.carry, "")
        return self._held(row, (text, second), label, "train", group, carried)

    def _held(
        self,
        row: Row,
        texts: tuple[str, str],
        label: str,
        split: Split,
        group: str,
        carried: dict[str, str],
    ) -> dict[str, Any]:
        name = content_id(both(*texts))
        self.seen[name] += 1
        return {
            "id": name if self.seen[name] == 1 else f"{name}-{self.seen[name]}",
            "text": texts[0],
            "second": texts[1],
            "label": label,
            "split": split,
            "group": group,
            "file": row.file,
            "line": row.number,
            **carried,
        }

    def _named(self, cell: str) -> str:
        """A cell of numbers, with commas or as a JSON list, as the classes that they stand for: one
        for exclusive tasks, else a list of them in JSON."""
        if self.names is None:
            return cell
        shown = f"its {self.params.label!r} is {excerpt(cell)!r}"
        inside = cell[1:-1].strip() if cell.startswith("[") and cell.endswith("]") else cell
        parts = inside.split(",") if inside else []
        places = [int(part) if part.strip().isdecimal() else -1 for part in parts]
        if not all(0 <= place < len(self.names) for place in places):
            raise ValueError(
                f"{shown}, not numbers from 0 to {len(self.names) - 1}, the lines of"
                f" {self.params.label_names}"
            )
        classes = [self.names[place] for place in places]
        if not self.task.exclusive:
            return json.dumps(classes, ensure_ascii=False)
        if len(classes) != 1:
            raise ValueError(f"{shown}, where one class is meant")
        return classes[0]


def read_names(source: str) -> Sequence[str]:
    """The classes in a file, one a line. Raises UserError for one that is blank or there twice."""
    try:
        text = locate(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{source}: cannot be read ({error}): give a file with a class a line"
        ) from None
    names = [line.strip() for line in text.rstrip().split("\n")]
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            what = f"{excerpt(name)!r} stands there already" if name else "is blank"
            raise UserError(f"{source}, line {number}: {what}: give one class a line, each once")
    return names


def hashed_split(
    key: str, params: IngestParams, given: set[Split | None] | frozenset[Split] = frozenset()
) -> Split:
    """The split of a key, by hash alone: no other row can change it.

    Splits that the source gives itself are not drawn from its training rows.
    """
    test = 0.0 if "test" in given else params.test_percent / 100
    validation = 0.0 if "validation" in given else params.validation_percent / 100
    place = position(key)
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"
