"""What must hold of the rows before anything is learned from them.

    python -m pipeline validate news

Each rule flags rows, once, as a column; the recipe says what a flag means: `fail` ends the line,
`quarantine` keeps the row aside, `warn` counts it. A Great Expectations suite then asserts that
what is kept is fit to train on. Writes kept.parquet, report.csv (one line a flagged row and
rule), validation.json and the suite's Data Docs in docs/.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.config import Settings
from pipeline.errors import UserError
from pipeline.files import whole, write_csv
from pipeline.log import Log, no_log
from pipeline.records import SPLITS, Validation
from pipeline.tasks import Task
from pipeline.tasks.encoding import Texts
from pipeline.text import both, excerpt, normalised

if TYPE_CHECKING:
    import pandas as pd

Policy = Literal["fail", "quarantine", "warn"]
Strict = Literal["fail", "quarantine"]  # such a row cannot be trained on


class Rules(Settings):
    """The policy of each rule, in the order in which a row's fate is decided."""

    undecodable: Strict
    """The row cannot be read (bad UTF-8, broken quoting, not JSON), or its label is none."""
    unlabelled: Strict
    """Its label is empty."""
    unknown_label: Strict
    """A class of its label is not among `labels`, or no training row has it."""
    blank: Strict
    """No visible character; of two texts, in one of them."""
    control_characters: Policy
    """NUL or another control character of ASCII besides tab, line feed and carriage return."""
    too_long: Policy
    """Longer than `longest_text`."""
    conflicting_labels: Policy
    """The same text (here and below: both, where there are two) stands elsewhere under another
    label; where groups are ranked, in the same group."""
    leak: Policy
    """The same text stands in a more precious split (test before validation before train)."""
    duplicate: Policy
    """The same text stands earlier in the same split, or in the same group where groups are
    ranked."""
    near_duplicate: Policy
    """Nearly the same text stands in a more precious split. Of two texts each is compared with its
    own, so that rows that share one long text are no copies."""


RULES = tuple(Rules.model_fields)
OURS = (*RULES, "fate", "leaks_to", "outside", "reason")  # columns of this stage alone
CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
PRECIOUS = {split: rank for rank, split in enumerate(SPLITS)}  # train 0, validation 1, test 2


class NearDuplicates(Settings):
    similarity: float = Field(ge=0.75, lt=1)
    """Jaccard similarity of two texts' sets of character n-grams from which they are one.
    Below 0.75 the search for candidates would miss too many."""
    characters: int = Field(ge=1, le=20)
    """n of the n-grams: 5 suits texts with spaces, 3 Chinese and very short ones. A text of fewer
    characters is near to the same text alone."""


class ValidateParams(Settings):
    labels: list[str] | None
    """The classes, in the model's order; null takes those of the training rows, sorted. Null too
    where a task has no classes."""
    longest_text: int = Field(gt=0)
    """Characters, of each text."""
    fewest_rows: int = Field(ge=1)
    """Of each split, after quarantine."""
    largest_quarantine_percent: float = Field(ge=0, le=100)
    """Of all rows: more than this ends the line."""
    near_duplicates: NearDuplicates
    rules: Rules


def validate(
    params: ValidateParams, task: Task, ingest: Path, out: Path, *, log: Log = no_log
) -> Validation:
    """Flag, set aside and assert.

    Raises UserError naming the first offending row where a rule's policy is `fail` or an
    expectation is not met; the row-level report and the Data Docs are written even then.
    """
    from pipeline.adapters.great_expectations import assert_suite, training_suite

    frame = _read(ingest)
    classes = {label: task.classes(label) for label in frame["label"].unique() if label}
    labels = _labels(params, frame, classes)
    flag(frame, params, task, labels, classes, log)
    policies = params.rules.model_dump()
    frame["fate"] = _fate(frame, policies)
    kept = frame[frame["fate"] == ""]
    if _taught(kept, classes) != _taught(frame, classes):  # who taught a class is set aside
        labels = _labels(params, kept, classes)
        _flag_unknown(frame, _taught(kept, classes) & set(labels), classes)
        frame["fate"] = _fate(frame, policies)
        kept = frame[frame["fate"] == ""]
    _write_report(frame, policies, out / "report.csv")
    _refuse_failures(frame, policies, out / "report.csv")
    if not task.outputs(labels):
        raise UserError(f"{_source(frame)}: no training row has a class: there is nothing to learn")

    log.say("asserting the Great Expectations suite")
    suite = training_suite(
        labels=labels if task.exclusive else None,
        texts=("text", "second") if task.two_texts else ("text",),
        longest_text=None if params.rules.too_long == "warn" else params.longest_text,
        fewest_rows=params.fewest_rows,
        fewest_kept=_fewest_kept(len(frame), params.largest_quarantine_percent),
        clean_flags=[rule for rule in RULES if policies[rule] != "warn"],
    )
    outcome = assert_suite(suite, kept, docs=out / "docs")
    if outcome.unmet:
        raise UserError(
            f"{_source(frame)}: of {len(frame):,} rows, {len(kept):,} kept: {outcome.unmet[0]}:"
            f" mend the data or the recipe's validate section (rows: {out / 'report.csv'})"
        )

    columns = [column for column in kept.columns if column not in OURS]
    with whole(out / "kept.parquet") as temporary:
        kept[columns].to_parquet(temporary, index=False)
    by_label = _by_label(kept, classes, labels)
    record = _record(frame, kept, policies, by_label, outcome.asserted, outcome.met)
    log.say(f"{record.kept:,} of {record.rows:,} rows kept, {record.quarantined:,} set aside")
    return record.write(out / "validation.json")


def _read(ingest: Path) -> "pd.DataFrame":
    import pandas as pd

    rows = pd.read_parquet(ingest / "rows.parquet")
    rejects = pd.read_parquet(ingest / "rejects.parquet")
    if taken := [column for column in rows.columns if column in OURS]:
        raise UserError(
            f"{ingest / 'rows.parquet'}: carries {taken[0]!r}, a name that this stage uses: rename"
            " the column in the source and in ingest.carry"
        )
    rows["undecodable"], rows["reason"] = False, ""
    rejects["undecodable"] = True
    frame = pd.concat([rows, rejects.rename(columns={"excerpt": "text"})], ignore_index=True)
    empty = {column: "" for column in frame.columns if column not in ("line", "undecodable")}
    return frame.fillna(empty)


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
    log: Log,
) -> None:
    """Add one boolean column a rule to the rows, `outside`: a class that rows have and may not,
    and `leaks_to`: the split that a copy stands in. `classes` are those of each label.

    Every flag is a function of the set of rows, not of their order, but for `duplicate`, which
    spares the first of a split's copies.
    """
    import pandas as pd

    readable = ~frame["undecodable"]
    texts = [frame["text"], frame["second"]] if task.two_texts else [frame["text"]]
    frame["unlabelled"] = readable & (frame["label"] == "")
    _flag_unknown(frame, set(labels) & _taught(frame, classes), classes)
    for rule in ("blank", "control_characters", "too_long"):
        frame[rule] = False
    for text in texts:
        frame["blank"] |= readable & ~text.map(_visible)
        frame["control_characters"] |= readable & text.str.contains(CONTROL, regex=True)
        frame["too_long"] |= readable & (text.str.len() > params.longest_text)

    # a row that is set aside anyway has no copies
    policies = params.rules.model_dump()
    aside = [r for r in RULES if r in frame.columns and policies[r] == "quarantine"]
    sound = readable & ~frame["blank"] & ~frame[aside].any(axis=1)
    rows = zip(
        *(column.tolist() for column in (sound, frame["text"], frame["second"])), strict=True
    )
    keys = [normalised(both(text, second)) if kept else "" for kept, text, second in rows]
    key = pd.Series(keys, index=frame.index)
    copies = frame.assign(key=key, rank=frame["split"].map(PRECIOUS))[sound]
    by_key = copies.groupby("key")
    top = by_key["rank"].transform("max")
    within = [*["group"] * task.by_group, "key"]  # a ranked text may stand in many groups
    labelled = copies[copies["label"] != ""]
    labelled = labelled[labelled.duplicated(within, keep=False)]
    conflicting = _differ(labelled, within, labelled["label"].tolist())
    if task.offsets:  # places differ where white space does
        written = ["text", "second"]
        said = [normalised(task.shown(*row)) for row in labelled[["label", *written]].to_numpy()]
        conflicting = _differ(labelled, [*within, *written], labelled["label"].tolist())
        conflicting |= _differ(labelled, within, said)
    frame["conflicting_labels"] = conflicting.reindex(frame.index, fill_value=False)
    leak = copies["rank"] < top
    frame["leak"] = leak.reindex(frame.index, fill_value=False)
    twice = copies.duplicated([*within, "split"])
    frame["duplicate"] = twice.reindex(frame.index, fill_value=False)
    frame["leaks_to"] = top[leak].map(dict(enumerate(SPLITS))).reindex(frame.index, fill_value="")

    unique = copies[~frame["leak"][sound] & ~frame["duplicate"][sound]]
    parts = (unique[column].map(normalised) for column in ("text", "second"))
    near = near_copies(
        list(zip(*parts, strict=True)),
        unique["rank"].astype(int).tolist(),
        params.near_duplicates.similarity,
        params.near_duplicates.characters,
        log,
    )
    # the first of a split's copies was looked at for them all
    same = ["key", "rank"]
    found = unique[same].iloc[list(near)].assign(into=[SPLITS[rank] for rank in near.values()])
    into = copies[same].merge(found, "left")["into"].set_axis(copies.index).dropna()
    frame["near_duplicate"] = frame.index.isin(into.index)
    frame.loc[into.index, "leaks_to"] = into


def _differ(frame: "pd.DataFrame", by: list[str], values: Sequence[str]) -> "pd.Series[bool]":
    """Whether the rows that are equal in the columns `by` have different values."""
    return frame.assign(value=values).groupby(by)["value"].transform("nunique") > 1


def _visible(text: str) -> bool:
    return any(character.isprintable() and not character.isspace() for character in text)


def near_copies(
    rows: Sequence[Texts],
    ranks: list[int],
    similarity: float,
    characters: int,
    log: Log = no_log,
) -> dict[int, int]:
    """Rows that have a near copy of higher rank: their place, and the highest such rank. Of rows of
    two texts both are near.

    Candidates come from MinHash with locality-sensitive hashing (Broder 1997; rensa's R-MinHash,
    256 permutations in 32 bands of 8: a pair at Jaccard 0.8 is missed 3 times in 1000); each is
    then verified by the exact Jaccard similarity of each text, so none is flagged by chance.
    """
    from rensa import RMinHash, RMinHashLSH

    if len(set(ranks)) < 2:
        return {}
    index = RMinHashLSH(threshold=similarity, num_perm=256, num_bands=32)
    found: dict[int, int] = {}
    # from the highest rank down: all of the index is there when it is asked, and what is of the
    # lowest, most of the rows, is never kept in it
    for done, place in enumerate(sorted(range(len(rows)), key=lambda i: -ranks[i]), 1):
        hashed = RMinHash(num_perm=256, seed=1)
        hashed.update(list(_grams(both(*rows[place]), characters)))
        higher = [other for other in index.query(hashed) if ranks[other] > ranks[place]]
        if ranks[place] > 0:
            index.insert(place, hashed)
        log.progress(done, len(rows), "near duplicates")
        if not higher:
            continue
        own = [(text, _grams(text, characters)) for text in rows[place]]
        for other in sorted(higher, key=lambda o: -ranks[o]):
            if ranks[other] > found.get(place, 0) and all(
                text == theirs or _alike(grams, _grams(theirs, characters), similarity)
                for (text, grams), theirs in zip(own, rows[other], strict=True)
            ):
                found[place] = ranks[other]
    return found


def _alike(grams: set[str], others: set[str], similarity: float) -> bool:
    return len(grams & others) >= similarity * len(grams | others)


def _grams(text: str, width: int) -> set[str]:
    return {text[i : i + width] for i in range(max(len(text) - width + 1, 1))}


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


def _flagged(frame: "pd.DataFrame", policies: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    for rule in RULES:
        for row in frame[frame[rule]].to_dict("records"):
            what = row["reason"] or (f"copy in {row['leaks_to']}" if row["leaks_to"] else "")
            if rule == "unknown_label":
                what = f"class {row['outside']!r}"
            place = (row[name] for name in ("id", "file", "line", "split", "label"))
            yield (*place, rule, policies[rule], what, excerpt(row["text"]))


def _write_report(frame: "pd.DataFrame", policies: dict[str, str], path: Path) -> None:
    header = ("id", "file", "line", "split", "label", "rule", "policy", "reason", "excerpt")
    write_csv(path, header, _flagged(frame, policies))


def _refuse_failures(frame: "pd.DataFrame", policies: dict[str, str], report: Path) -> None:
    for rule in RULES:
        bad = frame[frame[rule] & (frame["fate"] == "")]
        if policies[rule] != "fail" or bad.empty:
            continue
        first = bad.iloc[0]
        what = first["reason"] or {
            "unknown_label": f"label {first['outside']!r} is not one that training rows teach",
            "unlabelled": "no label",
            "too_long": f"{max(len(first['text']), len(first['second'])):,} characters",
        }.get(rule, rule.replace("_", " "))
        more = f" (and {len(bad) - 1:,} more rows)" if len(bad) > 1 else ""
        raise UserError(
            f"{first['file']}, line {first['line']}: {what}{more}: mend the rows listed in"
            f" {report}, or set validate.rules.{rule} to quarantine"
        )


def _fewest_kept(rows: int, largest_quarantine_percent: float) -> int:
    return max(1, -int(-rows * (100 - largest_quarantine_percent) // 100))


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
