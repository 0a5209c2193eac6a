"""Folders that `datasets` saved, shards of tables, and data sets of the hub."""

from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from pipeline.core.errors import UserError
from tests.pipeline.sources.reading import good, read, write

FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
COLUMNS = ("text", "label", "split")


def dataset(*rows: tuple[str, int]) -> Dataset:
    texts, labels = zip(*rows, strict=True)
    return Dataset.from_dict({"text": list(texts), "label": list(labels)}, features=FEATURES)


def test_a_saved_data_set_is_a_source(tmp_path: Path) -> None:
    dataset(("a", 0), ("b", 1), ("c", -1)).save_to_disk(tmp_path / "saved")
    rows = read(tmp_path / "saved")
    assert good(rows) == [("a", "neg"), ("b", "pos"), ("c", "")]
    assert [row.number for row in rows] == [1, 2, 3]


def test_splits_of_a_saved_data_set_are_a_column(tmp_path: Path) -> None:
    both = DatasetDict({"train": dataset(("a", 0)), "test": dataset(("b", 1))})
    both.save_to_disk(tmp_path / "saved")
    rows = read(tmp_path / "saved", COLUMNS)
    assert good(rows, COLUMNS) == [("a", "neg", "train"), ("b", "pos", "test")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset_dict.json", b"{"),
        ("dataset_dict.json", b'{"splits": 3}'),
        ("train/state.json", b"[]"),
        ("train/data-00000-of-00001.arrow", b"\xff\xff\xff\xff\x10\x00"),
    ],
)
def test_a_damaged_data_set_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    DatasetDict({"train": dataset(("a", 0))}).save_to_disk(tmp_path / "saved")
    write(tmp_path / "saved", name, content)
    with pytest.raises(UserError, match=r"save"):
        read(tmp_path / "saved", COLUMNS)


def test_a_folder_of_tables_is_one_table(tmp_path: Path) -> None:
    write(tmp_path, "parts/part-0.csv", b"text,label\na,x\n")
    write(tmp_path, "parts/part-1.csv", b"text,label\nb,y\n")
    assert good(read(tmp_path / "parts")) == [("a", "x"), ("b", "y")]


def test_names_of_files_say_their_split(tmp_path: Path) -> None:
    dataset(("a", 0)).to_parquet(tmp_path / "set/data/train-00000-of-00001.parquet")
    dataset(("b", 1)).to_parquet(tmp_path / "set/data/test-00000-of-00001.parquet")
    rows = read(tmp_path / "set", COLUMNS)
    assert good(rows, COLUMNS) == [("b", "pos", "test"), ("a", "neg", "train")]
    with pytest.raises(UserError, match="no column 'topic'"):
        read(tmp_path / "set", ("text", "topic"))


def test_the_hub_needs_a_revision() -> None:
    from pipeline.sources.remote import local_path

    with pytest.raises(UserError, match="name the revision as hub:NAME@REVISION"):
        local_path("hub:someone/rows")


def test_a_data_set_of_the_hub_is_read_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "a" * 40
    folder = tmp_path / "hub/datasets--someone--rows/snapshots" / revision
    (folder / "data").mkdir(parents=True)
    dataset(("a", 0)).to_parquet(folder / "data/train-00000-of-00001.parquet")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    from pipeline.sources import read_rows

    rows = list(read_rows(f"hub:someone/rows@{revision}", COLUMNS))
    assert good(rows, COLUMNS) == [("a", "neg", "train")]
    with pytest.raises(UserError, match="cannot be downloaded from the hub"):
        list(read_rows(f"hub:someone/rows@{'b' * 40}", COLUMNS))
