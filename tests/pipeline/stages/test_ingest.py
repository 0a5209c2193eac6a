"""Splits are stable, and every row names its origin."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.log import Log, no_log
from pipeline.core.text import content_id
from pipeline.stages.ingest import stage
from pipeline.stages.ingest.params import check
from pipeline.stages.ingest.stage import hashed_split, ingest
from pipeline.tasks.base import Task
from tests.conftest import ROOT, SHARED, make_rows, write_csv
from tests.pipeline.stages.rows import (
    TOPICS,
    Numbers,
    Pairs,
    Ranking,
    Several,
    Spans,
    ingest_params,
)
from tests.servers import Site


def read(
    tmp_path: Path, source: Any, task: Task = TOPICS, log: Log = no_log, **changes: Any
) -> pd.DataFrame:
    ingest(ingest_params(source, **changes), task, tmp_path / "ingest", log=log)
    return pd.read_parquet(tmp_path / "ingest" / "rows.parquet")


def rejects(tmp_path: Path) -> list[tuple[int, str]]:
    frame = pd.read_parquet(tmp_path / "ingest" / "rejects.parquet")
    return list(zip(frame["line"], frame["reason"], strict=True))


def test_ten_more_rows_move_no_old_row(tmp_path: Path) -> None:
    rows = make_rows(500)
    old = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows[:490])))
    new = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows[490:] + rows[:490])))
    before, after = old.set_index("id")["split"], new.set_index("id")["split"]
    assert (after.loc[before.index] == before).all()
    assert len(new) == len(old) + 10


def test_long_rows_are_written_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(write_csv(tmp_path / "a.csv", make_rows(300)))
    at_once = read(tmp_path, source)
    longest = int(at_once["text"].str.len().sum()) // 10
    monkeypatch.setattr(stage, "LONGEST_BATCH", longest)
    assert read(tmp_path, source).equals(at_once)
    written = pq.ParquetFile(tmp_path / "ingest" / "rows.parquet").metadata
    groups = [written.row_group(n).num_rows for n in range(written.num_row_groups)]
    assert 9 <= len(groups) <= 11
    assert max(groups) < 60


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
    assert rejects(tmp_path) == [(5, "its 'part' is 'holdout', not train, validation or test")]


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
    params = ingest_params("x")
    # fixed values: another hash would move rows of existing recipes to other splits
    assert hashed_split("a", params) == "train"
    assert hashed_split("b", params) == "validation"
    assert hashed_split("c", params) == "test"


def test_a_row_of_one_text_keeps_its_name() -> None:
    # fixed values: another id would make all rows new
    assert content_id("a goal") == "29bf57e4be0d00dc7707"


PAIRS = [row | {"second": f"reply {i}"} for i, row in enumerate(make_rows(60))]


def test_two_texts_are_one_row(tmp_path: Path) -> None:
    source = str(write_csv(tmp_path / "a.csv", PAIRS))
    frame = read(tmp_path, source, Pairs(), second="second")
    assert list(frame.columns[:4]) == ["id", "text", "second", "label"]
    assert frame["second"].tolist() == [row["second"] for row in PAIRS]
    alone = read(tmp_path, source)
    assert (alone["second"] == "").all()
    assert not set(alone["id"]) & set(frame["id"])


def test_a_row_is_known_by_both_texts_and_by_which_is_which(tmp_path: Path) -> None:
    pairs = [("a", "b c"), ("a b", "c"), ("b c", "a"), ("a", "b c"), ("a b c", "")]
    rows = [{"text": a, "second": b, "label": "x"} for a, b in pairs]
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), Pairs(), second="second")
    first, *others = frame["id"]
    assert others[2] == f"{first}-2"
    assert len({first, *others}) == 5
    assert frame["id"][4] == content_id("a b c")


def test_case_and_spacing_do_not_part_copies_of_pairs(tmp_path: Path) -> None:
    pairs = [("A  Goal", "So what"), ("a goal ", " so WHAT"), ("Ａ goal", "so what ")]
    for word in ("x", "y", "z", "u", "v"):
        rows = [{"text": f"{a} {word}", "second": b, "label": "x"} for a, b in pairs]
        source = str(write_csv(tmp_path / "a.csv", rows))
        assert read(tmp_path, source, Pairs(), second="second")["split"].nunique() == 1


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (Pairs(), {}, "second: rows reads two texts: name the column of the second"),
        (TOPICS, {"second": "reply"}, "second: classification reads one text: set it to null"),
        (Ranking(), {"second": "reply"}, "group: rows is scored by group"),
    ],
)
def test_a_task_gets_the_columns_that_it_needs(
    tmp_path: Path, task: Task, changes: dict[str, Any], message: str
) -> None:
    source = str(write_csv(tmp_path / "a.csv", make_rows(3)))
    with pytest.raises(ValueError, match=f"^{message}"):
        check(ingest_params(source, **changes), task)
    with pytest.raises(UserError, match=f"^ingest.{message}"):
        read(tmp_path, source, task, **changes)
    assert not (tmp_path / "ingest").exists()


def test_a_group_stays_together_where_validation_is_drawn_from_train(tmp_path: Path) -> None:
    rows = [row | {"author": str(i % 40)} for i, row in enumerate(make_rows(400))]
    source = {
        "train": str(write_csv(tmp_path / "train.csv", rows[:350])),
        "test": str(write_csv(tmp_path / "test.csv", rows[350:])),
    }
    frame = read(tmp_path, source, group="author", validation_percent=20.0)
    drawn = frame[frame["split"] != "test"]
    assert (drawn.groupby("group")["split"].nunique() == 1).all()
    assert set(drawn["split"]) == {"train", "validation"}


def test_splits_that_a_column_never_names_are_drawn_from_train(tmp_path: Path) -> None:
    rows = [row | {"author": str(i % 40)} for i, row in enumerate(make_rows(400))]
    parts = [row | {"part": "test" if i >= 350 else "train"} for i, row in enumerate(rows)]
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"text": "reported", "label": "sports"}\n' * 9)
    params = ingest_params(str(write_csv(tmp_path / "a.csv", parts)), split="part", group="author")
    counts = ingest(params, TOPICS, tmp_path / "ingest", labels).by_split
    frame = pd.read_parquet(tmp_path / "ingest" / "rows.parquet")
    assert counts == dict(frame["split"].value_counts())
    assert frame["split"][350:400].unique() == ["test"]
    assert frame["split"][400:].unique() == ["train"]  # labels from feedback
    drawn = frame[:350]
    assert set(drawn["split"]) == {"train", "validation"}
    assert (drawn.groupby("group")["split"].nunique() == 1).all()
    source = {
        "train": str(write_csv(tmp_path / "train.csv", rows[:350])),
        "test": str(write_csv(tmp_path / "test.csv", rows[350:])),
    }
    files = read(tmp_path, source, group="author")
    assert files["split"].tolist() == frame["split"][:400].tolist()


def test_a_column_of_all_splits_is_kept(tmp_path: Path) -> None:
    names = ["train", "dev", "test"] * 100
    rows = [row | {"part": name} for row, name in zip(make_rows(300), names, strict=True)]
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), split="part")
    assert frame["split"].tolist() == ["train", "validation", "test"] * 100


def test_a_row_to_rank_without_a_group_is_named(tmp_path: Path) -> None:
    rows = [row | {"query": "q" if i != 1 else ""} for i, row in enumerate(PAIRS[:3])]
    source = str(write_csv(tmp_path / "a.csv", rows))
    frame = read(tmp_path, source, Ranking(), second="second", group="query")
    assert frame["group"].tolist() == ["q", "q"]
    assert rejects(tmp_path) == [(3, "its 'query' is empty: it belongs to no group")]


def test_labels_are_written_as_the_task_writes_them(tmp_path: Path) -> None:
    cells = ['[[2,6,"ACT"], [0, 1, "X"]]', '[[0, 99, "X"]]', "not JSON", "", "[" * 100_000]
    rows = [{"text": "a goal", "label": cell} for cell in cells]
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), Spans())
    assert frame["label"].tolist() == ['[[0, 1, "X"], [2, 6, "ACT"]]', ""]
    found = rejects(tmp_path)
    assert [line for line, _ in found] == [3, 4, 6]
    assert found[0][1] == 'a span ends behind the text: [[0, 99, "X"]]'


def test_the_same_row_is_the_same_whatever_its_label(tmp_path: Path) -> None:
    rows = [{"text": "a goal", "label": "1"}, {"text": "a goal", "label": "2.50"}]
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), Numbers())
    assert frame["label"].tolist() == ["1.0", "2.5"]
    assert frame["id"][1] == f"{frame['id'][0]}-2"


def numbered(tmp_path: Path, cells: list[str], names: str, task: Task) -> list[str]:
    (tmp_path / "names.txt").write_text(names, encoding="utf-8")
    rows = [{"text": f"text {i}", "label": cell} for i, cell in enumerate(cells)]
    source = str(write_csv(tmp_path / "a.csv", rows))
    frame = read(tmp_path, source, task, label_names=str(tmp_path / "names.txt"))
    return list(frame["label"])


def test_splits_and_classes_of_a_saved_data_set_are_those_of_the_rows(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    splits = {
        name: Dataset.from_dict({"text": [name], "label": [label]}, features=features)
        for name, label in (("train", 0), ("validation", 1), ("test", -1))
    }
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    frame = read(tmp_path, str(tmp_path / "saved"), split="split")
    assert frame[["file", "line", "split", "label"]].values.tolist() == [
        ["train", 1, "train", "neg"],
        ["validation", 1, "validation", "pos"],
        ["test", 1, "test", ""],
    ]


def test_rows_and_names_of_classes_may_be_on_the_web(tmp_path: Path, site: Site) -> None:
    site.pages["/names.txt"] = b"joy\nfear\n"
    site.pages["/a.jsonl"] = b'{"text": "a", "label": 1.0}\n{"text": "b", "label": null}\n'
    frame = read(tmp_path, f"{site.url}/a.jsonl", label_names=f"{site.url}/names.txt")
    assert frame["label"].tolist() == ["fear", ""]


def test_numbers_of_classes_become_their_names(tmp_path: Path) -> None:
    names = "\ufeffjoy\r\nanger, rage\nfear\n"
    cells = ["0", "2", "", "3", "-1", "x", "0,1"]
    assert numbered(tmp_path, cells, names, TOPICS) == ["joy", "fear", ""]
    where = tmp_path / "names.txt"
    assert rejects(tmp_path) == [
        (5, f"its 'label' is '3', not numbers from 0 to 2, the lines of {where}"),
        (6, f"its 'label' is '-1', not numbers from 0 to 2, the lines of {where}"),
        (7, f"its 'label' is 'x', not numbers from 0 to 2, the lines of {where}"),
        (8, "its 'label' is '0,1', where one class is expected"),
    ]


def test_several_numbers_become_a_list_of_names(tmp_path: Path) -> None:
    cells = ["1, 0", "2", "1,,2", "[0, 1]", " [ ] ", "[0", '["0"]']
    labels = numbered(tmp_path, cells, "joy\nanger, rage\nfear", Several())
    assert labels == ['["anger, rage", "joy"]', '["fear"]', '["anger, rage", "joy"]', "[]"]
    assert [line for line, _ in rejects(tmp_path)] == [4, 7, 8]


def test_a_class_is_its_name_without_the_blanks(tmp_path: Path) -> None:
    fine = ["pos", "pos ", "\u3000pos", " \t ", float("nan"), None]
    strange = ["p\no\ns", "p\u0000", "\ud83d"]
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(fine + strange)]
    frame = read(tmp_path, str(write_labels(tmp_path / "a.jsonl", rows)))
    assert frame["label"].tolist() == ["pos", "pos", "pos", "", "", ""]
    assert [line for line, _ in rejects(tmp_path)] == [7, 8, 9]


@pytest.mark.parametrize("name", ["emoji_labels.csv", "zwnj_labels.csv"])
def test_classes_with_joiners_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    source = ROOT / "tests" / "inputs" / name
    frame = read(tmp_path, str(source))
    assert rejects(tmp_path) == []
    assert len(frame) == 300
    assert set(frame["label"]) == set(pd.read_csv(source)["label"])
    assert any("\u200c" in label or "\u200d" in label for label in frame["label"])


def test_a_class_of_several_can_be_printed(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": []}, {"text": "b", "label": '["\\ud83d"]'}]
    source = str(write_labels(tmp_path / "a.jsonl", rows))
    assert read(tmp_path, source, tasks.get("multilabel"))["label"].tolist() == ["[]"]
    [(line, reason)] = rejects(tmp_path)
    assert (line, reason) == (2, r"its class '\ud83d' holds a character that cannot be printed")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("joy\n\nfear\n", "line 2: is blank"),
        ("joy\nfear\njoy\n", "line 3: 'joy' is there already"),
    ],
)
def test_names_that_are_not_one_a_line_are_refused(
    tmp_path: Path, names: str, message: str
) -> None:
    with pytest.raises(UserError, match=rf"names\.txt, {message}"):
        numbered(tmp_path, ["0"], names, TOPICS)


def test_splits_can_be_files_of_different_kinds(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "good.txt").write_text("a line\nanother\n")
    (tmp_path / "test.tsv").write_text("one\tgood\ntwo\tgood\n")
    given = {"train": str(tmp_path / "train"), "test": str(tmp_path / "test.tsv")}
    params = ingest_params(
        given, format={"train": "lines", "test": None}, header=["text", "label"], quotes=False
    )
    intake = ingest(params, TOPICS, tmp_path / "out")
    assert intake.by_split["test"] == 2
    assert intake.rows == 4
    with pytest.raises(ValueError, match="a format for each split needs a source for each"):
        ingest_params(given, format={"train": "lines"})


def test_layouts_reach_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('so "good\tx\nso "bad\ty\n')
    changes = {"header": ["text", "label"], "quotes": False}
    frame = read(tmp_path, str(tmp_path / "a.tsv"), **changes)
    assert frame["text"].tolist() == ['so "good', 'so "bad']
    (tmp_path / "x.txt").write_text("a\nb\n")
    assert read(tmp_path, str(tmp_path / "x.txt"), format="lines")["label"].tolist() == ["x", "x"]


def test_what_is_no_label_anywhere_ends_the_line_with_the_first_reason(tmp_path: Path) -> None:
    source = str(write_csv(tmp_path / "a.csv", make_rows(3)))
    with pytest.raises(UserError, match=r"a\.csv, line 2: no rows: all are unreadable, the first"):
        read(tmp_path, source, Numbers())


@pytest.mark.skipif(not SHARED.exists(), reason="the public data sets are not here")
def test_goemotions_by_the_names_of_its_classes(tmp_path: Path) -> None:
    folder = SHARED / "goemotions"
    names = str(folder / "labels.txt")
    frame = read(tmp_path, str(folder / "dev.tsv"), Several(), quotes=False, label_names=names)
    assert frame["label"][:2].tolist() == ['["neutral"]', '["approval", "neutral"]']
    assert rejects(tmp_path) == []


def test_several_sources_are_read_in_turn_each_in_its_format(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.mkdir()
    (lines / "sport.txt").write_text("a goal\na race\n")
    (tmp_path / "more.csv").write_text("a film,film\na play,film\n")
    frame = read(
        tmp_path,
        {"train": [str(lines), str(tmp_path / "more.csv")], "test": [str(lines)]},
        format={"train": ["lines", None], "test": "lines"},
        header=["text", "label"],
        validation_percent=0.0,
    )
    assert frame["text"].tolist() == ["a goal", "a race", "a film", "a play", "a goal", "a race"]
    assert frame["label"].tolist() == ["sport", "sport", "film", "film", "sport", "sport"]
    assert frame["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert [Path(name).name for name in frame["file"][1:3]] == ["sport.txt", "more.csv"]


def test_a_list_of_sources_is_parted_by_hash_as_one(tmp_path: Path) -> None:
    rows = make_rows(200)
    whole = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)))
    parts = [str(write_csv(tmp_path / f"{i}.csv", rows[100 * i : 100 * (i + 1)])) for i in range(2)]
    both = read(tmp_path, parts)
    assert both["split"].tolist() == whole["split"].tolist()
    assert both["line"].tolist() == whole["line"][:100].tolist() * 2


def test_of_several_sources_the_one_that_is_missing_is_named(tmp_path: Path) -> None:
    there = str(write_csv(tmp_path / "a.csv", make_rows(20)))
    with pytest.raises(UserError, match=r"b\.csv: no such file"):
        read(tmp_path, [there, str(tmp_path / "b.csv")])
    assert not (tmp_path / "ingest" / "rows.parquet").exists()


def write_labels(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_people_labelled_is_of_training_and_moves_nothing(tmp_path: Path) -> None:
    source = {
        "train": str(write_csv(tmp_path / "train.csv", make_rows(200))),
        "test": str(write_csv(tmp_path / "test.csv", make_rows(50, seed=1))),
    }
    params = ingest_params(source, validation_percent=30.0)
    before = ingest(params, TOPICS, tmp_path / "ingest", tmp_path / "absent.jsonl")
    old = pd.read_parquet(tmp_path / "ingest" / "rows.parquet")
    assert (len(old), before.labelled) == (250, 0)
    new_texts = make_rows(60, seed=2)
    copies = [{"text": old["text"][0], "label": "film"}]
    labels = write_labels(tmp_path / "labels" / "toy.jsonl", new_texts + copies)
    after = ingest(params, TOPICS, tmp_path / "ingest", labels)
    new = pd.read_parquet(tmp_path / "ingest" / "rows.parquet")
    assert (after.rows, after.labelled) == (311, 61)
    assert after.rows_sha256 != before.rows_sha256
    pd.testing.assert_frame_equal(new[:250], old)
    assert set(new["split"][250:]) == {"train"}
    assert set(new["file"][250:]) == {str(labels)}
    assert new["line"][250:].tolist() == list(range(1, 62))
    assert new["id"].is_unique


def test_what_people_labelled_has_the_labels_own_names(tmp_path: Path) -> None:
    """Columns, class numbers, splits and groups are those of the source."""
    (tmp_path / "names.txt").write_text("joy\nfear\n")
    rows = [{"body": f"text {i}", "mood": str(i % 2), "part": "test", "by": "x"} for i in range(9)]
    params = ingest_params(
        str(write_csv(tmp_path / "a.csv", rows)),
        text="body",
        label="mood",
        split="part",
        carry=["by"],
        label_names=str(tmp_path / "names.txt"),
    )
    labels = write_labels(tmp_path / "l.jsonl", [{"text": "new", "label": "fear", "id": "?"}])
    ingest(params, TOPICS, tmp_path / "ingest", labels)
    last = pd.read_parquet(tmp_path / "ingest" / "rows.parquet").iloc[-1]
    assert last[["text", "label", "split", "by"]].tolist() == ["new", "fear", "train", ""]
    assert last["id"] == content_id("new")


def test_a_broken_line_of_labels_costs_itself_alone(tmp_path: Path) -> None:
    source = str(write_csv(tmp_path / "a.csv", [{"text": "a goal", "label": "[]"}]))
    labels = write_labels(
        tmp_path / "l.jsonl",
        [
            {"text": "a goal", "label": '[[2,6,"ACT"]]'},
            {"text": "a goal", "label": '[[2,9,"ACT"]]'},
            {"text": "a goal", "second": "b", "label": "[]"},
        ],
    )
    labels.write_text(labels.read_text() + "{cut\n")
    intake = ingest(ingest_params(source), Spans(), tmp_path / "ingest", labels)
    assert (intake.rows, intake.labelled, intake.undecodable) == (2, 1, 3)
    assert rejects(tmp_path) == [
        (2, 'a span ends behind the text: [[2,9,"ACT"]]'),
        (3, "it has a second text"),
        (4, "is not JSON (Expecting property name enclosed in double quotes)"),
    ]


def test_a_labelled_pair_to_rank_is_of_its_own_query(tmp_path: Path) -> None:
    rows = [row | {"query": "q"} for row in PAIRS[:3]]
    source = str(write_csv(tmp_path / "a.csv", rows))
    pairs = [{"text": "who", "second": f"reply {i}", "label": "x"} for i in range(2)]
    labels = write_labels(tmp_path / "l.jsonl", [*pairs, {"text": "who", "label": "x"}])
    params = ingest_params(source, second="second", group="query")
    ingest(params, Ranking(), tmp_path / "ingest", labels)
    frame = pd.read_parquet(tmp_path / "ingest" / "rows.parquet")
    assert frame["group"].tolist() == ["q"] * 3 + [content_id("who")] * 2
    assert rejects(tmp_path) == [(3, "it has no second text")]


def test_labels_alone_are_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n")
    labels = write_labels(tmp_path / "l.jsonl", [{"text": "a", "label": "b"}])
    with pytest.raises(UserError, match=r"a\.csv: no rows"):
        ingest(ingest_params(str(tmp_path / "a.csv")), TOPICS, tmp_path / "ingest", labels)


def test_no_labels_left_are_none(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "l.jsonl", [])
    params = ingest_params(str(write_csv(tmp_path / "a.csv", make_rows(3))))
    assert ingest(params, TOPICS, tmp_path / "ingest", labels).rows == 3
