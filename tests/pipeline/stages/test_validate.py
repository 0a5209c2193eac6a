"""Each rule finds what it is for, and its policy decides."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import recipe as recipes
from pipeline.config import parse, read_recipe
from pipeline.errors import UserError
from pipeline.records import Validation
from pipeline.stages.ingest import ingest
from pipeline.stages.validate import RULES, near_copies, validate
from tests.conftest import ROOT, SHARED, make_rows, toy_block, write_csv


def run(tmp_path: Path, rows: list[dict[str, str]], **changes: Any) -> Validation:
    """Ingest and validate rows, all rules at `fail` but for `changes`."""
    block = toy_block("base", str(write_csv(tmp_path / "a.csv", rows)))
    rules = dict.fromkeys(RULES, "fail")
    block["validate"]["rules"] = rules | {k: v for k, v in changes.items() if k in rules}
    block["validate"].update({k: v for k, v in changes.items() if k not in rules})
    recipe = parse(recipes.Recipe, block, "recipes.toy")
    ingest(recipe.ingest, tmp_path / "ingest")
    return validate(recipe.validate_, tmp_path / "ingest", tmp_path / "validate")


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
        run(tmp_path, [*SOUND, row], longest_text=400, labels=["film", "money", "sport"])
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
    changes = {rule: "quarantine", "longest_text": 400, "labels": ["film", "money", "sport"]}
    record = run(tmp_path, [*SOUND, row], **changes)
    assert record.quarantined_by_rule == {rule: 1}
    assert record.kept == 200
    assert len(pd.read_parquet(tmp_path / "validate" / "kept.parquet")) == 200


def test_warn_counts_and_keeps(tmp_path: Path) -> None:
    row, _ = OFFENCES["control_characters"]
    record = run(tmp_path, [*SOUND, row], control_characters="warn")
    assert (record.kept, record.by_rule["control_characters"]) == (201, 1)


def test_a_row_that_cannot_be_decoded_is_told_with_its_byte(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", SOUND)
    source.write_bytes(source.read_bytes() + b"caf\xe9,film\n")
    recipe = parse(recipes.Recipe, toy_block("base", str(source)), "recipes.toy")
    strict = recipe.validate_.model_copy(
        update={"rules": recipe.validate_.rules.model_copy(update={"undecodable": "fail"})}
    )
    ingest(recipe.ingest, tmp_path / "ingest")
    with pytest.raises(UserError, match=r"line 202: is not UTF-8 \(byte 0xe9"):
        validate(strict, tmp_path / "ingest", tmp_path / "validate")


def test_a_row_that_is_set_aside_costs_no_sound_copy(tmp_path: Path) -> None:
    """The same text first without a label, then with one: the second is kept."""
    unlabelled = SOUND[0] | {"label": ""}
    record = run(tmp_path, [unlabelled, *SOUND], unlabelled="quarantine", duplicate="quarantine")
    assert record.quarantined_by_rule == {"unlabelled": 1}
    assert record.kept == len(SOUND)


def test_a_long_text_can_be_warned_about(tmp_path: Path) -> None:
    record = run(tmp_path, [*SOUND, OFFENCES["too_long"][0]], too_long="warn", longest_text=400)
    assert (record.kept, record.by_rule["too_long"]) == (201, 1)


def test_one_text_under_two_labels_flags_both(tmp_path: Path) -> None:
    other = {"text": TRAIN_TEXT, "label": "film" if SOUND[0]["label"] != "film" else "money"}
    record = run(tmp_path, [*SOUND, other], conflicting_labels="quarantine", duplicate="quarantine")
    assert record.quarantined_by_rule == {"conflicting_labels": 2}


def test_one_class_is_refused(tmp_path: Path) -> None:
    rows = [row | {"label": "film"} for row in SOUND]
    with pytest.raises(UserError, match="only 1 class: a classifier needs two"):
        run(tmp_path, rows)


def test_a_label_that_no_training_row_has_is_refused(tmp_path: Path) -> None:
    rows = [row | {"part": "train"} for row in SOUND[:150]]
    rows += [row | {"part": "dev"} for row in SOUND[150:170]]
    rows += [row | {"part": "test"} for row in SOUND[170:]]
    rows.append({"text": "only in the test rows", "label": "weather", "part": "test"})
    source = write_csv(tmp_path / "a.csv", rows)
    block = toy_block("base", str(source))
    block["ingest"]["split"] = "part"
    recipe = parse(recipes.Recipe, block, "recipes.toy")
    ingest(recipe.ingest, tmp_path / "ingest")
    with pytest.raises(UserError, match="'weather' is not one that training rows teach"):
        validate(recipe.validate_, tmp_path / "ingest", tmp_path / "validate")


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\d+ validation rows of at least 50 \(fewest_rows\)"):
        run(tmp_path, SOUND, fewest_rows=50)


def test_too_large_a_quarantine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="largest_quarantine_percent"):
        run(tmp_path, [*SOUND, *SOUND[:60]], duplicate="quarantine")


def test_near_copies_across_splits_give_way_to_the_more_precious() -> None:
    text = "the board of the bank said on monday that profits had risen in all of its markets"
    texts = [text + " today", text + " again", text + " now", "something else altogether here"]
    # 0 train, 1 validation, 2 test
    assert near_copies(texts, [0, 1, 2, 0], 0.8, 5) == {0: 2, 1: 2}


@settings(max_examples=25, deadline=None)
@given(st.permutations(list(range(12))))
def test_near_copies_do_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    stem = "a sentence that is long enough to have very many character n-grams in it number "
    texts = [f"{stem}{i % 4}" if i < 8 else f"other words {i} entirely {i * 7}" for i in range(12)]
    ranks = [i % 3 for i in range(12)]
    expected = near_copies(texts, ranks, 0.8, 5)
    found = near_copies([texts[i] for i in order], [ranks[i] for i in order], 0.8, 5)
    assert {order[place]: rank for place, rank in found.items()} == expected


def test_the_data_docs_are_kept(tmp_path: Path) -> None:
    record = run(tmp_path, SOUND)
    page = (tmp_path / "validate" / "docs" / "index.html").read_text()
    assert "training rows" in page
    assert record.expectations == record.expectations_met > 15


def found_in(block: dict[str, Any], tmp_path: Path) -> Validation:
    recipe = parse(recipes.Recipe, block, "recipes.x")
    ingest(recipe.ingest, tmp_path / "ingest")
    return validate(recipe.validate_, tmp_path / "ingest", tmp_path / "validate")


def test_bbc_news_has_its_copies_and_its_broken_file(tmp_path: Path) -> None:
    record = found_in(read_recipe("news", ROOT / "params.yaml"), tmp_path)
    assert record.by_rule["undecodable"] == 1
    assert record.by_rule["duplicate"] == 101  # 98 to the byte, 3 more but for case or spacing
    assert record.kept_by_split["test"] > 400
    [broken] = [row for row in report(tmp_path) if row["rule"] == "undecodable"]
    assert broken["file"] == "sports/199.txt"


@pytest.mark.skipif(not (SHARED / "imdb").exists(), reason="the IMDB reviews are not here")
def test_the_leak_in_imdb_is_found(tmp_path: Path) -> None:
    block = read_recipe("news", ROOT / "params.yaml")
    block["ingest"]["source"] = {
        s: str(SHARED / "imdb" / f"{s}.parquet") for s in ("train", "test")
    }
    block["validate"]["rules"] |= {"control_characters": "warn", "conflicting_labels": "quarantine"}
    record = found_in(block, tmp_path)
    assert record.by_rule["leak"] == 123
    copies = [row for row in report(tmp_path) if row["rule"] == "duplicate"]
    assert sum(row["file"].endswith("train.parquet") for row in copies) == 96
    assert sum(row["file"].endswith("test.parquet") for row in copies) == 199
