"""What must hold of the rows before anything is learned from them.

    python -m pipeline validate news

Each rule flags rows, once, as a column; the recipe says what a flag means: `fail` ends the line,
`quarantine` keeps the row aside, `warn` counts it. A Great Expectations suite then asserts that
what is kept is fit to train on. Writes kept.parquet, report.csv (one line a flagged row and
rule), validation.json and the suite's Data Docs in docs/.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import parquet_batches, whole, write_csv
from pipeline.core.log import Log, no_log
from pipeline.core.records import SPLITS, Validation
from pipeline.core.text import both, excerpt, normalised
from pipeline.stages.validate.near_duplicates import NearCopies
from pipeline.stages.validate.params import NearDuplicates, Rules, ValidateParams
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import Texts

if TYPE_CHECKING:
    import pandas as pd


RULES = tuple(Rules.model_fields)
PLAIN = ("id", "label", "split", "group", "file", "line")
MADE = ("key", "written", "said", "fewest_characters", "most_characters", "shown")  # by _survey
OURS = (*RULES, *MADE, "fate", "leaks_to", "outside", "reason")  # columns of this stage alone
BATCH = 5000  # rows
POOL, NEAR = 1000, 16  # texts of a split that may stand beside others; of these, of about a length
CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
PRECIOUS = {split: rank for rank, split in enumerate(SPLITS)}  # train 0, validation 1, test 2


def validate(
    params: ValidateParams, task: Task, ingest: Path, out: Path, *, log: Log = no_log
) -> Validation:
    """Flag, set aside and assert.

    Raises UserError naming the first offending row where a rule's policy is `fail` or an
    expectation is not met; the row-level report and the Data Docs are written even then.
    """
    from pipeline.stages.validate.expectations import assert_suite, training_suite

    rows = ingest / "rows.parquet"
    frame = _survey(params, task, ingest, log)
    classes = {label: task.classes(label) for label in frame["label"].unique() if label}
    labels = _labels(params, frame, classes)
    flag(frame, params, task, labels, classes, rows, log)
    policies = params.rules.model_dump()
    frame["fate"] = _fate(frame, policies)
    kept = frame[frame["fate"] == ""]
    if _taught(kept, classes) != _taught(frame, classes):  # who taught a class is set aside
        labels = _labels(params, kept, classes)
        _flag_unknown(frame, _taught(kept, classes) & set(labels), classes)
        frame["fate"] = _fate(frame, policies)
        kept = frame[frame["fate"] == ""]
    _write_report(frame, policies, rows, out / "report.csv")
    _refuse_failures(frame, policies, out / "report.csv")
    if not task.outputs(labels):
        raise UserError(f"{_source(frame)}: no training row has a class: there is nothing to learn")

    log.say("asserting the Great Expectations suite")
    suite = training_suite(
        labels=labels if task.exclusive else None,
        labelled=task.labelled,
        max_characters=None if params.rules.too_long == "warn" else params.max_characters,
        min_rows=params.min_rows,
        fewest_kept=_fewest_kept(len(frame), params.max_quarantine_percent),
        clean_flags=[rule for rule in RULES if policies[rule] != "warn"],
    )
    outcome = assert_suite(suite, kept, docs=out / "docs")
    if outcome.unmet:
        raise UserError(
            f"{_source(frame)}: of {len(frame):,} rows, {len(kept):,} kept: {outcome.unmet[0]}:"
            f" mend the data or the recipe's validate section (rows: {out / 'report.csv'})"
        )

    _write_kept(rows, kept, task.with_neighbour, out / "kept.parquet")
    by_label = _by_label(kept, classes, labels)
    record = _record(frame, kept, policies, by_label, outcome.asserted, outcome.met)
    log.say(f"{record.kept:,} of {record.rows:,} rows kept, {record.quarantined:,} set aside")
    return record.write(out / "validation.json")


def _survey(params: ValidateParams, task: Task, ingest: Path, log: Log) -> "pd.DataFrame":
    """What the rules need to know of every row, and of every reject; texts are read and let go, so
    that a corpus may be larger than memory. A row's place in the file is its place in the index."""
    import pandas as pd
    import pyarrow.parquet as pq

    rows = ingest / "rows.parquet"
    if taken := [column for column in pq.read_schema(rows).names if column in OURS]:
        raise UserError(
            f"{rows}: carries {taken[0]!r}, a name that this stage uses: rename"
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
        **dict.fromkeys(numbers, np.int64(0)),  # a digest is no floating number
    )
    frame = pd.concat([*parts, rejects], ignore_index=True)
    for names, value in ((texts, ""), (flags, False)):
        for name in names:
            frame[name] = frame[name].fillna(value).astype(type(value))
    return frame


def _traits(rows: "pd.DataFrame", params: ValidateParams, task: Task) -> "pd.DataFrame":
    """Some rows without their texts."""
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
    found["key"] = [_digest(normalised(both(*pair))) for pair in pairs]
    found["written"], found["said"] = 0, 0
    if task.offsets:
        found["written"] = [_digest(both(*pair)) for pair in pairs]
        found["said"] = [
            _digest(normalised(task.shown(label, *pair))) if label else 0
            for label, pair in zip(rows["label"], pairs, strict=True)
        ]
    return found


def _digest(text: str) -> int:
    """63 bits: of 200,000 corpora of ten million texts one has two texts with the same."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _labels(
    params: ValidateParams, frame: "pd.DataFrame", classes: Mapping[str, Sequence[str]]
) -> list[str]:
    if params.labels is None:
        return sorted(_taught(frame, classes))
    if classes and not any(classes.values()):
        raise UserError("validate.labels: names classes, but no label has any: set it to null")
    return params.labels


def _taught(frame: "pd.DataFrame", classes: Mapping[str, Sequence[str]]) -> set[str]:
    """The classes that training rows have."""
    train = frame.loc[frame["split"] == "train", "label"].unique()
    return {name for label in train if label for name in classes[label]}


def _by_label(
    kept: "pd.DataFrame", classes: Mapping[str, Sequence[str]], labels: Sequence[str]
) -> dict[str, int]:
    """How often rows have each class."""
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
    """Add one boolean column a rule to the rows, `outside`: a class that rows have and may not,
    and `leaks_to`: the split that a copy stands in. `classes` are those of each label.

    Every flag is a function of the set of rows, not of their order, but for `duplicate`, which
    spares the first of a split's copies.
    """

    readable = ~frame["undecodable"]
    frame["unlabelled"] = readable & (frame["label"] == "")
    _flag_unknown(frame, set(labels) & _taught(frame, classes), classes)

    # a row that is set aside anyway has no copies
    policies = params.rules.model_dump()
    aside = [r for r in RULES if r in frame.columns and policies[r] == "quarantine"]
    sound = readable & ~frame["blank"] & ~frame[aside].any(axis=1)
    copies = frame.assign(rank=frame["split"].map(PRECIOUS))[sound]
    top = copies.groupby("key")["rank"].transform("max")
    within = [*["group"] * task.by_group, "key"]  # a ranked text may stand in many groups
    labelled = copies[copies["label"] != ""]
    labelled = labelled[labelled.duplicated(within, keep=False)]
    conflicting = _differ(labelled, within, "label")
    if task.offsets:  # places differ where white space does
        conflicting = _differ(labelled, [*within, "written"], "label")
        conflicting |= _differ(labelled, within, "said")
    frame["conflicting_labels"] = conflicting.reindex(frame.index, fill_value=False)
    leak = copies["rank"] < top
    frame["leak"] = leak.reindex(frame.index, fill_value=False)
    twice = copies.duplicated([*within, "split"])
    frame["duplicate"] = twice.reindex(frame.index, fill_value=False)
    frame["leaks_to"] = top[leak].map(dict(enumerate(SPLITS))).reindex(frame.index, fill_value="")

    unique = copies[~frame["leak"][sound] & ~frame["duplicate"][sound]]
    near = _near(rows, unique["rank"].astype(int), params.near_duplicates, log)
    # the first of a split's copies was looked at for them all
    same = ["key", "rank"]
    found = unique.loc[list(near), same].assign(into=[SPLITS[rank] for rank in near.values()])
    into = copies[same].merge(found, "left")["into"].set_axis(copies.index).dropna()
    frame["near_duplicate"] = frame.index.isin(into.index)
    frame.loc[into.index, "leaks_to"] = into


def _differ(frame: "pd.DataFrame", by: list[str], column: str) -> "pd.Series[bool]":
    """True if the rows that are equal in the columns `by` differ in another."""
    return frame.groupby(by)[column].transform("nunique") > 1


def _visible(text: str) -> bool:
    return any(character.isprintable() and not character.isspace() for character in text)


def _near(
    rows: Path, ranks: "pd.Series[int]", settings: NearDuplicates, log: Log
) -> dict[int, int]:
    """The rank of a near copy, by the place of its row, among rows with their ranks by place."""
    if ranks.nunique() < 2:
        return {}
    near = NearCopies(settings.similarity, settings.characters)
    rank = ranks.to_dict()
    precious = {
        place: texts for place, texts in _texts(rows) if rank.get(place, 0) > 0
    }  # validation and test: few, and looked at in the order of their ranks
    found: dict[int, int | None] = {}
    for place in sorted(precious, key=lambda place: -rank[place]):
        found[place] = near.rank(precious[place], rank[place])
        log.progress(len(found), len(rank), "near duplicates")
    for place, texts in _texts(rows):
        if rank.get(place) == 0:
            found[place] = near.rank(texts, 0)
            log.progress(len(found), len(rank), "near duplicates")
    return {place: rank for place, rank in found.items() if rank is not None}


def _texts(rows: Path) -> Iterator[tuple[int, Texts]]:
    """Every row's texts as near copies are sought among them, behind its place."""
    place = 0
    for batch in parquet_batches(rows, BATCH, ["text", "second"]):
        for row in batch.to_pylist():
            yield place, (normalised(row["text"]), normalised(row["second"]))
            place += 1


def _flag_unknown(
    frame: "pd.DataFrame", allowed: set[str], classes: Mapping[str, Sequence[str]]
) -> None:
    """Set `outside` and `unknown_label` by the classes that rows may have."""
    outside = {
        label: next((name for name in names if name not in allowed), "")
        for label, names in {"": (), **classes}.items()
    }
    frame["outside"] = frame["label"].map(outside)
    frame["unknown_label"] = ~frame["undecodable"] & (frame["outside"] != "")


def _fate(frame: "pd.DataFrame", policies: dict[str, str]) -> "pd.Series[str]":
    """The first rule with the policy `quarantine` that flags a row, or nothing."""
    import pandas as pd

    fate = pd.Series("", index=frame.index, dtype="object")
    for rule in RULES:
        if policies[rule] == "quarantine":
            fate = fate.where((fate != "") | ~frame[rule], rule)
    return fate


def _write_report(frame: "pd.DataFrame", policies: dict[str, str], rows: Path, path: Path) -> None:
    header = ("id", "file", "line", "split", "label", "rule", "policy", "reason", "excerpt")
    flagged = set(frame.index[frame[list(RULES)].any(axis=1) & ~frame["undecodable"]])
    shown = {place: excerpt(text) for place, text in _raw(rows) if place in flagged}
    write_csv(path, header, _flagged(frame, policies, shown))


def _raw(rows: Path) -> Iterator[tuple[int, str]]:
    texts = (
        text
        for batch in parquet_batches(rows, BATCH, ["text"])
        for text in batch["text"].to_pylist()
    )
    return enumerate(texts)


def _flagged(
    frame: "pd.DataFrame", policies: dict[str, str], shown: Mapping[int, str]
) -> Iterator[tuple[Any, ...]]:
    for rule in RULES:
        for row in frame[frame[rule]].reset_index(names="at").to_dict("records"):
            what = row["reason"] or (f"copy in {row['leaks_to']}" if row["leaks_to"] else "")
            if rule == "unknown_label":
                what = f"class {row['outside']!r}"
            place = (row[name] for name in ("id", "file", "line", "split", "label"))
            yield (*place, rule, policies[rule], what, shown.get(row["at"], row["shown"]))


def _write_kept(rows: Path, kept: "pd.DataFrame", beside: bool, path: Path) -> None:
    """The kept rows as they are; where `beside`, those of validation and test each with another
    of its split as its second text, or with none where there is no other text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(rows)
    others = _others(kept[kept["split"] != "train"]) if beside else {}
    needed = set(others.values())
    texts = {place: text for place, text in _raw(rows) if place in needed} if needed else {}
    keep = np.zeros(pq.read_metadata(rows).num_rows, dtype=bool)
    keep[kept.index] = True
    start = 0
    with whole(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for batch in parquet_batches(rows, BATCH):
            places = start + np.flatnonzero(keep[start : start + batch.num_rows])
            own = pa.Table.from_batches([batch]).take(places - start)
            start += batch.num_rows
            if beside:
                seconds = [texts[others[p]] if p in others else "" for p in places.tolist()]
                place = own.schema.get_field_index("second")
                own = own.set_column(place, "second", pa.array(seconds, pa.string()))
            writer.write_table(own)


def _others(rows: "pd.DataFrame") -> dict[int, int]:
    """By a row's place, that of the row of its split which stands beside it: of another text, and
    of another group where there is one.

    It is one of the NEAR around its length, of POOL texts of the split, or else the next longer one
    that may be. All is drawn by digests of texts: a file may be sorted, and the row before may tell
    of the same.
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
            places = own.index[left[fits]], pool.index[at[fits]]
            found.update(zip(*(place.tolist() for place in places), strict=True))
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
            "unknown_label": f"label {first['outside']!r} is not one that training rows teach",
            "unlabelled": "no label",
            "too_long": f"{first['most_characters']:,} characters",
        }.get(rule, rule.replace("_", " "))
        more = f" (and {len(bad) - 1:,} more rows)" if len(bad) > 1 else ""
        raise UserError(
            f"{first['file']}, line {first['line']}: {what}{more}: mend the rows listed in"
            f" {report}, or set validate.rules.{rule} to quarantine"
        )


def _fewest_kept(rows: int, max_quarantine_percent: float) -> int:
    return max(1, -int(-rows * (100 - max_quarantine_percent) // 100))


def _source(frame: "pd.DataFrame") -> str:
    return str(frame["file"].iloc[0])


def _record(
    frame: "pd.DataFrame",
    kept: "pd.DataFrame",
    policies: dict[str, str],
    by_label: dict[str, int],
    asserted: int,
    met: int,
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
            rule: int((frame["fate"] == rule).sum())
            for rule in RULES
            if (frame["fate"] == rule).any()
        },
        kept_by_split={split: int((kept["split"] == split).sum()) for split in SPLITS},
        kept_by_label=by_label,
        leaks={path: int(count) for path, count in sorted(paths.items())},
        share_lost_to_leaks=float(lost / len(frame)),
        labels=list(by_label),
        expectations=asserted,
        expectations_met=met,
    )
