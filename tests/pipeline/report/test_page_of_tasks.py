"""The report of each kind of task."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from pipeline.report import page
from pipeline.report.page import build
from tests.pipeline.report.records import (
    AVERAGE,
    KINDS,
    Kind,
    MakeHome,
    answers,
    emotions,
    kind,
    lengths,
    spans,
    validation,
)
from tests.pipeline.report.test_page import Page


def test_a_task_without_classes_shows_neither_confusion_nor_calibration(
    make_home: MakeHome,
) -> None:
    text = build(make_home(**answers()), "toy")
    headings = re.findall("<h3>(.*?)</h3>", text)
    assert headings == ["Rules", "Flagged rows", "Splits and leakage", "Slices", "Worst mistakes",
                        "Guardrails", "Lineage", "Files"]  # fmt: skip
    told = Page(text).text
    for shown in (
        "Test exact match 0.7812 0.7712 to 0.7912, 200 rows",
        "Test F1 0.8634 0.8534 to 0.8734, 200 rows",
        "exact match of answerable 0.8021",
        "answerable rows 1,532",
        "Parameters besides the weights Taken from training labels or tuned on validation"
        " rows; test rows are not used. name value null threshold −1.375",
        "this model 0.7812 [0.7712, 0.7912] 0.8634 [0.8534, 0.8734]",
        "runtime validation exact match flips test exact match test F1 flips why",
        "Texts of more than 64 tokens (5.00 % of train, 5.00 % of validation, 5.00 % of test) are"
        " read in windows that share 16 tokens: 700 train rows make 1,904, 100 validation rows",
        "windows of 64 tokens",
        "were kept: validation exact match 0.1234",
        "test rows exact match characters: 1–20",
        "none the second half of the nineteenth century",
    ):
        assert shown in told, shown
    assert "ccuracy" not in told
    assert "acro-F1" not in told
    assert "classes" not in told


def test_a_space_is_drawn_where_there_is_one(make_home: MakeHome) -> None:
    places = [("id", n, n, "film", n > 1) for n in range(9)]
    home = make_home(points=places)
    assert "texts that are close are similar" in Page(build(home, "toy")).text
    (home / "evaluate" / "map.csv").write_text("id,x,y,class,right\n")
    assert "texts that are close are similar" not in Page(build(home, "toy")).text


def test_mistakes_are_told_by_what_puts_them_in_order(make_home: MakeHome) -> None:
    home = make_home()
    told = Page(build(home, "toy")).text
    assert "Wrong test answers, the surest first." in told
    assert "truth answer confidence where text" in told
    (home / "evaluate" / "mistakes.csv").write_text(
        "id,truth,answer,file,line,excerpt\n1,0.5,3.5,a.csv,9,the worst one\n"
    )
    told = Page(build(home, "toy")).text
    assert "Wrong test answers, the farthest from the truth first." in told
    assert "truth answer where text 0.5 3.5 a.csv:9 the worst one" in told


def test_texts_cut_in_their_middle_are_told_so(make_home: MakeHome) -> None:
    cut = lengths().model_copy(update={"long_text": "head_tail"})
    told = Page(build(make_home(lengths=cut), "toy")).text
    assert "Texts are cut to 64 tokens of their beginning and end: this shortens" in told


def test_many_labels_show_their_thresholds_and_a_picture_of_confusion(make_home: MakeHome) -> None:
    text = build(make_home(**emotions()), "toy")
    told = Page(text).text
    for shown in (
        "Test micro-F1 0.5873 0.5773 to 0.5973, 200 rows",
        "Test macro-F1 0.4921 0.4821 to 0.5021, 28 classes",
        "model micro-F1 macro-F1 sample-F1 exact match better on this model better on p",
        "name of value thresholds mild admiration 0.15 thresholds mild anger 0.17",
        "thresholds mixed surprise 0.69",
        "22.0 M parameters (1.34 % of them trained) learned",
        "area under ROC 0.9100",
        "area under precision-recall 0.5211",
        "class in rows kept share mild admiration 42 3.57 %",
        "From 0: the classes as in the table above, then nothing.",
        "truth answer times of the truth",
        "mild admiration nothing 7 14.00 %",
    ):
        assert shown in told, shown
    assert 'aria-label="Confusion matrix of 29 names' in text
    assert "Test exact match" not in told  # two metrics head the page


def test_two_thousand_classes_make_a_page_that_can_be_read(make_home: MakeHome) -> None:
    names = [f"code {i:04d}" for i in range(2_000)]
    found = kind(
        names,
        {"micro_f1": 0.5, "macro_f1": 0.5},
        [],
        {"decision": {"thresholds": dict.fromkeys(names, 0.5)}},
        per_class={name: {**AVERAGE, "f1": i / 2_000, "rows": 3.0} for i, name in enumerate(names)},
        averages=dict.fromkeys(("micro", "macro"), AVERAGE),
        more={"roc_auc": 0.91},
        confusions={name: {name: 2, after: 1} for name, after in pairwise(names)},
    )
    kept = validation(names).model_copy(update={"kept_by_label": dict.fromkeys(names, 42)})
    text = build(make_home(**(found | {"validation": kept})), "toy")
    assert len(text) < 800_000
    told = Page(text).text
    for shown in (
        "The 150 of 2,000 classes with the most mistakes; all are in evaluate/scores.json.",
        "The first 150 of 2,000; all are in finetune/fit.json.",
        "1,851 others 77,742 92.55 %",
        "From 0: the most confused of 2,000 classes; the last is all others.",
    ):
        assert shown in told, shown
    assert 'aria-label="Confusion matrix of 150 names' in text


def test_thresholds_in_a_list_are_told_by_class(make_home: MakeHome) -> None:
    few = page._decision({"thresholds": [0.1, 0.2], "margin": 0.5}, ["film", "money"])
    assert list(few) == [
        ("thresholds", "film", 0.1),
        ("thresholds", "money", 0.2),
        ("margin", "", 0.5),
    ]


def test_what_was_missed_or_made_up_is_confused_with_nothing(make_home: MakeHome) -> None:
    text = build(make_home(**spans()), "toy")
    told = Page(text).text
    for shown in (
        "Test entity F1 0.8835 0.8735 to 0.8935, 200 rows",
        "truth LOC MISC ORG PER nothing LOC 380 0 20 0 12",
        "nothing 8 44 12 0 Most frequent",
        "truth answer times of the truth MISC nothing 60 16.67 % nothing MISC 44 ORG LOC 31",
        "token accuracy 0.9812",
        "model entity F1 better on",
        "ORG: Northern Rowing Club; LOC: Ely; PER: A. Whitmore",
    ):
        assert shown in told, shown
    assert "Calibration" not in told


@pytest.mark.parametrize("made", KINDS.values(), ids=KINDS)
def test_every_kind_of_task_makes_a_sound_page(
    make_home: MakeHome, made: Callable[[], Kind]
) -> None:
    seen = Page(build(make_home(**made()), "toy"))
    levels = [int(tag[1]) for tag in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert seen.tags.count("figure") == seen.tags.count("svg")
    assert max(Counter(seen.values("id")).values()) == 1
    assert seen.tags.count("th") == len(seen.values("scope"))
