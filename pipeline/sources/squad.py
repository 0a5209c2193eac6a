"""Reader of questions with contexts and answers, as in SQuAD (Rajpurkar et al. 2016, 2018).

    {"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [{"id": ..., "question": ...,
      "answers": [{"text": ..., "answer_start": ...}], "is_impossible": false}]}]}]}

The number of a row is the position of its question in the file, from 1.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.rows import PLAIN, Layout, Reject, Row, as_json, checked, require

UTF16 = ": its position counts UTF-16 units, set ingest.offsets to utf-16"
COLUMNS = ("question", "context", "answers", "id", "title")


def read_squad(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield a row for each question. The column `answers` is a JSON list of {"text",
    "answer_start"}: [] if the question has no answer, "" if the file has no answers. Offsets count
    characters.

    This is the only reader that loads a whole file: JSON cannot be parsed in parts.
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
        reason = _fault(paragraph, question, layout.utf16)
        if reason:
            name = question.get("id") if isinstance(question, dict) else None
            reason = f"question {name!r}: {reason}" if name else reason
            yield Reject(shown, number, reason, excerpt(str(_get(question, "question"))))
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
            "title": _get(article, "title"),
        }
        yield checked(shown, number, fields)


def _questions(articles: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (article, paragraph, question); a missing list counts as one question of None."""
    for article in articles:
        for paragraph in _get_list(article, "paragraphs"):
            for question in _get_list(paragraph, "qas"):
                yield article, paragraph, question


def _get_list(mapping: object, key: str) -> list[Any]:
    value = _get(mapping, key)
    return value if isinstance(value, list) else [None]


def _get(mapping: object, key: str) -> Any:
    return mapping.get(key) if isinstance(mapping, Mapping) else None


def _fault(paragraph: object, question: object, utf16: bool) -> str | None:
    """Return the reason why a question is rejected; None if it is valid. Positions in UTF-16 units
    are checked later, as characters."""
    context = _get(paragraph, "context")
    if not isinstance(context, str):
        return "has no context: `paragraphs` must be a list of {context, qas}"
    if not isinstance(_get(question, "question"), str):
        return "has no question: `qas` must be a list of {question, answers, id}"
    answers = _get(question, "answers")
    if answers is None or _get(question, "is_impossible") is True:
        return None
    if not isinstance(answers, list):
        return "its answers are not a list"
    for answer in answers:
        text, start = _get(answer, "text"), _get(answer, "answer_start")
        if not isinstance(text, str) or type(start) is not int:
            return "an answer needs a `text` and a whole number `answer_start`"
        if not text or start < 0 or not (utf16 or context.startswith(text, start)):
            hint = UTF16 if start >= 0 and _in_units(context, text, start) else ""
            return f"its answer {excerpt(text)!r} is not in its context at character {start}{hint}"
    return None


def _in_units(context: str, text: str, start: int) -> bool:
    """True if a text stands at a position in UTF-16 code units."""
    units, own = (each.encode("utf-16-le", "surrogatepass") for each in (context, text))
    return bool(own) and units.startswith(own, 2 * start)
