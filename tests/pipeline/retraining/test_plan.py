"""True if a recipe is worth training again, from facts alone."""

from typing import Any

import pandas as pd
import pytest

from pipeline.core.config import parse
from pipeline.core.errors import UserError
from pipeline.retraining.plan import Past, Rescore, RetrainParams, plan
from pipeline.retraining.row_changes import Changes, compare

BLOCK = {"schedule": "0 3 * * *", "timezone": "UTC", "min_new_rows": 50, "notify": []}
PARAMS = RetrainParams(**BLOCK)
DATA = {"data": ["data/raw/news.csv"]}


def rows(labels: str, first: int = 0) -> pd.DataFrame:
    ids = [f"{number:08x}" for number in range(first, first + len(labels))]
    return pd.DataFrame({"id": ids, "label": list(labels), "split": "train"})


def changed(now: str, before: str = "ab" * 100) -> Changes:
    return compare(rows(before), rows(now))


def past(fate: str | None = "the champion", **inputs: list[str]) -> Past:
    return Past("news/3", fate, inputs)  # type: ignore[arg-type]


def test_without_a_version_there_is_one_to_make() -> None:
    assert plan(PARAMS, "news", None).run


def test_the_same_inputs_are_nothing_new() -> None:
    told = plan(PARAMS, "news", past())
    assert (told.run, told.why) == (False, "nothing new since news/3 (the champion)")


def test_a_version_that_was_not_judged_is_finished() -> None:
    few = changed("ab" * 100 + "a")
    for inputs, changes in (({}, None), (DATA, changed("ab" * 100)), (DATA, few)):
        told = plan(PARAMS, "news", past(None, **inputs), changes)
        assert (told.run, "never judged" in told.why) == (True, True)


def test_other_bytes_with_the_same_rows_are_nothing_new() -> None:
    told = plan(PARAMS, "news", past(**DATA), changed("ab" * 100))
    assert (told.run, "other bytes, the same rows" in told.why) == (False, True)


@pytest.mark.parametrize(("new", "run"), [(49, False), (50, True)])
def test_new_rows_have_to_be_enough(new: int, run: bool) -> None:
    told = plan(PARAMS, "news", past(**DATA), changed("ab" * 100 + "a" * new))
    assert told.run is run
    assert f"{new} new rows (a {new})" in told.why


def test_corrections_count_as_rows_and_are_called_corrections() -> None:
    corrected = "b" * 60 + ("ab" * 100)[60:]  # of each two, one was an a
    few = plan(PARAMS, "news", past(**DATA), changed(corrected))
    assert (few.run, few.changes and few.changes.corrected) == (False, 30)
    assert "30 labels corrected (a > b 30)" in few.why
    enough = RetrainParams(**BLOCK | {"min_new_rows": 30})
    assert plan(enough, "news", past(**DATA), changed(corrected)).run


def test_a_class_that_comes_or_is_renamed_needs_no_more_rows() -> None:
    renamed = plan(PARAMS, "news", past(**DATA), changed("xb" * 10, "ab" * 10))
    assert (renamed.run, "class 'a' is renamed 'x'" in renamed.why) == (True, True)
    added = plan(PARAMS, "news", past(**DATA), changed("ab" * 100 + "cc"))
    assert (added.run, "class 'c' is new" in added.why) == (True, True)


@pytest.mark.parametrize("kind", ["recipe", "base", "code", "pins", "behaviour suites"])
def test_anything_but_data_is_worth_a_training(kind: str) -> None:
    told = plan(PARAMS, "news", past(**{kind: ["some/file"]}), changed("ab" * 100))
    assert (told.run, told.why) == (
        True,
        f"new since news/3 (the champion): {kind}: some/file",
    )


def test_force_runs_what_is_not_worth_it_and_says_so() -> None:
    told = plan(PARAMS, "news", past(), force=True)
    assert (told.run, told.why) == (
        True,
        "asked for (nothing new since news/3 (the champion))",
    )


def test_a_champion_that_was_answered_again_is_told_also_where_nothing_is_new() -> None:
    scored = Rescore(version="news/3", rows=412, changed=2, max_difference=0.031)
    told = plan(PARAMS, "news", past(), rescore=scored)
    assert not told.run
    assert told.explanation.endswith(
        "news/3 answers 412 test rows under these versions: 2 answers changed, scores by 0.03 at"
        " most"
    )


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("timezone", "Mars/Olympus", "no time zone is called 'Mars/Olympus'"),
        ("timezone", "../etc/passwd", "no time zone is called"),
        ("schedule", "sometimes", "is neither cron, `every 6 h`, manual nor null"),
        ("schedule", "every 0 min", "is neither cron, `every 6 h`, manual nor null"),
        ("min_new_rows", 0, "greater than or equal to 1"),
        ("notify", ["pigeon"], "'slack', 'email' or 'webhook'"),
    ],
)
def test_an_impossible_section_is_refused_in_one_line(key: str, value: Any, told: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(RetrainParams, BLOCK | {key: value}, "recipes.news.retrain")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [("every 5 min", 300), ("every 6h", 21600), ("every 2 d", 172800), ("0 3 * * *", None)],
)
def test_an_interval_is_told_in_words(schedule: str, seconds: int | None) -> None:
    assert RetrainParams(**BLOCK | {"schedule": schedule}).every == seconds
