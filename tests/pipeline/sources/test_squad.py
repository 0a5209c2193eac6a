"""SQuAD files: a question whose answer is not at its offset is rejected by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Layout, Row
from tests.pipeline.sources.reading import Rows, bad, good, read, write

COLUMNS = ("question", "context", "answers", "id", "title")
CONTEXT = "Im Jahr 1905 schrieb Einstein 😀 fünf Arbeiten."


def question(**changes: Any) -> dict[str, Any]:
    answer = {"text": "fünf", "answer_start": CONTEXT.index("fünf")}
    return {"id": "q1", "question": "Wie viele?", "answers": [answer], **changes}


def squad(folder: Path, *questions: Any, context: Any = CONTEXT) -> Rows:
    paragraphs = [{"context": context, "qas": list(questions)}]
    content = {"version": "1.1", "data": [{"title": "Einstein", "paragraphs": paragraphs}]}
    return read(write(folder, "a.json", json.dumps(content).encode()), COLUMNS)


def test_a_question_is_a_row_with_answers_in_characters(tmp_path: Path) -> None:
    rows = squad(tmp_path, question(), question(id="q2"))
    assert [row.number for row in rows] == [1, 2]
    answers = '[{"text": "fünf", "answer_start": 32}]'
    assert good(rows, COLUMNS)[0] == ("Wie viele?", CONTEXT, answers, "q1", "Einstein")


def test_what_cannot_be_answered_has_no_answers_and_what_nobody_answered_no_label(
    tmp_path: Path,
) -> None:
    unasked = question()
    del unasked["answers"]
    guess = [{"text": "sechs", "answer_start": 3}]
    rows = squad(
        tmp_path,
        question(answers=[], is_impossible=True),
        question(answers=guess, is_impossible=True),
        question(answers=[]),
        unasked,
    )
    assert [row.fields["answers"] for row in rows if isinstance(row, Row)] == ["[]", "[]", "[]", ""]


def test_the_format_can_be_named(tmp_path: Path) -> None:
    squad(tmp_path, question())
    path = (tmp_path / "a.json").rename(tmp_path / "a.data")
    assert len(good(read(path, COLUMNS, Layout("squad")), COLUMNS)) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"text": "fünf", "answer_start": 30}, "its answer 'fünf' is not in its context at 30"),
        ({"text": "fünf", "answer_start": -14}, "its answer 'fünf' is not in its context at -14"),
        ({"text": "", "answer_start": 3}, "its answer '' is not in its context at 3"),
        ({"text": "fünf", "answer_start": 32.0}, "an answer needs a `text` and a whole number"),
        ({"text": "fünf", "answer_start": True}, "an answer needs a `text` and a whole number"),
        ({"text": None, "answer_start": 1}, "an answer needs a `text` and a whole number"),
        ({"answer_start": 1}, "an answer needs a `text` and a whole number"),
        ("fünf", "an answer needs a `text` and a whole number"),
    ],
)
def test_an_answer_that_is_not_in_its_context_is_named(
    tmp_path: Path, answer: Any, reason: str
) -> None:
    rows = squad(tmp_path, question(), question(id="q2", answers=[answer]), question(id="q3"))
    [(number, told)] = bad(rows)
    assert number == 2
    assert told.replace("character ", "").startswith(f"question 'q2': {reason}")
    assert [row.number for row in rows if isinstance(row, Row)] == [1, 3]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (None, "has no question"),
        ([], "has no question"),
        ({"id": 7, "question": ["?"]}, "question 7: has no question"),
        (question(answers="fünf"), "question 'q1': its answers are not a list"),
        (question(question="\ud83d"), "is not Unicode text (surrogates not allowed)"),
    ],
)
def test_a_question_of_another_form_is_one_bad_row(tmp_path: Path, wrong: Any, reason: str) -> None:
    rows = squad(tmp_path, wrong, question())
    assert [number for number, _ in bad(rows)] == [1]
    assert bad(rows)[0][1].startswith(reason)
    assert len(good(rows, COLUMNS)) == 1


@pytest.mark.parametrize(
    "article", [None, 3, {}, {"paragraphs": {}}, {"paragraphs": [None]}, {"paragraphs": [{}]}]
)
def test_an_article_of_another_form_is_one_bad_row(tmp_path: Path, article: Any) -> None:
    content = json.dumps({"data": [article]}).encode()
    rows = read(write(tmp_path, "a.json", content), COLUMNS)
    assert bad(rows) == [(1, "has no context: `paragraphs` must be a list of {context, qas}")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [{"title": "Ein', "is not JSON: Unterminated string starting at: line 1"),
        (b"[" * 200_000, "row 1: the array cannot be read on"),
        (b'{"data": "\xff"}', "is not UTF-8 (byte 0xff at offset 10)"),
        (b'{"data": {}}', "holds no list `data`"),
        (b"", "is empty"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, "a.json", content)
    with pytest.raises(UserError) as caught:
        read(path, COLUMNS)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
