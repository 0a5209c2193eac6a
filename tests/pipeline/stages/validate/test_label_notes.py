"""Notes on classes: names that look alike, wrong columns, classes with too few rows."""

from collections.abc import Mapping

import pytest

from pipeline.stages.validate.label_notes import alike, near_name, notes


def counts(totals: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return the rows of each class, many in every split."""
    return {name: {"train": rows, "validation": 9, "test": 9} for name, rows in totals.items()}


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("Sport", "case"),
        ("s port", "spaces"),
        ("ｓｐｏｒｔ", "width"),
        ("sport.", "a full stop"),
        ("Sport .", "spaces, a full stop or case"),
        ("Ｓport", "width or case"),
    ],
)
def test_classes_that_look_alike_are_told_by_their_difference(name: str, difference: str) -> None:
    [told] = alike({name: 12, "sport": 300, "film": 5})
    assert told == (
        f"'sport' (300 rows) and {name!r} (12 rows) differ by {difference} only:"
        " are they one class?"
    )


def test_classes_that_differ_are_not_alike() -> None:
    names = ["sport", "sports", "e.mail", "email", "1", "1.0", "不", "否", "Ü", "U"]
    assert alike(dict.fromkeys(names, 9)) == []


def test_an_allowed_class_that_looks_like_another_is_found() -> None:
    assert near_name("FILM", ["sport", "film"]) == "film"
    assert near_name("films", ["sport", "film"]) is None


def test_thousands_of_classes_make_few_short_lines() -> None:
    names = [f"{'a very long name of a class ' * 9}{place}" for place in range(3000)]
    totals = {name: 1 for each in names for name in (each, each.upper())}
    found = counts(totals)
    told = notes(found, found, exclusive=False)
    assert any("2,997 more groups of classes" in note for note in told)
    assert max(map(len, told)) < 300
    assert len(told) < 8


def test_a_class_a_row_is_told_as_the_wrong_column() -> None:
    totals = {f"text {place}": {"train": 1} for place in range(600)}
    [told] = notes(totals, totals, exclusive=True)
    assert told.startswith("600 classes in 600 rows: is ingest.label the right column?")


def test_amounts_are_told_as_a_task_of_numbers() -> None:
    totals = counts({f"{place / 7:.2f}": 3 for place in range(100)})
    [told] = notes(totals, totals, exclusive=True)
    assert told.startswith("all 100 classes are numbers (0.00, 0.14, 0.29, …): are they amounts?")


@pytest.mark.parametrize("first", [0, 1])
def test_classes_that_are_numbered_are_no_amounts(first: int) -> None:
    totals = counts({str(place + first): 99 for place in range(77)})
    assert notes(totals, totals, exclusive=True) == []


def test_stars_are_no_amounts() -> None:
    totals = counts({f"{stars / 2}": 99 for stars in range(2, 11)})
    assert notes(totals, totals, exclusive=True) == []


def test_a_class_too_small_for_the_splits_is_told_with_its_rows() -> None:
    found = counts({"film": 99, "sport": 99, "money": 2})
    found["money"] = {"train": 2, "test": 1}
    few, none = notes(found, found, exclusive=True)
    assert few == "1 of 3 classes has fewer than 5 training rows: 'money' (2 training rows)"
    assert none == "1 of 3 classes has no validation row, hence no score there: 'money' (3 rows)"


def test_a_class_whose_rows_are_set_aside_has_none() -> None:
    found = counts({"film": 99, "sport": 99})
    kept = {"film": found["film"]}
    few, *_ = notes(found, kept, exclusive=True)
    assert few == "1 of 2 classes has fewer than 5 training rows: 'sport' (0 training rows)"
