"""Labels are read in the forms that people have them, and in no other."""

import json
from pathlib import Path

import pytest

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog
from tests.conftest import write_csv
from tests.pipeline.stages.test_ingest import read, rejects, write_labels


def test_a_list_of_one_is_a_class_and_an_empty_one_no_label(tmp_path: Path) -> None:
    labels = [["film"], [], "film", ["film", "sport"]]
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    frame = read(tmp_path, str(write_labels(tmp_path / "a.jsonl", rows)))
    assert frame["label"].tolist() == ["film", "", "film"]
    assert rejects(tmp_path) == [(4, "it has 2 classes: set the recipe's task to multilabel")]


MULTILABEL = tasks.get("multilabel")


@pytest.mark.parametrize("sign", [";", "|"])
def test_another_separator_is_named_and_read(tmp_path: Path, sign: str) -> None:
    cells = ["red", f"red{sign}blue", f"blue {sign} green", "green", ""]
    rows = [{"text": f"text {i}", "label": cell} for i, cell in enumerate(cells * 2)]
    source = str(write_csv(tmp_path / "a.csv", rows))
    with pytest.raises(UserError, match=rf"a.csv: 2 of 4 classes hold '\{sign}'.+set ingest.sep"):
        read(tmp_path, source, MULTILABEL)
    frame = read(tmp_path, source, MULTILABEL, separator=sign)
    expected = ['["red"]', '["blue","red"]', '["blue","green"]', '["green"]', ""]
    assert frame["label"].tolist() == expected * 2


def test_lists_as_python_and_numpy_write_them(tmp_path: Path) -> None:
    cells = ["['red', 'blue']", "['red' 'blue']", "[]", "['red']", "[red]"]
    rows = [{"text": f"text {i}", "label": cell} for i, cell in enumerate(cells)]
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), MULTILABEL)
    assert frame["label"].tolist() == ['["blue","red"]', '["blue","red"]', "[]", '["red"]']
    assert [line for line, _ in rejects(tmp_path)] == [6]


def test_a_column_a_class(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "red": "1", "blue": "0"},
        {"text": "b", "red": "true", "blue": "1.0"},
        {"text": "c", "red": "", "blue": "no"},
        {"text": "d", "red": "2", "blue": "0"},
    ]
    source = str(write_csv(tmp_path / "a.csv", rows))
    frame = read(tmp_path, source, MULTILABEL, label=["red", "blue"])
    assert frame["label"].tolist() == ['["red"]', '["blue","red"]', "[]"]
    assert rejects(tmp_path) == [(5, "its 'red' is '2', not 0, 1, true or false")]


def test_positions_in_utf_16_units_become_characters(tmp_path: Path) -> None:
    own = {"start": 12, "end": 22, "label": "PER", "text": "Kim Fisher"}
    rows = [{"text": "🎉 the with Kim Fisher", "label": [own]}]
    source = str(write_labels(tmp_path / "a.jsonl", rows))
    with pytest.raises(UserError, match=r"count UTF-16 units, set ingest.offsets to utf-16"):
        read(tmp_path, source, tasks.get("ner"))
    frame = read(tmp_path, source, tasks.get("ner"), offsets="utf-16")
    assert frame["label"].tolist() == ['[[11,21,"PER"]]']


def test_answers_in_utf_16_units_become_characters(tmp_path: Path) -> None:
    answer = {"text": "Oslo", "answer_start": 6}
    question = {"id": "1", "question": "Where?", "answers": [answer]}
    article = {"paragraphs": [{"context": "🎉 in Oslo", "qas": [question]}]}
    (tmp_path / "a.json").write_text(json.dumps({"data": [article]}))
    columns = {"text": "question", "second": "context", "label": "answers", "offsets": "utf-16"}
    frame = read(tmp_path, str(tmp_path / "a.json"), tasks.get("question_answering"), **columns)
    assert frame["label"].tolist() == ['[[5,"Oslo"]]']


def test_spans_inside_of_words_are_told(tmp_path: Path) -> None:
    rows = [{"text": f"in Oslo {i}", "label": [[4 - i, 7, "LOC"]]} for i in range(2)]
    told: list[str] = []
    source = str(write_labels(tmp_path / "a.jsonl", rows))
    read(tmp_path, source, tasks.get("ner"), log=FunctionLog(told.append))
    assert told[-1].startswith("1 label is doubtful, the first ")
    assert "line 1: span 4 to 7 (LOC) begins inside a word, 'in Oslo 0'" in told[-1]
