"""Changes of rows, found by their texts: new, gone, corrected, and renamed classes."""

import random
from collections import Counter

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.retraining.row_changes import Changes, Passage, compare, words

Rows = list[tuple[str, str, str]]  # text, label, split
LABELS = ["sport", "tech", "film", ""]
rows = st.lists(
    st.tuples(
        st.sampled_from("abcdefghij"),
        st.sampled_from(LABELS),
        st.sampled_from(["train", "validation", "test"]),
    ),
    max_size=25,
)


def table(rows: Rows) -> pd.DataFrame:
    """Row ids in the form of `ingest`: further copies of a text have a number."""
    seen: Counter[str] = Counter()
    listed = []
    for text, label, split in rows:
        seen[text] += 1
        name = text if seen[text] == 1 else f"{text}-{seen[text]}"
        listed.append({"id": name, "label": label, "split": split})
    return pd.DataFrame(listed, columns=["id", "label", "split"], dtype="str")


def changes(before: Rows, now: Rows) -> Changes:
    return compare(table(before), table(now))


def some(label: str, count: int, start: int = 0) -> Rows:
    return [(f"{label}{place}", label, "train") for place in range(start, start + count)]


def named(rows: Rows, old: str, new: str) -> Rows:
    return [(text, new if label == old else label, split) for text, label, split in rows]


quick = settings(max_examples=40, deadline=None)


@quick
@given(rows, st.randoms(use_true_random=False))
def test_a_table_and_itself_in_another_order_are_the_same(rows: Rows, draw: random.Random) -> None:
    found = changes(rows, draw.sample(rows, len(rows)))
    assert words(found) == ["nothing new"]
    assert found.rows == found.moved == 0


@quick
@given(rows, rows, st.randoms(use_true_random=False))
def test_order_does_not_matter(before: Rows, now: Rows, draw: random.Random) -> None:
    found = changes(before, now)
    mixed = changes(draw.sample(before, len(before)), draw.sample(now, len(now)))
    assert mixed == found
    assert Changes.model_validate_json(found.model_dump_json()) == found


@quick
@given(rows, rows)
def test_counts_add_up(before: Rows, now: Rows) -> None:
    found, back = changes(before, now), changes(now, before)
    assert found.before + found.new - found.gone == found.now
    assert sum(found.new_by_label.values()) == found.new == back.gone
    assert sum(found.gone_by_label.values()) == found.gone == back.new
    assert sum(found.corrections.values()) == found.corrected
    assert found.rows == back.rows
    assert found.moved == back.moved
    texts = Counter(text for text, _, _ in before), Counter(text for text, _, _ in now)
    assert (found.gone, found.new) == (
        (texts[0] - texts[1]).total(),
        (texts[1] - texts[0]).total(),
    )


@quick
@given(rows)
def test_a_name_that_is_changed_and_changed_back_is_renamed_twice(rows: Rows) -> None:
    count = Counter(label for _, label, _ in rows)["tech"]
    other = named(rows, "tech", "technology")
    there, back = changes(rows, other), changes(other, rows)
    for found, old, new in ((there, "tech", "technology"), (back, "technology", "tech")):
        if count > 1:
            assert found.renamed == [Passage(old=old, new=new, rows=count)]
            assert found.rows == count
            assert not found.corrected + found.moved
        assert not found.new + found.gone
    assert changes(rows, named(other, "technology", "tech")).rows == 0


def test_rows_come_go_and_are_corrected() -> None:
    before = some("sport", 20) + some("tech", 20)
    now = [
        *before[4:18],
        *named(before[18:20], "sport", "tech"),
        *before[20:],
        ("x", "tech", "test"),
    ]
    found = changes(before, now)
    assert (found.new, found.gone, found.corrected, found.rows) == (1, 4, 2, 7)
    assert words(found) == [
        "1 new row (tech 1)",
        "4 rows gone (sport 4)",
        "2 labels corrected (sport > tech 2)",
    ]


def test_a_rename_with_corrections_and_new_rows_is_told_as_all_three() -> None:
    before = some("sport", 50) + some("tech", 50)
    now = named(before[3:], "tech", "technology") + some("technology", 5)
    now[60] = (now[60][0], "sport", "train")
    assert words(changes(before, now)) == [
        "5 new rows (technology 5)",
        "3 rows gone (sport 3)",
        "1 label corrected (tech > sport 1)",
        "class 'tech' is renamed 'technology' (49 rows)",
    ]


def test_a_class_that_others_join_is_merged() -> None:
    before = some("a", 10) + some("b", 10) + some("c", 10)
    assert words(changes(before, named(before, "a", "b"))) == [
        "class 'a' is merged into 'b' (10 rows)"
    ]
    both = changes(before, named(named(before, "a", "z"), "b", "z"))
    assert words(both) == [
        "class 'a' is merged into 'z' (10 rows)",
        "class 'b' is merged into 'z' (10 rows)",
    ]
    assert (both.rows, both.added, both.dropped, both.corrected) == (20, {}, {}, 0)


def test_a_name_that_its_class_has_left_can_be_given_to_another() -> None:
    before = some("a", 10) + some("b", 10)
    swapped = named(named(named(before, "a", "x"), "b", "a"), "x", "b")
    assert words(changes(before, swapped)) == [
        "class 'a' is renamed 'b' (10 rows)",
        "class 'b' is renamed 'a' (10 rows)",
    ]


def test_a_class_under_several_new_names_is_split() -> None:
    before = some("a", 10) + some("b", 10)
    now = named(before[:6], "a", "x") + named(before[6:10], "a", "y") + before[10:]
    found = changes(before, now)
    assert words(found) == ["class 'a' is split (x 6, y 4)"]
    assert (found.rows, found.added, found.dropped) == (10, {}, {})


def test_a_class_comes_and_a_class_goes() -> None:
    before = some("a", 10) + some("b", 3)
    found = changes(before, before[:10] + some("c", 4))
    assert (found.added, found.dropped) == ({"c": 4}, {"b": 3})
    assert words(found)[2:] == [
        "class 'c' is new (4 rows)",
        "class 'b' is gone (it had 3 rows)",
    ]


@pytest.mark.parametrize("stay", ["the old rows", "new rows"])
def test_a_class_in_use_is_neither_renamed_nor_merged(stay: str) -> None:
    """All of the few old rows of a sliding window may be corrected."""
    before = some("a", 20) + some("b", 20)
    if stay == "the old rows":
        now = named(before[:17], "a", "b") + before[17:]
    else:
        now = named(before[:2], "a", "b") + before[20:] + some("a", 20, 20)
    found = changes(before, now)
    assert (found.merged, found.renamed, found.corrected) == ([], [], 17 if "old" in stay else 2)


def test_one_row_is_corrected_not_renamed() -> None:
    found = changes([*some("a", 1), *some("b", 5)], [*named(some("a", 1), "a", "z"), *some("b", 5)])
    assert (found.corrections, found.renamed) == ({"a > z": 1}, [])
    assert (found.added, found.dropped) == ({"z": 1}, {"a": 1})


def test_copies_of_a_text_are_a_heap_not_a_list() -> None:
    before = [("t", "a", "train"), ("t", "b", "train"), ("t", "b", "test")]
    assert changes(before, before[::-1]).rows == 0
    assert changes(before, before[1:]).gone_by_label == {"a": 1}
    now = [("t", "b", "train"), ("t", "c", "train"), ("t", "b", "test")]
    assert changes(before, now).corrections == {"a > c": 1}
    assert changes(before, now).moved == 0


def test_a_row_in_another_split_has_moved_and_needs_no_learning_anew() -> None:
    before = some("a", 3)
    found = changes(before, [(text, label, "test") for text, label, _ in before])
    assert (words(found), found.rows) == (["3 rows moved to another split"], 0)


def test_a_row_without_a_label_is_of_no_class() -> None:
    before = [(text, "", split) for text, _, split in some("a", 5)]
    found = changes(before, some("a", 5))
    assert words(found) == [
        "5 labels corrected (no label > a 5)",
        "class 'a' is new (5 rows)",
    ]
    frame = table(some("a", 5))
    frame["label"] = None
    assert compare(frame, table(some("a", 5))) == found


def kinds(label: str) -> list[str]:
    return [word for word in label.split() if word.isalpha()]


def test_labels_of_several_classes_are_told_by_their_classes() -> None:
    before = [("a", "x y", "train"), ("b", "x x", "train"), ("c", "", "test"), ("e", "1", "train")]
    now = [("a", "x y", "train"), ("b", "y", "train"), ("c", "", "test"), ("d", "z y", "train")]
    found = compare(table(before), table(now), kinds)
    assert words(found) == [
        "1 new row (y 1, z 1)",
        "1 row gone",
        "1 label corrected",
        "class 'z' is new (1 row)",
    ]
    assert (found.rows, found.corrections) == (3, {})


def test_labels_without_classes_are_not_taken_for_classes() -> None:
    before = [(str(place), str(place), "train") for place in range(30)]
    now = [(text, label + "0", split) for text, label, split in before[:20]]
    found = compare(table(before), table(now), kinds)
    assert words(found) == ["10 rows gone", "20 labels corrected"]
    assert (found.added, found.dropped, found.renamed, found.merged, found.split) == (
        *({}, {}),
        *([], [], []),
    )


def test_many_names_are_told_by_their_largest_and_hostile_ones_on_one_line() -> None:
    now = [row for place in range(12) for row in some(f"c{place:02}", 12 - place)]
    assert words(changes([], now))[0] == (
        "78 new rows (c00 12, c01 11, c02 10, c03 9, c04 8, c05 7, c06 6, c07 5, 4 more)"
    )
    assert all(
        line.isprintable() for line in words(changes([], some("a\nb\x1b[31m" + "c" * 99, 3)))
    )
