"""Rules on surveyed rows: a column of flags for each, and the rows that are set aside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError
from pipeline.core.log import Log
from pipeline.core.records import SPLITS
from pipeline.stages.validate.near_duplicates import near_copies
from pipeline.stages.validate.params import RULES, ValidateParams
from pipeline.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

RANKS = {split: rank for rank, split in enumerate(SPLITS)}  # train 0, validation 1, test 2


def labels_of(
    params: ValidateParams, frame: "pd.DataFrame", classes: Mapping[str, Sequence[str]]
) -> list[str]:
    if params.labels is None:
        return sorted(trained(frame, classes))
    if classes and not any(classes.values()):
        raise UserError("validate.labels: names classes, but no label has any: set it to null")
    return params.labels


def trained(frame: "pd.DataFrame", classes: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the classes of the training rows."""
    train = frame.loc[frame["split"] == "train", "label"].unique()
    return {name for label in train if label for name in classes[label]}


def flag(
    frame: "pd.DataFrame",
    params: ValidateParams,
    task: Task,
    labels: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    rows: Path | None,
    log: Log,
) -> None:
    """Add a boolean column for each rule, `outside` (a class of the row that is not allowed) and
    `leaks_to` (the split that holds a copy). `classes` holds the classes of each label; without
    `rows`, the file of the texts, near copies are not searched.

    Flags do not depend on the order of rows, except for `duplicate`, which spares the first copy in
    a split.
    """
    readable = ~frame["undecodable"]
    frame["unlabelled"] = readable & (frame["label"] == "")
    flag_unknown(frame, set(labels) & trained(frame, classes), classes)

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
    ranks = unique["rank"].astype(int)
    near = near_copies(rows, ranks, params.near_duplicates, log) if rows else {}
    # all copies in a split share the result of the first
    same = ["key", "rank"]
    found = unique.loc[list(near), same].assign(into=[SPLITS[rank] for rank in near.values()])
    into = copies[same].merge(found, "left")["into"].set_axis(copies.index).dropna()
    frame["near_duplicate"] = frame.index.isin(into.index)
    frame.loc[into.index, "leaks_to"] = into


def _differ(frame: "pd.DataFrame", by: list[str], column: str) -> "pd.Series[bool]":
    """True for rows that are equal in the columns `by` but differ in `column`."""
    return frame.groupby(by)[column].transform("nunique") > 1


def flag_unknown(
    frame: "pd.DataFrame", allowed: set[str], classes: Mapping[str, Sequence[str]]
) -> None:
    """Set the columns `outside` and `unknown_label` by the allowed classes."""
    outside = {
        label: next((name for name in names if name not in allowed), "")
        for label, names in {"": (), **classes}.items()
    }
    frame["outside"] = frame["label"].map(outside)
    frame["unknown_label"] = ~frame["undecodable"] & (frame["outside"] != "")


def fate_of(frame: "pd.DataFrame", policies: dict[str, str]) -> "pd.Series[str]":
    """Return the first rule with the policy `quarantine` that flags a row, or an empty string."""
    import pandas as pd

    fate = pd.Series("", index=frame.index, dtype="object")
    for rule in reversed(RULES):
        if policies[rule] == "quarantine":
            fate = fate.mask(frame[rule], rule)
    return fate
