"""A sample has rows from all of a file, within bounds."""

from collections.abc import Iterator

import pytest

from flows.cli.proposals import sampling
from flows.cli.proposals.sampling import sampled
from pipeline.core.log import FunctionLog
from pipeline.sources import Reject, Row


def rows(number: int, text: str = "a text") -> Iterator[Row]:
    for line in range(number):
        yield Row("a.csv", line, {"text": text, "label": str(line)})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "ROWS", 100)
    monkeypatch.setattr(sampling, "FIRST", 10)


def test_a_small_file_is_its_own_sample(small: None) -> None:
    sample = sampled(rows(100))
    assert [row.number for row in sample.rows] == list(range(100))
    assert sample.read == 100


def test_the_first_rows_and_some_from_everywhere_are_kept_in_order(small: None) -> None:
    sample = sampled(rows(5000))
    numbers = [row.number for row in sample.rows]
    assert numbers == sorted(set(numbers))
    assert numbers[:10] == list(range(10))
    assert len(numbers) == 100
    assert 2000 < sum(numbers[10:]) / 90 < 3000
    assert sample.read == 5000


def test_the_same_file_gives_the_same_sample(small: None) -> None:
    assert sampled(rows(3000)).rows == sampled(rows(3000)).rows


def test_long_rows_and_many_columns_make_a_sample_smaller(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "CHARACTERS", 1000)
    assert 5 <= len(sampled(rows(1000, "x" * 100)).rows) <= 10
    monkeypatch.setattr(sampling, "CELLS", 12)
    assert len(sampled(rows(1000)).rows) == 7


def test_rejects_are_counted_and_not_kept() -> None:
    bad = [Reject("a.csv", n, "a quote that opens here is never closed") for n in (3, 4)]
    sample = sampled([*rows(2), *bad, Reject("a.csv", 5, "has 1 fields")])
    assert (sample.read, sample.rejects, sample.quotes) == (2, 3, 2)
    assert sample.first_reject == bad[0]


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "TOLD", 100)
    written: list[str] = []
    sampled(rows(250), FunctionLog(written.append))
    assert written == ["100 rows looked at", "200 rows looked at"]
