"""`bertline new` finds the task, the columns and how a file is to be read, and says why."""

import csv
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from flows.cli.proposals.proposal import name_for, propose
from pipeline import recipe as parsed
from pipeline.core.config import read_recipe
from pipeline.core.errors import UserError
from tests.conftest import make_rows, news_params

SHARED = Path(__file__).resolve().parents[4] / "shared" / "datasets"
ROWS = make_rows(120)
CHINESE = "这家酒店的房间很干净服务员热情下次还会再来早餐种类不多电视坏了隔音差"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(news_params())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(
    path: str, header: Sequence[str] | None, rows: Sequence[Sequence[Any]], delimiter: str = ","
) -> str:
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def lines(path: str, records: Sequence[dict[str, Any]]) -> str:
    Path(path).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return path


def found(file: str, task: str | None = None, **given: Any) -> tuple[str, dict[str, Any]]:
    proposal = propose(file, given, task)
    return proposal.task, proposal.ingest


def test_few_recurring_values_are_classes(home: Path) -> None:
    rows = [(n, r["text"], r["label"]) for n, r in enumerate(ROWS)]
    file = table("a.csv", ["id", "message", "topic"], rows)
    assert found(file) == ("classification", {"text": "message", "label": "topic"})


def test_names_that_say_nothing_are_told_by_what_they_hold(home: Path) -> None:
    rows = [(n, f"2026-0{n % 9 + 1}-11", r["label"], r["text"]) for n, r in enumerate(ROWS)]
    file = table("a.csv", ["n", "x0", "x1", "x2"], rows)
    assert found(file) == ("classification", {"text": "x2", "label": "x1"})


def test_few_rows_are_seen_more_often(home: Path) -> None:
    rows = [(r["text"], r["label"]) for r in make_rows(3000)]
    for number, epochs in ((100, 8), (3000, 4)):
        file = table(f"rows{number}.csv", ["text", "label"], rows[:number])
        assert propose(file, {}, None).finetune == {"epochs": epochs}
    assert main.main(["new", "mine", "rows100.csv"]) == 0
    assert read_recipe("mine")["finetune"]["epochs"] == 8


def test_a_file_without_a_header(home: Path) -> None:
    rows = [(r["text"], r["label"]) for r in ROWS]
    expected = {"header": ["text", "label"], "text": "text", "label": "label"}
    assert found(table("a.tsv", None, rows, "\t")) == ("classification", expected)
    pairs = [(r["text"], f"{r['text']} twice", n % 2) for n, r in enumerate(ROWS)]
    expected = {"header": ["text", "second", "label"], "text": "text", "second": "second"}
    assert found(table("b.csv", None, pairs)) == ("pair", {**expected, "label": "label"})


def test_floats_are_a_number(home: Path) -> None:
    draw = random.Random(0)
    rows = [(r["text"], round(draw.random(), 3)) for r in ROWS]
    assert found(table("a.csv", ["text", "score"], rows))[0] == "regression"
    rows = [(a, f"{a} twice", n) for a, n in rows]
    task, ingest = found(table("b.csv", ["sentence1", "sentence2", "score"], rows))
    assert (task, ingest["second"]) == ("similarity", "sentence2")


def test_several_classes_in_a_cell(home: Path) -> None:
    tags = ["red", "red;blue", "blue", "green;red", "", "blue;green"]
    rows = [(r["text"], tags[n % 6]) for n, r in enumerate(ROWS)]
    file = table("a.csv", ["text", "tags"], rows)
    assert found(file) == ("multilabel", {"text": "text", "label": "tags", "separator": ";"})
    records = [{"text": a, "tags": b.split(";") if b else []} for a, b in rows]
    assert found(lines("a.jsonl", records)) == ("multilabel", {"text": "text", "label": "tags"})


def test_a_column_a_class(home: Path) -> None:
    rows = [(r["text"], n % 2, n % 3 // 2, int(n % 5 == 0)) for n, r in enumerate(ROWS)]
    file = table("a.csv", ["comment", "red", "blue", "green"], rows)
    expected = {"text": "comment", "label": ["red", "blue", "green"]}
    assert found(file) == ("multilabel", expected)
    assert main.main(["new", "colours", file]) == 0
    parsed.load("colours")


def test_lists_of_one_are_classes(home: Path) -> None:
    file = lines("a.jsonl", [{"text": r["text"], "label": [r["label"]]} for r in ROWS])
    assert found(file)[0] == "classification"


def test_lists_of_spans_are_entities(home: Path) -> None:
    file = lines("a.jsonl", [{"text": r["text"], "label": [[0, 3, "X"]]} for r in ROWS])
    assert found(file)[0] == "ner"
    content = "".join(f"Anna{n} B-PER\nsings O\n\n" for n in range(9))
    (home / "towns.txt").write_text(content)
    assert found("towns.txt")[0] == "ner"


@pytest.mark.parametrize("own", [True, False])
def test_positions_behind_emoji_may_count_utf_16_units(home: Path, own: bool) -> None:
    span = {"start": 3, "end": 6, "label": "PER"} | ({"text": "Ann"} if own else {})
    records = [{"text": f"🎉 Ann sings {n}", "label": [span]} for n in range(9)]
    task, ingest = found(lines("a.jsonl", records))
    assert (task, ingest["offsets"]) == ("ner", "utf-16")


def test_an_export_of_an_annotation_tool_is_recognised(home: Path) -> None:
    results = [{"value": {"choices": [r["label"]]}, "type": "choices"} for r in ROWS]
    records = [
        {"data": {"text": r["text"]}, "annotations": [{"result": [result]}]}
        for r, result in zip(ROWS, results, strict=True)
    ]
    Path("export.json").write_text(json.dumps(records))
    expected = {"format": "label_studio", "text": "text", "label": "label"}
    assert found("export.json") == ("classification", expected)


def test_questions_with_contexts(home: Path) -> None:
    answers = [{"text": "a", "answer_start": 0}]
    records = [{"question": f"{n}?", "context": f"a {n}", "answers": answers} for n in range(9)]
    task, ingest = found(lines("a.jsonl", records))
    assert task == "question_answering"
    assert (ingest["text"], ingest["second"], ingest["label"]) == ("question", "context", "answers")


def test_texts_alone_train_a_base_on(home: Path) -> None:
    (home / "a.txt").write_text("".join(f"{r['text']}\n" for r in ROWS))
    assert found("a.txt") == ("masked_lm", {"format": "lines", "text": "text"})


def test_parallel_files_are_translations(home: Path) -> None:
    (home / "mine").mkdir()
    for split in ("train", "val"):
        for language in ("en", "fr"):
            (home / "mine" / f"{split}.{language}").write_text("a cat\nthe dog\nno bird\n")
    task, ingest = found("mine/train.en")
    assert (task, ingest["text"], ingest["label"]) == ("translation", "en", "fr")
    assert ingest["source"] == {"train": "mine/train.en", "validation": "mine/val.en"}
    assert main.main(["new", "mine/train.en"]) == 0
    assert read_recipe("mine")["watch"] == "mine"


def test_files_of_splits_side_by_side(home: Path) -> None:
    rows = [(r["text"], r["label"]) for r in ROWS]
    (home / "mine").mkdir()
    file = table("mine/train.csv", ["text", "label"], rows)
    table("mine/test.csv", ["text", "label"], rows[:20])
    table("mine/dev.csv", ["n", "text"], [(n, text) for n, (text, _) in enumerate(rows[:20])])
    assert found(file)[1]["source"] == {"train": "mine/train.csv", "test": "mine/test.csv"}
    assert main.main(["new", file]) == 0
    block = read_recipe("mine")
    assert block["watch"] == "mine"
    assert block["ingest"]["test_percent"] == 0


def test_a_column_of_splits(home: Path) -> None:
    rows = [(r["text"], r["label"], "train" if n % 4 else "test") for n, r in enumerate(ROWS)]
    assert found(table("a.csv", ["text", "label", "part"], rows))[1]["split"] == "part"


def test_a_class_a_row_is_refused_with_the_way_on(home: Path) -> None:
    rows = [(r["text"], f"{n} of its own") for n, r in enumerate(ROWS)]
    file = table("a.csv", ["text", "label"], rows)
    with pytest.raises(UserError, match=r"'label' has 120 values in 120 rows: too many .+ --task"):
        found(file)
    assert found(file, "classification")[1]["label"] == "label"


def test_several_labels_are_named(home: Path) -> None:
    rows = [(r["text"], r["label"], r["label"].upper()) for r in ROWS]
    file = table("a.csv", ["text", "x", "y"], rows)
    with pytest.raises(UserError, match=r"name one by --label: 'x', 'y'$"):
        found(file)
    assert found(file, label="y") == ("classification", {"text": "text", "label": "y"})


def test_quotes_that_spoil_rows_are_plain_characters(home: Path) -> None:
    rows = "".join(f'5" disk {r["text"]}\t{r["label"]}\n' for r in ROWS)
    (home / "a.tsv").write_text(f"text\tlabel\n{rows}")
    assert found("a.tsv")[1]["quotes"] is False


def test_encodings_are_written_and_chinese_has_its_settings(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.cli.proposals.policies.find_spec", lambda name: None)
    draw = random.Random(0)
    for label in ("neg", "pos"):
        for n in range(40):
            path = home / "hotels" / label / f"{n}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes("".join(draw.choices(CHINESE, k=30)).encode("gbk"))
    assert main.main(["new", "hotels"]) == 0
    block = read_recipe("hotels")
    assert block["ingest"]["encoding"] == "gb18030"
    assert block["validate"]["near_duplicates"]["characters"] == 3
    assert block["evaluate"]["baseline"] == "characters"
    out = capsys.readouterr().out
    assert "encoding:  gb18030: its bytes are not UTF-8" in out
    assert "pip install 'bertline[multilingual]'" in out
    parsed.load("hotels")


def test_a_few_bad_rows_are_set_aside_and_many_stop_the_run(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(r["text"], r["label"] if n < 600 else "") for n, r in enumerate(make_rows(660))]
    rows += [("one text", "sport"), ("one text", "money"), ("a\x07bell rings", "sport")]
    assert main.main(["new", "mine", table("a.csv", ["text", "label"], rows)]) == 0
    rules = read_recipe("mine")["validate"]["rules"]
    assert rules["conflicting_labels"] == "quarantine"
    assert rules["control_characters"] == "quarantine"
    assert rules["unlabelled"] == "fail"
    out = capsys.readouterr().out
    assert "conflicting_labels: 2 of 663 rows, first a.csv, line 662" in out
    assert re.search(
        r"unlabelled: 60 of 663 rows, first a.csv, line 6\d\d: no label: would stop", out
    )


def test_the_name_is_that_of_the_file() -> None:
    assert name_for("data/raw/My Reviews.csv.gz") == "my-reviews"
    assert name_for("hotels/") == "hotels"
    with pytest.raises(UserError, match=r"bertline new NAME 评论.csv"):
        name_for("评论.csv")


@pytest.mark.skipif(not SHARED.exists(), reason="the public data sets are not here")
@pytest.mark.parametrize(
    ("file", "task", "expected"),
    [
        ("banking77/train.csv", "classification", {"label": "category"}),
        ("chnsenticorp/train.tsv", "classification", {"header": ["text", "label"]}),
        ("afqmc/train.tsv", "pair", {"second": "second"}),
        ("mrpc/train.tsv", "pair", {"text": "#1 String", "label": "Quality"}),
        ("goemotions/train.tsv", "multilabel", {"label": "label"}),
        ("squad_half/train.json", "question_answering", {"second": "context"}),
        ("conll2003/train.txt", "ner", {"label": "label"}),
        ("multi30k/train.en", "translation", {"label": "fr"}),
    ],
)
def test_public_data_sets_are_what_they_are(file: str, task: str, expected: dict[str, Any]) -> None:
    own, ingest = found(str(SHARED / file))
    assert own == task
    assert ingest.items() >= expected.items()
