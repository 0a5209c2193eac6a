"""Readers of tagged tokens: in columns, one token per line, as in CoNLL shared tasks, or word/tag.

Both yield `text`, `label` (JSON: [[start, end, "TYPE"], ...] in characters of the text) and
`tokens` (JSON). Tokens in columns also yield `document`: its number if -DOCSTART- lines separate
documents.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.rows import (
    LARGEST_ROW,
    Reject,
    Row,
    as_json,
    read_lines,
    require,
)
from pipeline.sources.tags import OUTSIDE, Span, TagSurvey

BLANKS = " \t"  # others, such as a full-width space, can be tokens
DOCUMENT = "-DOCSTART-"
BESIDE = re.compile(r"#|\d+[-.]\d+\t")
COMMENT = "# "
GERMEVAL = 4  # columns: number, token, tag, tag of a nested entity
SOME = 1000  # sentences whose numbers are examined
# Tags of names in the People's Daily corpus of 1998 (Yu et al. 2002), and family names of two
# characters.
NAMES = {"nr": "PER", "ns": "LOC", "nt": "ORG"}
FAMILY_NAMES = frozenset(
    re.findall("..", "欧阳司马诸葛上官司徒东方令狐南宫夏侯皇甫尉迟公孙慕容宇文长孙端木独孤")
)
WORD = re.compile(r"(.+)/([A-Za-z][A-Za-z0-9]*)")

PRESENT = ("text", "label", "tokens", "document")


# columns


class Line(NamedTuple):
    number: int
    fields: list[str]


class Sentence(NamedTuple):
    number: int
    """Number of its first line."""
    text: str
    spans: list[Span]
    tokens: list[str]


@dataclass(frozen=True)
class Survey:
    """Properties of a file that are known only after reading all of it."""

    columns: int
    token: int
    """Column of the token: the second if the first numbers the tokens of a sentence."""
    tag: int
    """Column of the tag, from the end."""
    tags: TagSurvey


def read_conll(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield sentences, which blank lines separate. The first column of a line is a token, the last
    one its tag. Tabs separate the columns of a line that has one, else spaces. A first column that
    numbers the tokens is passed over, as in CoNLL-U and GermEval.

    The number of a row is the line of its first token. A sentence is one `Reject` that names the
    line if a line cannot be read, has another number of columns than most lines, or has a tag that
    does not fit the scheme of the file.
    """
    require(columns, PRESENT, f"{shown}: row 1", "tokens with tags give")
    for document, found in _read(path, shown):
        yield found if isinstance(found, Reject) else _row(shown, document, [found])


def read_conll_documents(
    path: Path, shown: str, columns: tuple[str, ...]
) -> Iterator[Row | Reject]:
    """Yield documents, each after a -DOCSTART- line, with its sentences as lines of one text: a
    name is read together with the rest of its document. A document with a wrong line is one
    `Reject` that names this line.

    Raises UserError if a sentence belongs to no document.
    """
    require(columns, PRESENT, f"{shown}: row 1", "tokens with tags give")
    for document, members in groupby(_read(path, shown), key=itemgetter(0)):
        found = [each for _, each in members]
        if not document:
            raise UserError(
                f"{shown}, line {found[0].number}: no {DOCUMENT} line stands before it, so its"
                " document cannot be told: set ingest.format to conll"
            )
        fault = next((each for each in found if isinstance(each, Reject)), None)
        sentences = [each for each in found if isinstance(each, Sentence)]
        yield fault or _row(shown, document, sentences)


def _read(path: Path, shown: str) -> Iterator[tuple[int, "Sentence | Reject"]]:
    """Yield the document number of each sentence, and the sentence or its `Reject`."""
    survey = _survey(path, shown)
    every = _sentences(path, shown, numbered=survey.token > 0, columns=survey.columns)
    for document, lines in every:
        if isinstance(lines, Reject):
            yield document, lines
            continue
        tokens = [line.fields[survey.token] for line in lines if len(line.fields) > survey.token]
        if fault := _fault(lines, survey):
            yield document, Reject(shown, *fault, excerpt(" ".join(tokens)))
        else:
            tags = [line.fields[survey.tag] for line in lines]
            text, spans = survey.tags.text_and_spans(tokens, tags)
            yield document, Sentence(lines[0].number, text, spans, tokens)


def _row(shown: str, document: int, sentences: Sequence["Sentence"]) -> Row:
    """Return a row with sentences of one document, one per line of the text."""
    spans: list[Span] = []
    offset = 0
    for sentence in sentences:
        spans += [(start + offset, end + offset, kind) for start, end, kind in sentence.spans]
        offset += len(sentence.text) + 1
    text = "\n".join(sentence.text for sentence in sentences)
    tokens = [token for sentence in sentences for token in sentence.tokens]
    fields = _fields(text, spans, tokens) | {"document": str(document or "")}
    return Row(shown, sentences[0].number, fields)


def _sentences(
    path: Path, shown: str, *, numbered: bool = False, columns: int = 0
) -> Iterator[tuple[int, list[Line] | Reject]]:
    """Yield the document number and the lines of each sentence; 0 before the first -DOCSTART-.

    Where the tokens are `numbered`, lines that begin with # are comments, and lines of several
    tokens or of none (2-3, 8.1 in CoNLL-U) are left out. In a file of so many `columns`, comments
    of another width stand before a sentence.
    """
    document, size = 0, 0
    sentence: list[Line] = []
    fault: Reject | None = None
    for number, line in read_lines(path, shown):
        if isinstance(line, Reject):
            fault = fault or line
            continue
        begins = line.startswith(DOCUMENT)
        if begins or not line.strip(BLANKS):
            if fault or sentence:
                yield document, fault or sentence
            document, size, sentence, fault = document + begins, 0, [], None
            continue
        if numbered and BESIDE.match(line):
            continue
        before = columns > 0 and not sentence and not fault
        if before and line.startswith(COMMENT) and len(_columns(line)) != columns:
            continue
        size += len(line)
        if size > LARGEST_ROW and not fault:
            fault = Reject(shown, number, f"its sentence is longer than {LARGEST_ROW:,} characters")
        if fault:
            sentence = []
        else:
            sentence.append(Line(number, _columns(line)))
    if fault or sentence:
        yield document, fault or sentence


def _columns(line: str) -> list[str]:
    line = line.rstrip(BLANKS)
    return line.split("\t") if "\t" in line else [field for field in line.split(" ") if field]


def _survey(path: Path, shown: str) -> Survey:
    """Read a whole file to find its columns and the scheme of its tags."""
    numbered = _is_numbered(path, shown)
    widths: Counter[int] = Counter()
    first = 0
    for _, sentence in _sentences(path, shown, numbered=numbered):
        if not isinstance(sentence, Reject):
            first = first or sentence[0].number
            widths.update(len(line.fields) for line in sentence)
    columns = widths.most_common(1)[0][0] if widths else 2
    if columns < 2:
        raise UserError(
            f"{shown}, line {first}: has 1 column: a token and its tag are needed (for a text a"
            " line set ingest.format to lines)"
        )
    tags = [TagSurvey(), TagSurvey()]  # of the last column and of the one before it
    for _, sentence in _sentences(path, shown, numbered=numbered, columns=columns):
        if isinstance(sentence, Reject):
            continue
        own = [line for line in sentence if len(line.fields) >= 2 + numbered]
        tokens = [line.fields[numbered] for line in own]
        for place, survey in enumerate(tags, 1):
            survey.count(tokens, [line.fields[-place] for line in own])
    nested = numbered and columns == GERMEVAL and _are_tags(tags[0]) and _are_tags(tags[1])
    return Survey(columns, int(numbered), -2 if nested else -1, tags[nested])


def _is_numbered(path: Path, shown: str) -> bool:
    """True if the first column numbers the tokens of each sentence, from 1 or 0 on."""
    right, total = 0, 0
    for _, sentence in islice(_sentences(path, shown, numbered=True), SOME):
        if not isinstance(sentence, Reject):
            numbers = [line.fields[0] for line in sentence]
            count = [str(n) for n in range(len(numbers) + 1)]
            right += numbers in (count[1:], count[:-1])
            total += len(sentence[0].fields) > 2
    return total > 0 and right >= 0.9 * total


def _are_tags(survey: TagSurvey) -> bool:
    """True if a column has only tags of the scheme IOB2."""
    return all(tag == OUTSIDE or tag[:2] in ("B-", "I-") for tag in survey.kinds)


def _fault(sentence: Sequence[Line], survey: Survey) -> tuple[int, str] | None:
    """Return the number of the first wrong line of a sentence and the reason."""
    for number, fields in sentence:
        if len(fields) != survey.columns:
            return number, f"has {len(fields)} columns where the file has {survey.columns}"
        if not fields[survey.token]:
            return number, "its token is empty"
    fault = survey.tags.fault([line.fields[survey.tag] for line in sentence])
    return (sentence[fault[0]].number, fault[1]) if fault else None


# a sentence per line


def read_tagged_lines(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield a row for each line: tokens separated by spaces, a tab, and as many tags."""
    require(columns, ("text", "label", "tokens"), f"{shown}: row 1", "lines with tags give")
    survey = TagSurvey()
    for _, line in read_lines(path, shown):
        if isinstance(line, str) and (parts := _parted(line)):
            survey.count(*parts)
    for number, line in read_lines(path, shown):
        if isinstance(line, Reject):
            yield line
        elif not line.strip():
            continue
        elif (parts := _parted(line)) is None:
            reason = "is not tokens, a tab, and as many tags"
            yield Reject(shown, number, reason, excerpt(line))
        elif fault := survey.fault(parts[1]):
            yield Reject(shown, number, fault[1], excerpt(line))
        else:
            text, spans = survey.text_and_spans(*parts)
            yield Row(shown, number, _fields(text, spans, parts[0]))


def _parted(line: str) -> tuple[list[str], list[str]] | None:
    """Return the tokens and the tags of a line; None if their numbers differ."""
    words, _, marks = line.partition("\t")
    tokens, tags = words.split(), marks.split()
    return (tokens, tags) if tokens and len(tokens) == len(tags) else None


# word/tag


def read_word_tags(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield a row for each line of word/tag pairs, separated by blanks, with the tags of the
    People's Daily: nr for people, ns for places, nt for organisations, and tags that begin with
    these. Words are joined without spaces.

    The corpus splits a person's family name and given name: a word of one character, or a known
    family name of two, and the next word are one name if both are tagged nr.
    """
    require(columns, ("text", "label", "tokens"), f"{shown}: row 1", "words with tags give")
    for number, line in read_lines(path, shown):
        if isinstance(line, Reject):
            yield line
            continue
        words = [word for word in line.replace("\t", " ").split(" ") if word]
        parsed = [WORD.fullmatch(word) for word in words]
        if not words:
            continue
        if None in parsed:
            word = words[parsed.index(None)]
            yield Reject(shown, number, f"{excerpt(word)!r} is not word/tag", excerpt(line))
            continue
        tagged = [(match[1], match[2]) for match in parsed if match]
        tokens = [word for word, _ in tagged]
        yield Row(shown, number, _fields("".join(tokens), _names(tagged), tokens))


def _names(tagged: Sequence[tuple[str, str]]) -> list[Span]:
    spans: list[Span] = []
    start, after_family = 0, False  # True right after a person's family name
    for word, tag in tagged:
        end = start + len(word)
        kind = NAMES.get(tag[:2])
        if kind == "PER" and after_family:
            spans[-1] = (spans[-1][0], end, kind)
            after_family = False
        else:
            if kind:
                spans.append((start, end, kind))
            after_family = kind == "PER" and (len(word) == 1 or word in FAMILY_NAMES)
        start = end
    return spans


def _fields(text: str, spans: Sequence[Span], tokens: Sequence[str]) -> dict[str, str]:
    return {"text": text, "label": as_json(spans), "tokens": as_json(tokens)}
