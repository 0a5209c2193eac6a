"""Checks of the rows before training.

    python -m pipeline validate news

Each rule flags rows in a column of its own. The recipe sets the policy of each rule: `fail` stops
the pipeline, `quarantine` sets the row aside, `warn` counts it. A Great Expectations suite then
checks that the kept rows can be trained on. Writes kept.parquet, report.csv (one line for each
flagged row and rule), validation.json and the suite's Data Docs in docs/.
"""

import hashlib
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
from pipeline.core.text import excerpt, join_texts, normalised
from pipeline.stages.validate.expectations import Outcome, assert_suite, training_suite
from pipeline.stages.validate.near_duplicates import near_copies
from pipeline.stages.validate.params import Rules, ValidateParams
from pipeline.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

RULES = tuple(Rules.model_fields)
PLAIN = ("id", "label", "split", "group", "file", "line")
# of _survey; key, written and said are digests: of normalised texts, raw texts and the shown label
MADE = ("key", "written", "said", "fewest_characters", "most_characters", "shown")
RESERVED = (*RULES, *MADE, "fate", "leaks_to", "outside", "reason")  # columns of this stage
BATCH = 5000  # rows
POOL = 1000  # texts of a split that can be the second text of others
NEAR = 16  # texts of similar length among which the second text is drawn
CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
RANKS = {split: rank for rank, split in enumerate(SPLITS)}  # train 0, validation 1, test 2


def validate(
    params: ValidateParams, task: Task, ingest: Path, out: Path, *, log: Log = no_log
) -> Validation:
    """Flag rows, set some aside and check the rest.

    Raises UserError with the first offending row if a rule with the policy `fail` flags one, and if
    an expectation is not met; the report and the Data Docs are written even then.
    """
    rows = ingest / "rows.parquet"
    frame = _survey(params, task, ingest, log)
    classes = {label: task.classes(label) for label in frame["label"].unique() if label}
    labels = _labels(params, frame, classes)
    flag(frame, params, task, labels, classes, rows, log)
    policies = params.rules.model_dump()
    frame["fate"] = _fate(frame, policies)
    kept = frame[frame["fate"] == ""]
    if _trained(kept, classes) != _trained(frame, classes):  # all rows of a class were set aside
        labels = _labels(params, kept, classes)
        _flag_unknown(frame, _trained(kept, classes) & set(labels), classes)
        frame["fate"] = _fate(frame, policies)
        kept = frame[frame["fate"] == ""]
    _write_report(frame, policies, rows, out / "report.csv")
    _refuse_failures(frame, policies, out / "report.csv")
    source = frame["file"].iloc[0]
    if not task.outputs(labels):
        raise UserError(f"{source}: no training row has a class: there is nothing to learn")

    log.info("asserting the Great Expectations suite")
    suite = training_suite(
        labels=labels if task.exclusive else None,
        labelled=task.labelled,
        max_characters=None if params.rules.too_long == "warn" else params.max_characters,
        min_rows=params.min_rows,
        fewest_kept=max(1, -int(-len(frame) * (100 - params.max_quarantine_percent) // 100)),
        clean_flags=[rule for rule in RULES if policies[rule] != "warn"],
    )
    outcome = assert_suite(suite, kept, docs=out / "docs")
    if outcome.unmet:
        raise UserError(
            f"{source}: of {len(frame):,} rows, {len(kept):,} kept: {outcome.unmet[0]}:"
            f" fix the data or the recipe's validate section (rows: {out / 'report.csv'})"
        )

    _write_kept(rows, kept, task.with_neighbour, out / "kept.parquet")
    by_label = _by_label(kept, classes, labels)
    record = _record(frame, kept, policies, by_label, outcome)
    log.info(f"{record.kept:,} of {record.rows:,} rows kept, {record.quarantined:,} set aside")
    return record.write(out / "validation.json")


def _survey(params: ValidateParams, task: Task, ingest: Path, log: Log) -> "pd.DataFrame":
    """Return the columns that the rules need of every row and reject, indexed by position.

    Texts are read in batches and not kept, so that a corpus can be larger than memory.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    rows = ingest / "rows.parquet"
    if clash := [column for column in pq.read_schema(rows).names if column in RESERVED]:
        raise UserError(
            f"{rows}: carries {clash[0]!r}, a name that this stage uses: rename"
            " the column in the source and in ingest.carry"
        )
    parts, done, total = [], 0, pq.read_metadata(rows).num_rows
    for batch in parquet_batches(rows, BATCH, [*PLAIN, "text", "second"]):
        parts.append(_traits(batch.to_pandas(), params, task))
        done += len(parts[-1])
        log.progress(done, total, "rows")
    rejects = pd.read_parquet(ingest / "rejects.parquet")
    texts = ("id", "label", "split", "group", "file", "reason", "shown")
    numbers = ("key", "written", "said", "fewest_characters", "most_characters")
    flags = ("blank", "control_characters", "too_long", "undecodable")
    rejects = rejects.rename(columns={"excerpt": "shown"}).assign(
        undecodable=True,
        **dict.fromkeys(numbers, np.int64(0)),  # NaN would turn digests into floats
    )
    frame = pd.concat([*parts, rejects], ignore_index=True)
    for names, value in ((texts, ""), (flags, False)):
        for name in names:
            frame[name] = frame[name].fillna(value).astype(type(value))
    return frame


def _traits(rows: "pd.DataFrame", params: ValidateParams, task: Task) -> "pd.DataFrame":
    """Return the columns of some rows that the rules need."""
    texts = [rows["text"], rows["second"]] if task.two_texts else [rows["text"]]
    lengths = [text.str.len() for text in texts]
    found = rows[list(PLAIN)].assign(
        undecodable=False,
        reason="",
        shown="",
        fewest_characters=np.minimum.reduce(lengths),
        most_characters=np.maximum.reduce(lengths),
    )
    found["blank"] = ~np.logical_and.reduce([text.map(_visible) for text in texts])
    found["control_characters"] = np.logical_or.reduce(
        [text.str.contains(CONTROL, regex=True) for text in texts]
    )
    found["too_long"] = found["most_characters"] > params.max_characters
    pairs = list(zip(rows["text"], rows["second"], strict=True))
    found["key"] = [_digest(normalised(join_texts(*pair))) for pair in pairs]
    found["written"], found["said"] = 0, 0
    if task.offsets:
        found["written"] = [_digest(join_texts(*pair)) for pair in pairs]
        found["said"] = [
            _digest(normalised(task.shown(label, *pair))) if label else 0
            for label, pair in zip(rows["label"], pairs, strict=True)
        ]
    return found


def _digest(text: str) -> int:
    """Return 63 bits of a text's hash: of 200,000 corpora of ten million texts, one has a
    collision."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _labels(
    params: ValidateParams, frame: "pd.DataFrame", classes: Mapping[str, Sequence[str]]
) -> list[str]:
    if params.labels is None:
        return sorted(_trained(frame, classes))
    if classes and not any(classes.values()):
        raise UserError("validate.labels: names classes, but no label has any: set it to null")
    return params.labels


def _trained(frame: "pd.DataFrame", classes: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the classes of the training rows."""
    train = frame.loc[frame["split"] == "train", "label"].unique()
    return {name for label in train if label for name in classes[label]}


def _by_label(
    kept: "pd.DataFrame", classes: Mapping[str, Sequence[str]], labels: Sequence[str]
) -> dict[str, int]:
    """Count the occurrences of each class in the kept rows."""
    counts = Counter(dict.fromkeys(labels, 0))
    for label, rows in kept["label"].value_counts().items():
        for name in classes.get(str(label), ()):
            counts[name] += int(rows)
    return dict(counts)


def flag(
    frame: "pd.DataFrame",
    params: ValidateParams,
    task: Task,
    labels: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    rows: Path,
    log: Log,
) -> None:
    """Add a boolean column for each rule, `outside` (a class of the row that is not allowed) and
    `leaks_to` (the split that holds a copy). `classes` holds the classes of each label.

    Flags do not depend on the order of rows, except for `duplicate`, which spares the first copy in
    a split.
    """
    readable = ~frame["undecodable"]
    frame["unlabelled"] = readable & (frame["label"] == "")
    _flag_unknown(frame, set(labels) & _trained(frame, classes), classes)

    # rows that are set aside anyway are not compared with others
    policies = params.rules.model_dump()
    aside = [r for r in RULES if r in frame.columns and policies[r] == "quarantine"]
    sound = readable & ~frame["blank"] & ~frame[aside].any(axis=1)
    copies = frame.assign(rank=frame["split"].map(RANKS))[sound]
    top = copies.groupby("key")["rank"].transform("max")
    within = [*["group"] * task.by_group, "key"]  # a text may be ranked in many groups
    labelled = copies[copies["label"] != ""]
    labelled = labelled[labelled.duplicated(within, keep=False)]
    conflicting = _differ(labelled, within, "label")
    if task.offsets:  # the same label has other offsets where white space differs
        conflicting = _differ(labelled, [*within, "written"], "label")
        conflicting |= _differ(labelled, within, "said")
    frame["conflicting_labels"] = conflicting.reindex(frame.index, fill_value=False)
    leak = copies["rank"] < top
    frame["leak"] = leak.reindex(frame.index, fill_value=False)
    twice = copies.duplicated([*within, "split"])
    frame["duplicate"] = twice.reindex(frame.index, fill_value=False)
    frame["leaks_to"] = top[leak].map(dict(enumerate(SPLITS))).reindex(frame.index, fill_value="")

    unique = copies[~frame["leak"][sound] & ~frame["duplicate"][sound]]
    near = near_copies(rows, unique["rank"].astype(int), params.near_duplicates, log)
    # all copies in a split share the result of the first
    same = ["key", "rank"]
    found = unique.loc[list(near), same].assign(into=[SPLITS[rank] for rank in near.values()])
    into = copies[same].merge(found, "left")["into"].set_axis(copies.index).dropna()
    frame["near_duplicate"] = frame.index.isin(into.index)
    frame.loc[into.index, "leaks_to"] = into


def _differ(frame: "pd.DataFrame", by: list[str], column: str) -> "pd.Series[bool]":
    """True for rows that are equal in the columns `by` but differ in `column`."""
    return frame.groupby(by)[column].transform("nunique") > 1


def _visible(text: str) -> bool:
    return any(character.isprintable() and not character.isspace() for character in text)


def _flag_unknown(
    frame: "pd.DataFrame", allowed: set[str], classes: Mapping[str, Sequence[str]]
) -> None:
    """Set the columns `outside` and `unknown_label` by the allowed classes."""
    outside = {
        label: next((name for name in names if name not in allowed), "")
        for label, names in {"": (), **classes}.items()
    }
    frame["outside"] = frame["label"].map(outside)
    frame["unknown_label"] = ~frame["undecodable"] & (frame["outside"] != "")


def _fate(frame: "pd.DataFrame", policies: dict[str, str]) -> "pd.Series[str]":
    """Return the first rule with the policy `quarantine` that flags a row, or an empty string."""
    import pandas as pd

    fate = pd.Series("", index=frame.index, dtype="object")
    for rule in reversed(RULES):
        if policies[rule] == "quarantine":
            fate = fate.mask(frame[rule], rule)
    return fate


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


def _refuse_failures(frame: "pd.DataFrame", policies: dict[str, str], report: Path) -> None:
    for rule in RULES:
        bad = frame[frame[rule] & (frame["fate"] == "")]
        if policies[rule] != "fail" or bad.empty:
            continue
        first = bad.iloc[0]
        what = first["reason"] or {
            "unknown_label": f"label {first['outside']!r} is not in validate.labels or in no"
            " training row",
            "unlabelled": "no label",
            "too_long": f"{first['most_characters']:,} characters",
        }.get(rule, rule.replace("_", " "))
        more = f" (and {len(bad) - 1:,} more rows)" if len(bad) > 1 else ""
        raise UserError(
            f"{first['file']}, line {first['line']}: {what}{more}: fix the rows listed in"
            f" {report}, or set validate.rules.{rule} to quarantine"
        )


def _record(
    frame: "pd.DataFrame",
    kept: "pd.DataFrame",
    policies: dict[str, str],
    by_label: dict[str, int],
    outcome: Outcome,
) -> Validation:
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
    )
