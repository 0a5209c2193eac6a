"""Questions with their contexts and answers, as SQuAD writes them (Rajpurkar et al. 2016, 2018).

    {"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [{"id": ..., "question": ...,
      "answers": [{"text": ..., "answer_start": ...}], "is_impossible": false}]}]}]}

A row's number is its question's place in the file, from 1.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.rows import Reject, Row, as_json, checked, require

COLUMNS = ("question", "context", "answers", "id", "title")


def read_squad(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """`answers` is a JSON list of {"text", "answer_start"}, [] where the question cannot be
    answered and empty where nothing is said of answers. Offsets count characters.

    The one reader that holds a whole file: JSON cannot be read in parts.
    """
    require(columns, COLUMNS, f"{shown}: row 1", "questions with contexts have")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{shown}: is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset"
            f" {error.start}): write it as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown}: is not JSON: {error}: write it again") from None
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise UserError(
            f"{shown}: holds no list `data`: only JSON as SQuAD's is read, or JSON Lines"
        )
    number = 0
    for article, paragraph, question in _questions(content["data"]):
        number += 1
        reason = _fault(paragraph, question)
        if reason:
            name = question.get("id") if isinstance(question, dict) else None
            reason = f"question {name!r}: {reason}" if name else reason
            yield Reject(shown, number, reason, excerpt(str(_of(question, "question"))))
            continue
        answers = question.get("answers")
        if question.get("is_impossible") is True:
            answers = []
        elif answers is not None:
            answers = [
                {name: answer[name] for name in ("text", "answer_start")} for answer in answers
            ]
        fields = {
            "question": question["question"],
            "context": paragraph["context"],
            "answers": "" if answers is None else as_json(answers),
            "id": question.get("id"),
            "title": _of(article, "title"),
        }
        yield checked(shown, number, fields)


def _questions(articles: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """(article, paragraph, question), None in place of what is no list: it counts as a question."""
    for article in articles:
        for paragraph in _listed(article, "paragraphs"):
            for question in _listed(paragraph, "qas"):
                yield article, paragraph, question


def _listed(holder: object, name: str) -> list[Any]:
    found = _of(holder, name)
    return found if isinstance(found, list) else [None]


def _of(holder: object, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else None


def _fault(paragraph: object, question: object) -> str | None:
    """What is wrong with a question, if anything."""
    context = _of(paragraph, "context")
    if not isinstance(context, str):
        return "has no context: `paragraphs` must be a list of {context, qas}"
    if not isinstance(_of(question, "question"), str):
        return "has no question: `qas` must be a list of {question, answers, id}"
    answers = _of(question, "answers")
    if answers is None or _of(question, "is_impossible") is True:
        return None
    if not isinstance(answers, list):
        return "its answers are not a list"
    for answer in answers:
        text, start = _of(answer, "text"), _of(answer, "answer_start")
        if not isinstance(text, str) or type(start) is not int:
            return "an answer needs a `text` and a whole number `answer_start`"
        if not text or start < 0 or not context.startswith(text, start):
            return f"its answer {excerpt(text)!r} is not in its context at character {start}"
    return None
