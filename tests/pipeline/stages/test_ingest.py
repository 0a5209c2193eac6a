"""Splits never move, and every row says where it comes from."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.stages.ingest import IngestParams, hashed_split, ingest
from tests.conftest import make_rows, write_csv

DEFAULTS: dict[str, Any] = {
    "text": "text",
    "label": "label",
    "group": None,
    "split": None,
    "carry": [],
    "validation_percent": 10.0,
    "test_percent": 20.0,
}


def read(tmp_path: Path, source: Any, **changes: Any) -> pd.DataFrame:
    params = IngestParams(**{**DEFAULTS, "source": source, **changes})
    ingest(params, tmp_path / "ingest")
    return pd.read_parquet(tmp_path / "ingest" / "rows.parquet")


def test_ten_more_rows_move_no_old_row(tmp_path: Path) -> None:
    rows = make_rows(500)
    old = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows[:490])))
    new = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows[490:] + rows[:490])))
    before, after = old.set_index("id")["split"], new.set_index("id")["split"]
    assert (after.loc[before.index] == before).all()
    assert len(new) == len(old) + 10


def test_shares_are_those_of_the_recipe(tmp_path: Path) -> None:
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", make_rows(4000))))
    shares = frame["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.02)
    assert shares["validation"] == pytest.approx(0.1, abs=0.02)


def test_case_and_spacing_do_not_part_copies(tmp_path: Path) -> None:
    rows = [{"text": f"{t}", "label": "x"} for t in ("A  Goal", "a goal", "Ａ goal ")]
    assert read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)))["split"].nunique() == 1


def test_a_group_stays_together(tmp_path: Path) -> None:
    rows = [row | {"author": str(i % 40)} for i, row in enumerate(make_rows(400))]
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), group="author")
    assert (frame.groupby("group")["split"].nunique() == 1).all()
    assert frame["split"].nunique() == 3


def test_a_published_split_is_kept_and_validation_drawn_from_train(tmp_path: Path) -> None:
    rows = make_rows(600)
    source = {
        "train": str(write_csv(tmp_path / "train.csv", rows[:400])),
        "test": str(write_csv(tmp_path / "test.csv", rows[400:])),
    }
    frame = read(tmp_path, source)
    assert set(frame[frame["file"].str.endswith("test.csv")]["split"]) == {"test"}
    train = frame[frame["file"].str.endswith("train.csv")]["split"]
    assert set(train) == {"train", "validation"}
    assert (train == "validation").mean() == pytest.approx(0.1, abs=0.05)


def test_a_split_column_is_obeyed_and_its_strange_values_rejected(tmp_path: Path) -> None:
    rows = [
        {"text": f"text {i}", "label": "x", "part": part}
        for i, part in enumerate(["train", "dev", "TEST", "holdout"])
    ]
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), split="part")
    assert frame["split"].tolist() == ["train", "validation", "test"]
    rejects = pd.read_parquet(tmp_path / "ingest" / "rejects.parquet")
    assert "'holdout', not train" in rejects["reason"][0]


def test_copies_of_a_text_have_names_of_their_own(tmp_path: Path) -> None:
    rows = [{"text": "same", "label": "x"}] * 3
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)))
    assert frame["id"].is_unique
    assert frame["line"].tolist() == [2, 3, 4]


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = str(write_csv(tmp_path / "a.csv", make_rows(50)))
    read(tmp_path, source)
    first = (tmp_path / "ingest" / "rows.parquet").read_bytes()
    read(tmp_path, source)
    assert (tmp_path / "ingest" / "rows.parquet").read_bytes() == first


@pytest.mark.parametrize("content", ["text,label\n", "text,label\nonly one field\n"])
def test_a_source_without_rows_is_refused_and_leaves_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=r"a\.csv.*no rows"):
        read(tmp_path, str(tmp_path / "a.csv"))
    assert not (tmp_path / "ingest" / "rows.parquet").exists()


def test_a_key_has_one_split_for_ever() -> None:
    params = IngestParams(**DEFAULTS, source="x")
    # Written down: another hash would move everybody's rows
    assert hashed_split("a", params) == "train"
    assert hashed_split("b", params) == "validation"
    assert hashed_split("c", params) == "test"
