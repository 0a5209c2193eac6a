"""Labels are read in the forms that people have them, and in no other."""

import json
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("task", ["classification", "retrieval"])
def test_a_class_is_no_notation_of_a_list_or_an_object(tmp_path: Path, task: str) -> None:
    """Lists in other notations, and JSON that names no class, would else be learned as classes."""
    cells = ["['film']", "['film' 'x']", "[1]", "[other]", "[null]", '[["film"]]', '{"a": 0.5}']
    rows = [{"text": f"text {i}", "label": cell} for i, cell in enumerate(cells)]
    frame = read(tmp_path, str(write_csv(tmp_path / "a.csv", rows)), tasks.get(task))
    assert frame["label"].tolist() == ["film", "1", "[other]"]
    assert [reason for _, reason in rejects(tmp_path)] == [
        "it has 2 classes: set the recipe's task to multilabel",
        *['its list holds no names of classes: write it like film or ["film"]'] * 2,
        "it is a JSON object, not the name of a class",
    ]


def test_an_empty_list_of_numbers_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("film\nsport\n")
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate([[1], [], [0, 1]])]
    source, names = str(write_labels(tmp_path / "a.jsonl", rows)), str(tmp_path / "names.txt")
    assert read(tmp_path, source, label_names=names)["label"].tolist() == ["sport", ""]
    assert rejects(tmp_path) == [(3, "its 'label' is '[0, 1]', where one class is expected")]


MULTILABEL = tasks.get("multilabel")


def test_an_object_of_flags_or_choices_is_its_classes(tmp_path: Path) -> None:
    """Categories as spaCy has them, and several choices in Label Studio's JSON-MIN."""
    labels = [{"red": 1, "blue": 0.0}, {"red": True, "blue": 1}, {"red": 0}, {"red": 0.5}]
    labels.append({"choices": ["red", "blue"]})
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    source = str(write_labels(tmp_path / "a.jsonl", rows))
    frame = read(tmp_path, source, MULTILABEL)
    assert frame["label"].tolist() == ['["red"]', '["blue","red"]', "[]", '["blue","red"]']
    reason = "it is a JSON object, not the name of a class"
    assert rejects(tmp_path) == [(4, reason)]
    assert read(tmp_path, source)["label"].tolist() == ["red", ""]


@pytest.mark.parametrize("formats", [["tokens", None], {"train": "tokens", "test": None}])
def test_numbers_of_tags_have_names_beside_other_formats(tmp_path: Path, formats: Any) -> None:
    (tmp_path / "tags.txt").write_text("O\nB-PER\n")
    tokens = [{"tokens": ["Ann", "sings"], "ner_tags": [1, 0]}]
    spans = [{"text": "Ann", "label": [[0, 3, "PER"]]}]
    files = [str(write_labels(tmp_path / f"{i}.jsonl", r)) for i, r in enumerate([tokens, spans])]
    source = dict(zip(formats, files, strict=True)) if isinstance(formats, dict) else files
    names = str(tmp_path / "tags.txt")
    frame = read(tmp_path, source, tasks.get("ner"), format=formats, label_names=names)
    assert frame["label"].tolist() == ['[[0,3,"PER"]]']
    assert rejects(tmp_path)[0][1].startswith("its 'label' is '[[0, 3, \"PER\"]]', not numbers")


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


def test_a_span_says_its_text_whatever_its_white_space(tmp_path: Path) -> None:
    """Label Studio writes a line break in the text of a span as a backslash and n."""
    texts = ["Ann\\nLee", "Ann Lee", "Ann\nLee ", "Ann Le", "x" * 100]
    spans = [{"start": 0, "end": 7, "labels": ["PER"], "text": text} for text in texts]
    rows = [{"text": "Ann\nLee sings", "label": [span]} for span in spans]
    frame = read(tmp_path, str(write_labels(tmp_path / "a.jsonl", rows)), tasks.get("ner"))
    assert frame["label"].tolist() == ['[[0,7,"PER"]]'] * 3
    short, long = rejects(tmp_path)
    assert short == (4, r"span 0 to 7 says 'Ann Le', but the text there is 'Ann\nLee'")
    assert long[1].startswith(f"span 0 to 7 says '{'x' * 60}…', but")


def test_answers_in_utf_16_units_become_characters(tmp_path: Path) -> None:
    answer = {"text": "Oslo", "answer_start": 6}
    question = {"id": "1", "question": "Where?", "answers": [answer]}
    article = {"paragraphs": [{"context": "🎉 in Oslo", "qas": [question]}]}
    (tmp_path / "a.json").write_text(json.dumps({"data": [article]}))
    columns = {"text": "question", "second": "context", "label": "answers", "offsets": "utf-16"}
    task = tasks.get("question_answering")
    frame = read(tmp_path, str(tmp_path / "a.json"), task, **columns)
    assert frame["label"].tolist() == ['[[5,"Oslo"]]']
    row = {"question": "Where?", "context": "🎉 in Oslo", "answers": [answer]}
    write_labels(tmp_path / "b.jsonl", [row])
    assert read(tmp_path, str(tmp_path / "b.jsonl"), task, **columns).equals(
        frame.assign(file=str(tmp_path / "b.jsonl"))
    )
    for name in ("a.json", "b.jsonl"):
        with pytest.raises(UserError, match=r"counts UTF-16 units, set ingest.offsets to utf-16$"):
            read(tmp_path, str(tmp_path / name), task, **columns | {"offsets": "characters"})


def test_spans_inside_of_words_are_told(tmp_path: Path) -> None:
    rows = [{"text": f"in Oslo {i}", "label": [[4 - i, 7, "LOC"]]} for i in range(2)]
    told: list[str] = []
    source = str(write_labels(tmp_path / "a.jsonl", rows))
    read(tmp_path, source, tasks.get("ner"), log=FunctionLog(told.append))
    assert told[-1].startswith("1 label is doubtful, the first ")
    assert "line 1: span 4 to 7 (LOC) begins inside a word, 'in Oslo 0'" in told[-1]
