"""Readers of earlier stages' artifacts."""

from pipeline.stages import artifacts
from tests.pipeline.conftest import Home


def test_a_share_of_the_rows_is_drawn_by_chance_and_the_same_each_time(tokens: Home) -> None:
    every = artifacts.kept_rows(tokens.validate, "train")
    some = artifacts.kept_rows(tokens.validate, "train", most=50)
    assert len(some) == 50
    assert some.equals(artifacts.kept_rows(tokens.validate, "train", most=50))
    assert set(some["id"]) < set(every["id"])
    assert some["id"].tolist() == [name for name in every["id"] if name in set(some["id"])]
    assert artifacts.kept_rows(tokens.validate, "train", most=10 * len(every)).equals(every)


def test_columns_are_read_alone(tokens: Home) -> None:
    assert list(artifacts.kept_rows(tokens.validate, "train", ["label"])) == ["label"]
