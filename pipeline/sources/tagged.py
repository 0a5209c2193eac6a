"""Readers of tagged tokens: in columns, one token per line, as in CoNLL shared tasks, or word/tag.

Both yield `text`, `label` (JSON: [[start, end, "TYPE"], ...] in characters of the text) and
`tokens` (JSON). Tokens in columns also yield `document`: its number if -DOCSTART- lines separate
documents.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
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

BLANKS = " \t"  # others, such as a full-width space, can be tokens
DOCUMENT = "-DOCSTART-"
OUTSIDE = "O"
# Letters that begin an entity, continue it, end it, and mark an entity of one token. The first two
# schemes do not mark ends; IOB1 begins with I, and with B only right after an entity of that type.
SCHEMES = {"IOB2": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
BY_CHARACTERS = 0.95  # share of one-character tokens from which a file is tagged by characters
# Tags of names in the People's Daily corpus of 1998 (Yu et al. 2002), and family names of two
# characters.
NAMES = {"nr": "PER", "ns": "LOC", "nt": "ORG"}
FAMILY_NAMES = frozenset(
    re.findall("..", "欧阳司马诸葛上官司徒东方令狐南宫夏侯皇甫尉迟公孙慕容宇文长孙端木独孤")
)
WORD = re.compile(r"(.+)/([A-Za-z][A-Za-z0-9]*)")

PRESENT = ("text", "label", "tokens", "document")

Span = tuple[int, int, str]


# columns


class Line(NamedTuple):
    number: int
    fields: list[str]

    @property
    def tag(self) -> str:
        return self.fields[-1]


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
    scheme: str
    by_characters: bool


def read_conll(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield sentences, which blank lines separate. The first column of a line is a token, the last
    one its tag. Tabs separate the columns of a line that has one, else spaces.

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
    for document, lines in _sentences(path, shown):
        if isinstance(lines, Reject):
            yield document, lines
        elif fault := _fault(lines, survey):
            words = " ".join(line.fields[0] for line in lines)
            yield document, Reject(shown, *fault, excerpt(words))
        else:
            tokens = [line.fields[0] for line in lines]
            text, starts = _joined(tokens, survey.by_characters)
            spans = _spans(lines, starts, survey.scheme)
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


def _sentences(path: Path, shown: str) -> Iterator[tuple[int, list[Line] | Reject]]:
    """Yield the document number and the lines of each sentence; 0 before the first -DOCSTART-."""
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
    """Read a whole file to find its most frequent number of columns and the scheme that the fewest
    pairs of adjacent tags violate; all rules of a scheme are about two adjacent tags."""
    widths: Counter[int] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    tokens, single, wide = 0, 0, 0
    first = 0
    for _, sentence in _sentences(path, shown):
        if isinstance(sentence, Reject):
            continue
        first = first or sentence[0].number
        widths.update(len(line.fields) for line in sentence)
        pairs.update(pairwise(_tags(sentence)))
        for line in sentence:
            is_single = len(line.fields[0]) == 1
            tokens, single = tokens + 1, single + is_single
            wide += is_single and _width(line.fields[0]) == "wide"
    columns = widths.most_common(1)[0][0] if widths else 2
    if columns < 2:
        raise UserError(
            f"{shown}, line {first}: has 1 column: a token and its tag are needed (for a text a"
            " line set ingest.format to lines)"
        )
    violations = {
        scheme: sum(count for pair, count in pairs.items() if not _fits(*pair, scheme))
        for scheme in SCHEMES
    }
    by_characters = single >= BY_CHARACTERS * tokens and 2 * wide >= tokens
    return Survey(columns, min(violations, key=violations.__getitem__), by_characters)


def _tags(sentence: Sequence[Line]) -> list[str]:
    """Return the tags of a sentence between two O tags."""
    return [OUTSIDE, *(line.tag for line in sentence), OUTSIDE]


@lru_cache(maxsize=65536)
def _parsed(tag: str) -> tuple[str, str]:
    """Return the letter and the type of a tag, ("", "") if it is not a valid tag."""
    letter, hyphen, kind = tag.partition("-")
    if tag == OUTSIDE:
        return OUTSIDE, ""
    return (letter, kind) if len(letter) == 1 and hyphen and kind else ("", "")


@lru_cache(maxsize=65536)
def _fits(before: str, tag: str, scheme: str) -> bool:
    """True if a scheme allows a tag right after another one."""
    (was, old), (now, new) = _parsed(before), _parsed(tag)
    letters = SCHEMES[scheme]
    if now != OUTSIDE and (not now or now not in letters):
        return False
    if scheme == "IOB1":
        return now != "B" or (was in ("B", "I") and old == new)
    continues = now in letters[1:3]
    if scheme == "IOB2":
        return not continues or (was in ("B", "I") and old == new)
    is_open = was != "" and was in letters[:2]
    return continues == is_open and (old == new or not continues)


@lru_cache(maxsize=65536)
def _begins(before: str, tag: str, scheme: str) -> bool:
    """True if an entity begins with a tag that the scheme allows after the tag before."""
    (was, old), (now, new) = _parsed(before), _parsed(tag)
    if scheme == "IOB1":
        return now == "B" or (now == "I" and (was == OUTSIDE or old != new))
    return now in (SCHEMES[scheme][0], SCHEMES[scheme][3:])


def _fault(sentence: Sequence[Line], survey: Survey) -> tuple[int, str] | None:
    """Return the number of the first wrong line of a sentence and the reason."""
    for number, fields in sentence:
        if len(fields) != survey.columns:
            return number, f"has {len(fields)} columns where the file has {survey.columns}"
        if not fields[0]:
            return number, "its token is empty"
    tags = _tags(sentence)
    for place, (before, tag) in enumerate(pairwise(tags)):
        if _fits(before, tag, survey.scheme):
            continue
        number = sentence[min(place, len(sentence) - 1)].number
        letter, _ = _parsed(tag)
        if letter != OUTSIDE and (not letter or letter not in SCHEMES[survey.scheme]):
            known = ", ".join(f"{letter}-TYPE" for letter in SCHEMES[survey.scheme])
            return number, f"its tag {excerpt(tag)!r} is not {survey.scheme} ({OUTSIDE}, {known})"
        if place == len(sentence):
            return number, f"its tag {excerpt(before)!r} ends a sentence, against {survey.scheme}"
        context = f"follows {excerpt(before)!r}" if place else "begins a sentence"
        return number, f"its tag {excerpt(tag)!r} {context}, against {survey.scheme}"
    return None


def _spans(sentence: Sequence[Line], starts: Sequence[int], scheme: str) -> list[Span]:
    spans: list[Span] = []
    tags = pairwise(_tags(sentence))
    for (_, fields), start, (before, tag) in zip(sentence, starts, tags, strict=False):
        end = start + len(fields[0])
        if tag == OUTSIDE:
            continue
        if _begins(before, tag, scheme):
            spans.append((start, end, _parsed(tag)[1]))
        else:
            spans[-1] = (spans[-1][0], end, spans[-1][2])
    return spans


def _joined(tokens: Sequence[str], by_characters: bool) -> tuple[str, list[int]]:
    """Join tokens to a text. Returns the text and the start of each token.

    A space separates two tokens, except in Chinese or Japanese: no space between two wide
    characters, nor between a wide one and a mark such as “ whose width is ambiguous (Unicode
    Standard Annex 11). Korean letters are wide too, but its words are separated by spaces. In a
    file that is tagged by characters, a space separates only two tokens of several characters.
    """
    starts, parts, end = [0], [tokens[0]], len(tokens[0])
    for before, token in pairwise(tokens):
        if by_characters:
            spaced = len(before) > 1 and len(token) > 1
        else:
            widths = {_width(before[-1]), _width(token[0])}
            spaced = "narrow" in widths or "wide" not in widths
        parts.append(f" {token}" if spaced else token)
        starts.append(end + spaced)
        end = starts[-1] + len(token)
    return "".join(parts), starts


@lru_cache(maxsize=65536)
def _width(character: str) -> str:
    if "HANGUL" in unicodedata.name(character, ""):
        return "narrow"
    kinds = {"W": "wide", "F": "wide", "A": "either"}
    return kinds.get(unicodedata.east_asian_width(character), "narrow")


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
