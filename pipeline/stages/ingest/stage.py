"""Conversion of sources to Parquet, with a stable id, the origin and the split of each row.

    python -m pipeline ingest news

Writes rows.parquet (id, text, second, label, split, group, file, line, and the carried columns),
rejects.parquet (file, line, reason, excerpt) and intake.json. Labels from people's feedback, which
`bertline labels` collects in data/labels/<recipe>.jsonl, come after the source's own rows.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, parquet_batches, sha256_of
from pipeline.core.log import Log, no_log
from pipeline.core.records import SPLITS, Intake, Split
from pipeline.core.text import content_id, excerpt, join_texts, normalised, position
from pipeline.sources import Reject, Row, read_rows
from pipeline.sources.json_records import read_json
from pipeline.sources.remote import local_path
from pipeline.stages.ingest.params import ROW_COLUMNS, IngestParams, check
from pipeline.tasks.base import Task

ROWS = "rows.parquet"
REJECT_COLUMNS = ("file", "line", "reason", "excerpt")
SPLIT_NAMES: dict[str, Split] = {
    **{split: split for split in SPLITS},
    "training": "train",
    **dict.fromkeys(("valid", "val", "dev"), "validation"),
    "testing": "test",
}
FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("", "0", "0.0", "false", "no"), False),
}
TOKENS = "tokens"  # the format whose reader names the tags itself
BATCH, LONGEST_BATCH = 10_000, 16_000_000  # rows; characters of their texts


def ingest(
    params: IngestParams,
    task: Task,
    out: Path,
    labels: Path | None = None,
    *,
    log: Log = no_log,
) -> Intake:
    """Read every row of the source, and of the file `labels` if it exists, into `out`.

    Raises UserError for a source that is missing, empty or lacks a column, and for settings that do
    not fit the task.
    """
    try:
        check(params, task)
    except ValueError as error:
        raise UserError(f"ingest.{error}") from None
    reader = Reader(params, task, labels, log=log)
    counts = _write_rows(reader, out / ROWS, log)
    if params.split:
        counts = _draw_splits(reader, out / ROWS, counts, log)
    _write_rejects(reader.rejects, out / "rejects.parquet")
    log.info(f"{counts.total():,} rows read, {len(reader.rejects):,} cannot be used")
    intake = Intake(
        source=", ".join(
            f"{part.split}: {part.source}" if part.split else part.source for part in params.parts()
        ),
        rows=counts.total(),
        undecodable=len(reader.rejects),
        by_split={split: counts[split] for split in SPLITS},
        rows_sha256=sha256_of(out / ROWS),
        labelled=reader.labelled,
        doubts=reader.doubts,
        first_doubt=reader.first_doubt,
    )
    if intake.doubts:
        log.info(intake.doubtful())
    return intake.write(out / "intake.json")


def _write_rows(reader: "Reader", path: Path, log: Log) -> Counter[str]:
    """Write all rows of a reader, in batches, and return their number in each split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = (*ROW_COLUMNS, *reader.params.carry)
    types = {"line": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    counts: Counter[str] = Counter()
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        batch: list[dict[str, Any]] = []
        characters = 0
        for row in reader.rows():
            batch.append(row)
            counts[row["split"]] += 1
            characters += len(row["text"]) + len(row["second"])
            if len(batch) == BATCH or characters >= LONGEST_BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                log.info(f"{counts.total():,} rows read")
                batch.clear()
                characters = 0
        writer.write_table(pa.Table.from_pylist(batch, schema))
        reader.require(counts.total())
        reader.check_separator()
    return counts


def _draw_splits(reader: "Reader", path: Path, counts: Counter[str], log: Log) -> Counter[str]:
    """Draw the splits that the split column never names from its training rows. Returns the number
    of rows in each split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    params, provided = reader.params, {split for split in SPLITS if counts[split]}
    shares = {"validation": params.validation_percent, "test": params.test_percent}
    drawn = [split for split, percent in shares.items() if percent and split not in provided]
    if not drawn:
        return counts
    own, before, after = counts.total() - reader.labelled, 0, Counter[str]()
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, pq.read_schema(path)) as out:
        for batch in parquet_batches(path):
            splits = [
                hashed_split(_key(row["text"], row["second"], row["group"]), params, provided)
                if row["split"] == "train" and number < own
                else row["split"]
                for number, row in enumerate(batch.to_pylist(), before)
            ]
            place = batch.schema.get_field_index("split")
            out.write_batch(batch.set_column(place, "split", pa.array(splits, pa.string())))
            before += batch.num_rows
            after.update(splits)
    told = " and ".join(f"{after[split]:,} {split} rows" for split in drawn)
    log.info(f"the column {params.split!r} names none: {told} are drawn from its training rows")
    return after


def _write_rejects(rejects: Sequence[Reject], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = ((r.file, r.number, r.reason, r.excerpt) for r in rejects)
    listing = [dict(zip(REJECT_COLUMNS, each, strict=True)) for each in values]
    types = {"line": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in REJECT_COLUMNS])
    with atomic_write(path) as temporary:
        pq.write_table(pa.Table.from_pylist(listing, schema), temporary)


@dataclass
class Reader:
    """Reader of all rows of a recipe's sources in the pipeline's form, followed by those of
    `labels`, so that new labels change no id or split of the others."""

    params: IngestParams
    task: Task
    labels: Path | None = None
    rejects: list[Reject] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    """Number of rows of `labels` so far."""
    log: Log = no_log
    doubts: int = 0
    """Number of rows whose labels are well formed and doubtful; they are kept."""
    first_doubt: str = ""
    classes: Counter[str] = field(default_factory=Counter)
    """Names in the labels of a multi-label task."""

    def __post_init__(self) -> None:
        self.provided = {part.split for part in self.params.parts()} - {None}
        self.names = read_names(self.params.label_names) if self.params.label_names else None

    def require(self, rows: int) -> None:
        """Raise UserError if none of the `rows` that were read is from the source itself."""
        if rows == self.labelled:
            first = self.rejects[0] if self.rejects else None
            where = f"{first.file}, line {first.number}" if first else self.params.sources()[0]
            reason = f": all are unreadable, the first {first.reason}" if first else ""
            raise UserError(f"{where}: no rows{reason}")

    def check_separator(self) -> None:
        """Raise UserError if the names of classes are lists in another notation: then cutting them
        at a sign makes fewer names."""
        for sign in ";|" if not self.params.separator else "":
            several = [name for name in self.classes if sign in name]
            parts = {part.strip() for name in self.classes for part in name.split(sign)}
            if several and len(parts) < len(self.classes):
                raise UserError(
                    f"{self.params.sources()[0]}: {len(several):,} of {len(self.classes):,} classes"
                    f" hold {sign!r}, such as {excerpt(several[0], 40)!r}: set ingest.separator to"
                    f" {sign!r}, or to ',' if these are names"
                )

    def rows(self) -> Iterator[dict[str, Any]]:
        params = self.params
        for part in params.parts():
            layout, names = part.layout, self.names
            if layout.format == TOKENS:
                layout, names = replace(layout, tags=tuple(names or ())), None
            rows = read_rows(part.source, params.columns(), layout, self.log)
            convert = partial(self._row, split=part.split, names=names)
            yield from self._converted(rows, convert, params.text)
        if self.labels and self.labels.exists():
            rows = read_json(self.labels, str(self.labels), ("text", "label"))
            for row in self._converted(rows, self._labelled, "text"):
                self.labelled += 1
                yield row

    def _converted(
        self,
        rows: Iterator[Row | Reject],
        convert: Callable[[Row], dict[str, Any]],
        text: str,
    ) -> Iterator[dict[str, Any]]:
        """Yield the converted rows and collect the rejects, which show the column `text`."""
        for row in rows:
            if isinstance(row, Reject):
                self.rejects.append(row)
                continue
            try:
                yield convert(row)
            except (ValueError, RecursionError) as error:  # RecursionError: nested JSON lists
                shown = excerpt(row.fields.get(text, ""))
                reason = " ".join(str(error).split())
                self.rejects.append(Reject(row.file, row.number, reason, shown))

    def _row(
        self, row: Row, split: Split | None, names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Convert a row of the source; `names` are those of the numbers in its label. Raises
        ValueError for an invalid group, split or label."""
        params, cell = self.params, row.fields.get
        text = cell(params.text, "")
        second = cell(params.second, "") if params.second else ""
        group = cell(params.group, "") if params.group else ""
        if self.task.by_group and not group:
            raise ValueError(f"its {params.group!r} is empty: it belongs to no group")
        label = self._label_cell(row)
        if label and params.offsets == "utf-16":
            label = self.task.in_characters(label, text, second)
        if label or not self.task.labelled:
            label = self.task.label(self._class_names(label, names), text, second)
        if doubt := self.task.doubt(label, text, second) if label else None:
            self.doubts += 1
            self.first_doubt = self.first_doubt or f"{row.file}, line {row.number}: {doubt}"
        if self.task.many_classes and label:
            self.classes.update(self.task.classes(label))
        if params.split:
            value = cell(params.split, "")
            split = SPLIT_NAMES.get(value.strip().lower())
            if split is None:
                shown = repr(excerpt(value))
                raise ValueError(f"its {params.split!r} is {shown}, not train, validation or test")
        if split is None or (split == "train" and self.provided):
            split = hashed_split(_key(text, second, group), params, self.provided)
        carried = {column: cell(column, "") for column in params.carry}
        return self._record(row, (text, second), label, split, group, carried)

    def _label_cell(self, row: Row) -> str:
        """Return the cell of the label, or the classes of several cells as a JSON list."""
        label = self.params.label
        if isinstance(label, list):
            names = [name for name in label if _flag(name, row.fields.get(name, ""))]
            return json.dumps(names, ensure_ascii=False)
        cell = row.fields.get(label, "").strip() if label else ""
        if cell.startswith("{") and (self.task.many_classes or self.task.exclusive):
            cell = _as_list(cell)
        if self.params.separator and cell and not cell.startswith("["):
            parts = [part.strip() for part in cell.split(self.params.separator)]
            parts = [part for part in parts if part]
            return ",".join(parts) if self.names else json.dumps(parts, ensure_ascii=False)
        return cell

    def _labelled(self, row: Row) -> dict[str, Any]:
        """Convert a row of `labels`, always to the training split: people report answers that
        struck them, so a score on these rows would be biased.

        Raises ValueError for an invalid label.
        """
        text, second, label = (row.fields.get(name, "") for name in ("text", "second", "label"))
        label = label.strip()
        if bool(second) != self.task.two_texts:
            raise ValueError("it has a second text" if second else "it has no second text")
        if label:
            label = self.task.label(label, text, second)
        group = content_id(text) if self.task.by_group else ""
        carried = dict.fromkeys(self.params.carry, "")
        return self._record(row, (text, second), label, "train", group, carried)

    def _record(
        self,
        row: Row,
        texts: tuple[str, str],
        label: str,
        split: Split,
        group: str,
        carried: dict[str, str],
    ) -> dict[str, Any]:
        name = content_id(join_texts(*texts))
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

    def _class_names(self, cell: str, names: Sequence[str] | None) -> str:
        """Convert a cell of numbers (with commas or as a JSON list) to names of classes: to one for
        exclusive tasks, else to a JSON list."""
        if names is None:
            return cell
        shown = f"its {self.params.label!r} is {excerpt(cell)!r}"
        inside = cell[1:-1].strip() if cell.startswith("[") and cell.endswith("]") else cell
        parts = inside.split(",") if inside else []
        places = [int(part) if part.strip().isdecimal() else -1 for part in parts]
        if not all(0 <= place < len(names) for place in places):
            raise ValueError(
                f"{shown}, not numbers from 0 to {len(names) - 1}, the lines of"
                f" {self.params.label_names}"
            )
        classes = [names[place] for place in places]
        if not self.task.exclusive:
            return json.dumps(classes, ensure_ascii=False)
        if len(classes) > 1:
            raise ValueError(f"{shown}, where one class is expected")
        return classes[0] if classes else ""


def _as_list(cell: str) -> str:
    """Return the classes of a JSON object as a JSON list: several choices in Label Studio's
    JSON-MIN or CSV, or 1 or 0 for each class, as in spaCy's `cats`. Other cells stay."""
    try:
        found = json.loads(cell)
    except ValueError:
        return cell
    match found:
        case {"choices": list(names)}:
            return json.dumps(names, ensure_ascii=False)
        case {**flags} if flags and all(flag in (0, 1) for flag in flags.values()):
            return json.dumps([name for name, flag in flags.items() if flag], ensure_ascii=False)
    return cell


def _flag(column: str, cell: str) -> bool:
    """Return True if a row has the class of a column. Raises ValueError for other cells."""
    value = cell.strip().lower()
    if value not in FLAGS:
        raise ValueError(f"its {column!r} is {excerpt(cell)!r}, not 0, 1, true or false")
    return FLAGS[value]


def read_names(source: str) -> Sequence[str]:
    """Read the classes in a file, one a line. Raises UserError for a blank or repeated one."""
    try:
        text = local_path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{source}: cannot be read ({error}): give a file with a class a line"
        ) from None
    names = [line.strip() for line in text.rstrip().split("\n")]
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            problem = f"{excerpt(name)!r} is there already" if name else "is blank"
            raise UserError(f"{source}, line {number}: {problem}: give one class a line, each once")
    return names


def _key(text: str, second: str, group: str) -> str:
    """Return what decides the split of a row: equal texts, and rows of a group, stay together."""
    return group or normalised(join_texts(text, second))


def hashed_split(key: str, params: IngestParams, provided: Collection[Split | None] = ()) -> Split:
    """Return the split of a key by its hash, independent of other rows.

    No training row is drawn into a split that the source itself provides.
    """
    test = 0.0 if "test" in provided else params.test_percent / 100
    validation = 0.0 if "validation" in provided else params.validation_percent / 100
    place = position(key)
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"
