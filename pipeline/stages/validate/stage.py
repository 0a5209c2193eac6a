"""Checks of the rows before training.

    python -m pipeline validate news

Each rule flags rows in a column of its own. The recipe sets the policy of each rule: `fail` stops
the pipeline, `quarantine` sets the row aside, `warn` counts it. A Great Expectations suite then
checks that the kept rows can be trained on. Writes kept.parquet, report.csv (one line for each
flagged row and rule), validation.json and the suite's Data Docs in docs/.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, parquet_batches, write_csv
from pipeline.core.log import Log, no_log
from pipeline.core.records import SPLITS, Validation
from pipeline.core.text import excerpt
from pipeline.stages.validate.expectations import Outcome, assert_suite, training_suite
from pipeline.stages.validate.findings import Examination, examine
from pipeline.stages.validate.params import RULES, ValidateParams
from pipeline.stages.validate.refusal import refusal, shortage
from pipeline.stages.validate.survey import BATCH
from pipeline.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

POOL = 1000  # texts of a split that can be the second text of others
NEAR = 16  # texts of similar length among which the second text is drawn


def validate(
    params: ValidateParams, task: Task, ingest: Path, out: Path, *, log: Log = no_log
) -> Validation:
    """Flag rows, set some aside and check the rest.

    Raises UserError, which names every rule with the policy `fail` that flags rows and its first
    row, and if an expectation is not met; the report and the Data Docs are written even then.
    """
    rows, report = ingest / "rows.parquet", out / "report.csv"
    found = examine(params, task, ingest, log)
    frame, policies, labels, kept = found.frame, found.policies, found.labels, found.kept
    notes = found.notes()
    for note in notes:
        log.info(note)
    _write_report(frame, policies, rows, report)
    if refused := refusal(found, report):
        raise UserError(refused)

    log.info("asserting the Great Expectations suite")
    suite = training_suite(
        labels=labels if task.exclusive else None,
        labelled=task.labelled,
        max_characters=None if params.rules.too_long == "warn" else params.max_characters,
        min_rows=params.min_rows,
        fewest_kept=found.fewest_kept,
        clean_flags=[rule for rule in RULES if policies[rule] != "warn"],
    )
    outcome = assert_suite(suite, kept, of=len(frame), docs=out / "docs")
    if outcome.met < outcome.asserted:
        raise UserError(shortage(found, report, outcome.unmet))

    _write_kept(rows, kept, task.with_neighbour, out / "kept.parquet")
    by_label = _by_label(kept, found.classes, labels)
    record = _record(found, by_label, outcome, notes)
    log.info(f"{record.kept:,} of {record.rows:,} rows kept, {record.quarantined:,} set aside")
    return record.write(out / "validation.json")


def _by_label(
    kept: "pd.DataFrame", classes: Mapping[str, Sequence[str]], labels: Sequence[str]
) -> dict[str, int]:
    """Count the occurrences of each class in the kept rows."""
    counts = Counter(dict.fromkeys(labels, 0))
    for label, rows in kept["label"].value_counts().items():
        for name in classes.get(str(label), ()):
            counts[name] += int(rows)
    return dict(counts)


def _write_report(frame: "pd.DataFrame", policies: dict[str, str], rows: Path, path: Path) -> None:
    header = ("id", "file", "line", "split", "label", "rule", "policy", "reason", "excerpt")
    flagged = set(frame.index[frame[list(RULES)].any(axis=1) & ~frame["undecodable"]])
    excerpts = {place: excerpt(text) for place, text in _first_texts(rows) if place in flagged}
    write_csv(path, header, _report_rows(frame, policies, excerpts))


def _first_texts(rows: Path) -> Iterator[tuple[int, str]]:
    batches = parquet_batches(rows, BATCH, ["text"])
    return enumerate(text for batch in batches for text in batch["text"].to_pylist())


def _report_rows(
    frame: "pd.DataFrame", policies: dict[str, str], excerpts: Mapping[int, str]
) -> Iterator[tuple[Any, ...]]:
    for rule in RULES:
        for row in frame[frame[rule]].reset_index(names="at").to_dict("records"):
            reason = row["reason"] or (f"copy in {row['leaks_to']}" if row["leaks_to"] else "")
            if rule == "unknown_label":
                reason = f"class {row['outside']!r}"
            columns = (row[name] for name in ("id", "file", "line", "split", "label"))
            yield (*columns, rule, policies[rule], reason, excerpts.get(row["at"], row["shown"]))


def _write_kept(rows: Path, kept: "pd.DataFrame", with_neighbour: bool, path: Path) -> None:
    """Write the kept rows unchanged or, `with_neighbour`, with the text of another row of the split
    as second text of validation and test rows; it is empty if there is no other text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(rows)
    neighbours = _neighbours(kept[kept["split"] != "train"]) if with_neighbour else {}
    needed = set(neighbours.values())
    texts = {place: text for place, text in _first_texts(rows) if place in needed} if needed else {}
    keep = np.zeros(pq.read_metadata(rows).num_rows, dtype=bool)
    keep[kept.index] = True
    start = 0
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for batch in parquet_batches(rows, BATCH):
            places = start + np.flatnonzero(keep[start : start + batch.num_rows])
            own = pa.Table.from_batches([batch]).take(places - start)
            start += batch.num_rows
            if with_neighbour:
                seconds = [texts[neighbours[p]] if p in neighbours else "" for p in places.tolist()]
                column = own.schema.get_field_index("second")
                own = own.set_column(column, "second", pa.array(seconds, pa.string()))
            writer.write_table(own)


def _neighbours(rows: "pd.DataFrame") -> dict[int, int]:
    """Pair each row with another of its split, by position: with another text, and of another group
    if there is one.

    The neighbour is one of NEAR texts of similar length, out of POOL texts of the split, or else
    the next longer one that is allowed. The draw goes by digests of texts, not by the order of the
    file, which may be sorted so that neighbouring rows have one subject.
    """
    found: dict[int, int] = {}
    for _, own in rows.groupby("split"):
        pool = own.drop_duplicates("key").nsmallest(POOL, "key")
        pool = pool.sort_values("most_characters", kind="stable")
        near = min(NEAR, len(pool))
        first = np.searchsorted(pool["most_characters"], own["most_characters"]) - near // 2
        first = first.clip(0, len(pool) - near)
        keys, groups = own["key"].to_numpy(), own["group"].to_numpy()
        left = np.arange(len(own))
        for apart, step in product((True, False), range(len(pool))):
            further = (keys[left] + step) % near if step < near else step
            at = (first[left] + further) % len(pool)
            fits = pool["key"].to_numpy()[at] != keys[left]
            if apart:
                fits &= (groups[left] == "") | (pool["group"].to_numpy()[at] != groups[left])
            pairs = own.index[left[fits]].tolist(), pool.index[at[fits]].tolist()
            found.update(zip(*pairs, strict=True))
            left = left[~fits]
            if not left.size:
                break
    return found


def _record(
    found: Examination, by_label: dict[str, int], outcome: Outcome, notes: list[str]
) -> Validation:
    frame, kept, policies = found.frame, found.kept, found.policies
    leaking = frame[frame["leak"] | frame["near_duplicate"]]
    paths = (leaking["split"] + " > " + leaking["leaks_to"]).value_counts()
    lost = frame["fate"].isin(["leak", "near_duplicate"]).sum()
    return Validation(
        rows=len(frame),
        kept=len(kept),
        quarantined=len(frame) - len(kept),
        by_rule={rule: int(frame[rule].sum()) for rule in RULES},
        policies=policies,
        quarantined_by_rule={
            rule: int(rows) for rule in RULES if (rows := (frame["fate"] == rule).sum())
        },
        kept_by_split={split: int((kept["split"] == split).sum()) for split in SPLITS},
        kept_by_label=by_label,
        leaks={path: int(count) for path, count in sorted(paths.items())},
        share_lost_to_leaks=float(lost / len(frame)),
        labels=list(by_label),
        expectations=outcome.asserted,
        expectations_met=outcome.met,
        notes=notes,
    )
