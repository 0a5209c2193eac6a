"""Source to Parquet: every row with a stable name, its place in the source and its split.

    python -m pipeline ingest news

Writes rows.parquet (id, text, label, split, group, file, line, and the carried columns),
rejects.parquet (file, line, reason, excerpt) and intake.json.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from pipeline.config import Settings
from pipeline.errors import UserError
from pipeline.files import sha256_of, whole
from pipeline.log import Log, no_log
from pipeline.records import SPLITS, Intake, Split
from pipeline.sources import Reject, Row, read_rows
from pipeline.text import content_id, normalised, position

ROW_COLUMNS = ("id", "text", "label", "split", "group", "file", "line")
REJECT_COLUMNS = ("file", "line", "reason", "excerpt")
TAKEN = {*ROW_COLUMNS, "reason", "truth", "answer", "confidence", "probabilities"}
SPLIT_NAMES: dict[str, Split] = {
    **{split: split for split in SPLITS},
    **dict.fromkeys(("valid", "val", "dev"), "validation"),
}
BATCH = 10_000  # rows


class IngestParams(Settings):
    source: str | dict[Split, str]
    """A file, a folder a label, `package:NAME/FOLDER`, or one of these for each split."""
    text: str
    """Column of the text."""
    label: str
    """Column of the label."""
    group: str | None
    """Column whose rows stay together in one split (an author, a thread, a document)."""
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
        if self.group and (self.split or isinstance(self.source, dict)):
            raise ValueError("group keeps rows together by hash: the source splits them already")
        if isinstance(self.source, dict) and (self.split or "train" not in self.source):
            raise ValueError("a source for each split needs one for train, and no split column")
        if clash := set(self.carry) & TAKEN:
            raise ValueError(f"carry cannot hold {sorted(clash)[0]!r}: the line uses that name")
        return self

    def sources(self) -> dict[Split | None, str]:
        if isinstance(self.source, str):
            return {None: self.source}
        return {split: source for split, source in self.source.items()}  # noqa: C416 - other type


def ingest(params: IngestParams, out: Path, *, log: Log = no_log) -> Intake:
    """Read every row of the source into `out`.

    Raises UserError for a source that is missing, empty or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rejects: list[Reject] = []
    counts: Counter[str] = Counter()
    columns = (*ROW_COLUMNS, *params.carry)
    types = {"line": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    rows_file = out / "rows.parquet"
    with whole(rows_file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in _rows(params, rejects):
            batch.append(row)
            counts[row["split"]] += 1
            if len(batch) == BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                log.say(f"{counts.total():,} rows read")
                batch.clear()
        writer.write_table(pa.Table.from_pylist(batch, schema))
        if not counts:
            where = f"{rejects[0].file}, line {rejects[0].number}" if rejects else params.source
            reason = f": all are unreadable, the first {rejects[0].reason}" if rejects else ""
            raise UserError(f"{where}: no rows{reason}")
    with whole(out / "rejects.parquet") as temporary:
        listing = [
            dict(zip(REJECT_COLUMNS, (r.file, r.number, r.reason, r.excerpt), strict=True))
            for r in rejects
        ]
        kinds = pa.schema([(name, types.get(name, pa.string())) for name in REJECT_COLUMNS])
        pq.write_table(pa.Table.from_pylist(listing, kinds), temporary)
    log.say(f"{counts.total():,} rows read, {len(rejects):,} cannot be decoded")
    return Intake(
        source=", ".join(
            f"{split}: {source}" if split else source for split, source in params.sources().items()
        ),
        rows=counts.total(),
        undecodable=len(rejects),
        by_split={split: counts[split] for split in SPLITS},
        rows_sha256=sha256_of(rows_file),
    ).write(out / "intake.json")


def _rows(params: IngestParams, rejects: list[Reject]) -> Iterator[dict[str, Any]]:
    named = (params.text, params.label, params.group, params.split, *params.carry)
    columns = tuple(dict.fromkeys(name for name in named if name))
    own_splits = set(params.sources()) - {None}
    seen: Counter[str] = Counter()
    for source_split, source in params.sources().items():
        for row in read_rows(source, columns):
            if isinstance(row, Reject):
                rejects.append(row)
                continue
            split = source_split
            if params.split:
                split = SPLIT_NAMES.get(row.fields.get(params.split, "").strip().lower())
                if split is None:
                    value = row.fields.get(params.split)
                    reason = f"its {params.split!r} is {value!r}, not train, validation or test"
                    rejects.append(Reject(row.file, row.number, reason))
                    continue
            yield _row(row, params, split, own_splits, seen)


def _row(
    row: Row,
    params: IngestParams,
    split: Split | None,
    own_splits: set[Split | None],
    seen: Counter[str],
) -> dict[str, Any]:
    text = row.fields.get(params.text, "")
    group = row.fields.get(params.group, "") if params.group else ""
    name = content_id(text)
    seen[name] += 1
    if split is None or (split == "train" and own_splits):
        split = hashed_split(group or normalised(text), params, own_splits)
    return {
        "id": name if seen[name] == 1 else f"{name}-{seen[name]}",
        "text": text,
        "label": row.fields.get(params.label, ""),
        "split": split,
        "group": group,
        "file": row.file,
        "line": row.number,
        **{column: row.fields.get(column, "") for column in params.carry},
    }


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
