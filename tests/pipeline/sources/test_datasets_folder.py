"""Folders that `datasets` saved, and shards of tables."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from pipeline.core.errors import UserError
from pipeline.sources import Layout
from tests.pipeline.sources.reading import bad, good, read, write

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
        ("dataset_dict.json", b'{"splits": ["../saved"]}'),
        ("train/state.json", b"[]"),
        ("train/data-00000-of-00001.arrow", b"\xff\xff\xff\xff\x10\x00"),
    ],
)
def test_a_damaged_data_set_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    DatasetDict({"train": dataset(("a", 0))}).save_to_disk(tmp_path / "saved")
    write(tmp_path / "saved", name, content)
    with pytest.raises(UserError, match=r"save"):
        read(tmp_path / "saved", COLUMNS)


@pytest.mark.parametrize(
    "name", ["dataset_dict.json", "train/state.json", "train/data-00000-of-00001.arrow"]
)
def test_a_file_that_a_data_set_lacks_is_named(tmp_path: Path, name: str) -> None:
    DatasetDict({"train": dataset(("a", 0))}).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / name).unlink()
    with pytest.raises(UserError, match=f"{Path(name).name}: is missing: save the data set again"):
        read(tmp_path / "saved", COLUMNS)


def arrow(folder: Path, schema: pa.Schema, *columns: pa.Array) -> Path:
    """Write a data set of one Arrow file as `datasets` lays it out. Returns that file."""
    write(folder, "state.json", json.dumps({"_data_files": [{"filename": "a.arrow"}]}).encode())
    with pa.ipc.new_stream(str(folder / "a.arrow"), schema) as stream:
        stream.write_batch(pa.record_batch(list(columns), schema))
        stream.write_batch(pa.record_batch(list(columns), schema))
    return folder / "a.arrow"


TEXTS = pa.schema([("text", pa.string()), ("label", pa.string())])


def test_a_data_set_that_was_cut_between_two_batches_is_refused(tmp_path: Path) -> None:
    file = arrow(tmp_path / "saved", TEXTS, pa.array(["a"]), pa.array(["x"]))
    whole = file.read_bytes()
    assert good(read(tmp_path / "saved")) == [("a", "x")] * 2
    batch = (len(whole) - 8 - pa.ipc.open_stream(whole).schema.serialize().size) // 2
    for left in (whole[:-8], whole[: -8 - batch]):  # pyarrow reads both without an error
        assert pa.ipc.open_stream(left).read_all().num_rows in (1, 2)
        file.write_bytes(left)
        with pytest.raises(UserError, match="its end is not where it should be"):
            read(tmp_path / "saved")


def test_positions_outside_of_the_data_end_no_process(tmp_path: Path) -> None:
    wrong = pa.Array.from_buffers(
        pa.string(),
        2,
        [None, pa.array([0, 9_000_000, 1], pa.int32()).buffers()[1], pa.py_buffer(b"ab")],
    )
    arrow(tmp_path / "saved", TEXTS, wrong, pa.array(["x", "y"]))
    with pytest.raises(UserError, match="save the data set again"):
        read(tmp_path / "saved")


def test_a_text_of_a_data_set_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    arrow(tmp_path / "saved", TEXTS, texts, pa.array(["x", "y"]))
    rows = read(tmp_path / "saved")
    assert good(rows) == [("a", "x"), ("a", "x")]
    assert [number for number, _ in bad(rows)] == [2, 4]


def test_columns_that_nobody_asks_for_cost_no_row(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string()), ("label", pa.string()), ("image", pa.binary())])
    arrow(tmp_path / "saved", schema, pa.array(["a"]), pa.array(["x"]), pa.array([b"\xff\xd8"]))
    assert good(read(tmp_path / "saved")) == [("a", "x")] * 2


def test_a_split_column_of_its_own_stays(tmp_path: Path) -> None:
    own = dataset(("a", 0)).add_column("split", ["test"])
    DatasetDict({"train": own}).save_to_disk(tmp_path / "saved")
    own.to_parquet(tmp_path / "parts/train-0.parquet")
    for folder in ("saved", "parts"):
        assert good(read(tmp_path / folder, COLUMNS), COLUMNS) == [("a", "neg", "test")]


def test_an_empty_split_has_no_rows(tmp_path: Path) -> None:
    empty = Dataset.from_dict({"text": [], "label": []}, features=FEATURES)
    DatasetDict({"train": dataset(("a", 0)), "test": empty}).save_to_disk(tmp_path / "saved")
    assert good(read(tmp_path / "saved")) == [("a", "neg")]


def test_names_of_classes_inside_of_objects_are_read(tmp_path: Path) -> None:
    entity = {"start": Value("int32"), "label": ClassLabel(names=["PER", "LOC"])}
    features = Features({"text": Value("string"), "label": List(entity)})
    spans = [[{"start": 0, "label": 1}], []]
    found = Dataset.from_dict({"text": ["a", "b"], "label": spans}, features=features)
    found.save_to_disk(tmp_path / "saved")
    found.to_parquet(tmp_path / "a.parquet")
    for source in ("saved", "a.parquet"):
        labels = [label for _, label in good(read(tmp_path / source))]
        assert labels == ['[{"start": 0, "label": "LOC"}]', "[]"]


def test_tokens_and_tags_of_a_saved_data_set_are_texts_with_spans(tmp_path: Path) -> None:
    tags = List(ClassLabel(names=["O", "B-PER", "I-PER"]))
    features = Features({"tokens": List(Value("string")), "ner_tags": tags})
    rows = {"tokens": [["Ann", "Lee", "sings"]], "ner_tags": [[1, 2, 0]]}
    found = Dataset.from_dict(rows, features=features)
    DatasetDict({"train": found}).save_to_disk(tmp_path / "saved")
    read_rows = read(tmp_path / "saved", COLUMNS, Layout(format="tokens"))
    assert good(read_rows, COLUMNS) == [("Ann Lee sings", '[[0, 7, "PER"]]', "train")]


@pytest.mark.parametrize("layout", [Layout(header=("a",)), Layout(encoding="cp1252")])
def test_options_of_text_files_are_refused_for_a_saved_data_set(
    tmp_path: Path, layout: Layout
) -> None:
    dataset(("a", 0)).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match=r"ingest\.(header|encoding) is for"):
        read(tmp_path / "saved", layout=layout)


def test_a_row_of_a_shard_names_its_file_inside_of_the_folder(tmp_path: Path) -> None:
    for name in ("a/x.csv", "b/x.csv", "b/train.csv"):
        write(tmp_path, f"parts/{name}", b"text,label\na,x\n")
    rows = read(tmp_path / "parts")
    assert [row.file for row in rows] == ["a/x.csv", "b/train.csv", "b/x.csv"]


def test_empty_shards_hold_no_rows(tmp_path: Path) -> None:
    write(tmp_path, "parts/part-0.jsonl", b"")
    write(tmp_path, "parts/part-1.jsonl.gz", gzip.compress(b'{"text": "a", "label": "x"}\n'))
    assert good(read(tmp_path / "parts")) == [("a", "x")]
    write(tmp_path, "parts/part-1.jsonl.gz", b"")
    with pytest.raises(UserError, match="is empty"):
        read(tmp_path / "parts")


def test_a_table_beside_folders_of_texts_is_none_of_the_rows(tmp_path: Path) -> None:
    write(tmp_path, "mails/spam/1.txt", b"buy")
    write(tmp_path, "mails/index.csv", b"file,date\n1.txt,2026\n")
    assert good(read(tmp_path / "mails")) == [("buy", "spam")]


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
