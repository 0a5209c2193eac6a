"""Splits of rows: columns, files side by side, and folders of files or folders."""

import json
from pathlib import Path

import pytest

from flows.cli import main
from pipeline import recipe as parsed
from pipeline.core.config import read_recipe
from pipeline.core.errors import UserError
from tests.conftest import make_rows, news_params
from tests.flows.cli.proposals.files import found, lines, table, texts, told

ROWS = [(r["text"], r["label"]) for r in make_rows(120)]
HEADER = ["text", "label"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(news_params())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("names", [("train", "dev", "test"), ("training", "valid", "testing")])
def test_names_of_splits_in_a_column(names: tuple[str, ...]) -> None:
    rows = [(*row, names[n % 8 % 3]) for n, row in enumerate(ROWS)]
    assert found(table("a.csv", [*HEADER, "fold"], rows))[1]["split"] == "fold"


def test_a_folder_with_a_file_for_each_split(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "dev", "test"):
        table(f"mails/{name}.csv", HEADER, ROWS)
    table("mails/unlabelled.csv", ["text"], [[text] for text, _ in ROWS])
    assert main.main(["new", "mails"]) == 0
    block = read_recipe("mails")
    assert block["watch"] == "mails"
    source = {"train": "mails/train.csv", "validation": "mails/dev.csv", "test": "mails/test.csv"}
    assert block["ingest"]["source"] == source
    assert "other files are left out: unlabelled.csv" in capsys.readouterr().out
    parsed.load("mails")


def test_a_training_file_alone_is_the_source_and_is_watched() -> None:
    table("mails/train.csv", HEADER, ROWS)
    assert main.main(["new", "mails"]) == 0
    block = read_recipe("mails")
    assert block["watch"] == block["ingest"]["source"] == "mails/train.csv"
    assert block["ingest"]["test_percent"] == 20


def test_two_training_files_are_refused() -> None:
    table("mails/train.csv", HEADER, ROWS)
    lines("mails/train.jsonl", [{"text": text, "label": label} for text, label in ROWS])
    with pytest.raises(UserError, match=r"name the file: train.csv, train.jsonl$"):
        found("mails")


def test_a_folder_of_tagged_files_is_no_folder_of_labels() -> None:
    content = "".join(f"Anna{n} B-PER\nsings O\n\n" for n in range(9))
    for name in ("train", "valid", "test"):
        texts(f"towns/{name}.txt", content)
    task, ingest = found("towns")
    assert task == "ner"
    assert list(ingest["source"]) == ["train", "validation", "test"]


def test_a_file_of_lines_for_each_label_may_be_called_train() -> None:
    for name in ("train", "bus", "car"):
        texts(f"vehicles/{name}.txt", "".join(f"{name}s {text}\n" for text, _ in ROWS))
    task, ingest = found("vehicles")
    assert (task, ingest["format"], ingest["label"]) == ("classification", "lines", "label")
    assert "3 .txt files, a file for each label" in told("vehicles")


def test_a_folder_of_splits_of_folders_of_labels() -> None:
    for split in ("train", "test"):
        for label in ("neg", "pos"):
            for n, (text, _) in enumerate(ROWS[:20]):
                texts(f"films/{split}/{label}/{n}.txt", f"{label} {text}")
    task, ingest = found("films")
    assert task == "classification"
    assert ingest["source"] == {"train": "films/train", "test": "films/test"}
    assert "a folder for each label, a file for each text: neg, pos" in told("films/train")


def test_a_folder_of_many_text_files_holds_documents() -> None:
    for n in range(201):
        texts(f"corpus/{n}.txt", f"document {n}\nsays {ROWS[n % 120][0]}")
    assert found("corpus") == ("masked_lm", {"format": "documents", "text": "text"})


def test_a_folder_of_tables_is_read_as_one() -> None:
    for n in range(3):
        table(f"parts/part-{n}.csv", HEADER, ROWS[n * 40 :][:40], ";")
    task, ingest = found("parts")
    assert (task, ingest["label"]) == ("classification", "label")
    assert "3 tables, read as one: part-0.csv, part-1.csv, part-2.csv" in told("parts")


def test_tables_without_a_header_in_a_folder() -> None:
    for n in range(2):
        table(f"parts/part-{n}.tsv", None, ROWS[n * 60 :][:60], "\t")
    assert found("parts")[1]["header"] == ["text", "label"]


def test_shards_without_validation_rows_draw_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"]
    for n, name in enumerate(names):
        table(f"rows/data/{name}.csv", HEADER, ROWS[n * 40 :][:40])
    assert main.main(["new", "rows"]) == 0
    block = read_recipe("rows")
    assert (block["ingest"]["source"], block["ingest"]["split"]) == ("rows", "split")
    assert (block["watch"], block["ingest"]["validation_percent"]) == ("rows", 10)
    assert "validation rows are drawn from the training rows" in capsys.readouterr().out
    parsed.load("rows")


def test_shards_of_all_splits_keep_their_column() -> None:
    for n, name in enumerate(["train-0", "validation-0", "test-0"]):
        table(f"rows/{name}.csv", HEADER, ROWS[n * 40 :][:40])
    assert found("rows")[1] == {"split": "split", "text": "text", "label": "label"}


def test_a_column_without_validation_rows_is_told() -> None:
    rows = [(*row, "train" if n % 4 else "test") for n, row in enumerate(ROWS)]
    file = table("a.csv", [*HEADER, "fold"], rows)
    assert found(file)[1]["split"] == "fold"
    assert "validation rows are drawn from the training rows" in told(file)
    rows = [(*row, str(n % 40)) for n, row in enumerate(rows)]
    assert found(table("b.csv", [*HEADER, "fold", "author"], rows))[1]["group"] == "author"
    rows = [(*row[:2], ("train", "dev", "test")[n % 3], row[3]) for n, row in enumerate(rows)]
    assert "group" not in found(table("c.csv", [*HEADER, "fold", "author"], rows))[1]


def test_what_datasets_saved_has_its_splits() -> None:
    import pyarrow as pa

    rows = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    for split in ("train", "test"):
        folder = Path("saved") / split
        folder.mkdir(parents=True)
        data = pa.table(rows)
        with (
            pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
            pa.ipc.new_stream(file, data.schema) as stream,
        ):
            stream.write_table(data)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (folder / "state.json").write_text(json.dumps(state))
    Path("saved/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    expected = {"split": "split", "text": "text", "label": "label"}
    assert found("saved") == ("classification", expected)
    assert "what datasets.save_to_disk wrote" in told("saved")


def test_the_only_other_file_of_a_split_may_have_a_longer_name() -> None:
    for name in ("train", "val", "test_2016"):
        for language in ("en", "fr"):
            texts(f"x/{name}.{language}", "a cat\nthe dog\nno bird\n")
    source = found("x/train.en")[1]["source"]
    assert source == {"train": "x/train.en", "validation": "x/val.en", "test": "x/test_2016.en"}


def test_a_file_that_lacks_a_column_is_left_out_and_the_reason_told() -> None:
    table("x/train.csv", HEADER, ROWS)
    table("x/test.csv", ["text"], [[text] for text, _ in ROWS])
    assert found("x/train.csv")[1]["source"] == "x/train.csv"
    assert "test.csv is left out: row 1: no column 'label'" in told("x/train.csv")


def test_labels_of_another_kind_are_no_split_of_these_rows() -> None:
    table("x/train.csv", HEADER, ROWS)
    table("x/test.csv", HEADER, [(text, f"other {label}") for text, label in ROWS])
    assert "test.csv is left out: its labels are others" in told("x/train.csv")


def test_files_of_splits_in_the_folder_of_the_project_cannot_be_watched() -> None:
    table("train.csv", HEADER, ROWS)
    table("test.csv", HEADER, ROWS)
    assert "source" not in found("train.csv")[1]
    assert "test.csv beside it: left out, for DVC cannot watch this folder" in told("train.csv")
    table("x/train.csv", HEADER, ROWS)
    assert list(found("x/train.csv")[1].get("source", [])) == []


def test_an_empty_folder_is_refused() -> None:
    Path("empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no files in folders"):
        found("empty")
