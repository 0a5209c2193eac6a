"""Labels in SQuAD's forms, and its scores: exact match and F1 of tokens."""

import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..base.utf16 import from_utf16

Span = tuple[int, str]
"""First character and text of an answer."""
NO_ANSWER = "[]"  # label of a context without an answer
CJK = r"\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
PUNCTUATION = re.compile(  # ASCII, Chinese and Japanese
    rf"[{re.escape(string.punctuation)}\u3001-\u3003\u3008-\u3020\u3030"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)
ARTICLES = re.compile(r"\b(?:a|an|the)\b")
TOKEN = re.compile(rf"[{CJK}]|[^\s{CJK}]+")


def read(label: str) -> list[Span]:
    return [(start, text) for start, text in json.loads(label)]


def write(spans: Sequence[Span]) -> str:
    return json.dumps(spans, ensure_ascii=False, separators=(",", ":"))


def read_cell(cell: str) -> list[Span] | None:
    """Distinct answers in a cell of JSON, None if the cell is plain text.

    A label keeps its order; other lists are sorted by frequency, then by position.
    """
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    match value:
        case {"text": list(texts), "answer_start": list(starts)} if len(texts) == len(starts):
            spans = list(zip(starts, texts, strict=True))
        case {"text": str(text), "answer_start": start}:
            spans = [(start, text)]
        case [*answers] if all(_is_squad(answer) for answer in answers):
            spans = [(answer["answer_start"], answer["text"]) for answer in answers]
        case [*pairs] if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return list(dict.fromkeys(_typed(start, text) for start, text in pairs))
        case _:
            return None
    often = Counter(_typed(start, text) for start, text in spans)
    return sorted(often, key=lambda span: (-often[span], span))


def _is_squad(answer: Any) -> bool:
    return isinstance(answer, dict) and {"text", "answer_start"} <= answer.keys()


def _typed(start: Any, text: Any) -> Span:
    if type(start) is not int or not isinstance(text, str):
        raise ValueError("an answer needs a whole number where it starts and a text")
    return start, text


def check(start: int, answer: str, context: str) -> None:
    if not answer.strip():
        raise ValueError("an answer is empty: write [] where the context holds none")
    there = context[start : start + len(answer)] if start >= 0 else ""
    if there != answer:
        place = f"its context has {there[:40]!r} at character {start}, not {answer[:40]!r}"
        if context.startswith(answer, from_utf16(context, start)) and start >= 0:
            place += ": its position counts UTF-16 units, set ingest.offsets to utf-16"
        raise ValueError(f"the answer is not where it should be: {place}")


@lru_cache(1 << 16)
def tokens(text: str) -> tuple[str, ...]:
    """Tokens for F1: words in lower case without punctuation and English articles, as in SQuAD's
    own script; single Chinese, Japanese and Korean characters, as in those of CMRC and KorQuAD."""
    plain = PUNCTUATION.sub("", text.lower())
    return tuple(TOKEN.findall(ARTICLES.sub(" ", plain)))


def score(truth: str, answer: str) -> tuple[float, float]:
    """Exact match and F1 of an answer, each the maximum over the reference answers; for no answer 1
    if the truth is none too, else 0 (Rajpurkar et al. 2016, 2018)."""
    predicted = next((tokens(text) for _, text in read(answer)), ())
    references = [tokens(text) for _, text in read(truth)]
    references = [reference for reference in references if reference] or [()]
    return (
        float(predicted in references),
        max(_f1(predicted, reference) for reference in references),
    )


def _f1(predicted: Sequence[str], reference: Sequence[str]) -> float:
    if not predicted or not reference:
        return float(predicted == reference)
    common = sum((Counter(predicted) & Counter(reference)).values())
    return 2 * common / (len(predicted) + len(reference))
