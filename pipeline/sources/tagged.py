"""Tokens with tags: in columns, a token a line, as CoNLL shared tasks write them, or word/tag.

Both give `text`, `label` (JSON: [[start, end, "TYPE"], ...] in characters of the text) and `tokens`
(JSON). Tokens in columns also give `document`: a number where -DOCSTART- lines part documents.
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
from pipeline.sources.rows import LARGEST_ROW, Reject, Row, as_json, read_lines, require

BLANKS = " \t"  # others, such as a full-width space, can be tokens
DOCUMENT = "-DOCSTART-"
OUTSIDE = "O"
# The letters that begin, continue, end and alone make an entity. In the first two nothing marks an
# end; IOB1 begins with I, and with B only right behind an entity of the same type.
SCHEMES = {"IOB2": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
BY_CHARACTERS = 0.95  # share of a file's tokens from which characters, not words, are its tokens
# The names among the tags of the People's Daily of 1998 (Yu et al. 2002), and its family names of
# two characters.
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
    """Of its first line."""
    text: str
    spans: list[Span]
    tokens: list[str]


@dataclass(frozen=True)
class Survey:
    """What only a file as a whole can tell."""

    columns: int
    scheme: str
    by_characters: bool


def read_conll(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Sentences with a blank line between them: of each line the first column is a token and the
    last its tag. Columns are parted by tabs, in lines that have one, or else by spaces.

    A row's number is the line of its first token. A sentence in which a line cannot be read, has
    another number of columns than most, or a tag that does not fit the file's scheme, is one
    `Reject` that names this line.
    """
    require(columns, PRESENT, f"{shown}: row 1", "tokens with tags give")
    for document, found in _read(path, shown):
        yield found if isinstance(found, Reject) else _row(shown, document, [found])


def read_conll_documents(
    path: Path, shown: str, columns: tuple[str, ...]
) -> Iterator[Row | Reject]:
    """Documents, each behind a -DOCSTART- line, whose sentences are lines of one text: so a name is
    read beside all else that its document says of it. A document in which a line is wrong is one
    `Reject` that names this line.

    Raises UserError where a sentence belongs to no document.
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
    """Each sentence, or why it is none, behind the number of its document."""
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
    """Some sentences of one document, a line each."""
    spans: list[Span] = []
    place = 0
    for sentence in sentences:
        spans += [(start + place, end + place, kind) for start, end, kind in sentence.spans]
        place += len(sentence.text) + 1
    text = "\n".join(sentence.text for sentence in sentences)
    tokens = [token for sentence in sentences for token in sentence.tokens]
    fields = _fields(text, spans, tokens) | {"document": str(document or "")}
    return Row(shown, sentences[0].number, fields)


def _sentences(path: Path, shown: str) -> Iterator[tuple[int, list[Line] | Reject]]:
    """Each sentence behind the number of its document, 0 before the first -DOCSTART-."""
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
    """Read a file through: its columns are the most frequent number of columns, its scheme the one
    against which the fewest tags stand, for every rule of a scheme is about two tags in a row."""
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
            alone = len(line.fields[0]) == 1
            tokens, single = tokens + 1, single + alone
            wide += alone and _width(line.fields[0]) == "wide"
    columns = widths.most_common(1)[0][0] if widths else 2
    if columns < 2:
        raise UserError(
            f"{shown}, line {first}: has 1 column: a token and its tag are needed (for a text a"
            " line set ingest.format to lines)"
        )
    against = {
        scheme: sum(count for pair, count in pairs.items() if not _fits(*pair, scheme))
        for scheme in SCHEMES
    }
    by_characters = single >= BY_CHARACTERS * tokens and 2 * wide >= tokens
    return Survey(columns, min(SCHEMES, key=lambda scheme: against[scheme]), by_characters)


def _tags(sentence: Sequence[Line]) -> list[str]:
    """With nothing before the first and behind the last."""
    return [OUTSIDE, *(line.tag for line in sentence), OUTSIDE]


@lru_cache(maxsize=65536)
def _parsed(tag: str) -> tuple[str, str]:
    """A tag's letter and type: ("", "") where it is none."""
    letter, hyphen, kind = tag.partition("-")
    if tag == OUTSIDE:
        return OUTSIDE, ""
    return (letter, kind) if len(letter) == 1 and hyphen and kind else ("", "")


@lru_cache(maxsize=65536)
def _fits(before: str, tag: str, scheme: str) -> bool:
    """True if a scheme lets a tag stand right behind another one."""
    (was, old), (now, new) = _parsed(before), _parsed(tag)
    letters = SCHEMES[scheme]
    if now != OUTSIDE and (not now or now not in letters):
        return False
    if scheme == "IOB1":
        return now != "B" or (was in ("B", "I") and old == new)
    goes_on = now in letters[1:3]
    if scheme == "IOB2":
        return not goes_on or (was in ("B", "I") and old == new)
    is_open = was != "" and was in letters[:2]
    return goes_on == is_open and (old == new or not goes_on)


@lru_cache(maxsize=65536)
def _begins(before: str, tag: str, scheme: str) -> bool:
    """True if an entity begins with a tag that fits behind another one."""
    (was, old), (now, new) = _parsed(before), _parsed(tag)
    if scheme == "IOB1":
        return now == "B" or (now == "I" and (was == OUTSIDE or old != new))
    return now in (SCHEMES[scheme][0], SCHEMES[scheme][3:])


def _fault(sentence: Sequence[Line], survey: Survey) -> tuple[int, str] | None:
    """The line in which a sentence is wrong first, and why."""
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
        behind = f"follows {excerpt(before)!r}" if place else "begins a sentence"
        return number, f"its tag {excerpt(tag)!r} {behind}, against {survey.scheme}"
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
    """The text of tokens, and where each one starts.

    One space stands between two tokens, and none where Chinese or Japanese is written on: where
    both meet at wide characters, or a wide one and a mark such as “ whose width is ambiguous
    (Unicode Standard Annex 11). Korean, whose letters are wide too, parts its words. In a file of
    characters, none but between two tokens that are longer.
    """
    starts, parts, place = [0], [tokens[0]], len(tokens[0])
    for before, token in pairwise(tokens):
        if by_characters:
            apart = len(before) > 1 and len(token) > 1
        else:
            widths = {_width(before[-1]), _width(token[0])}
            apart = "narrow" in widths or "wide" not in widths
        parts.append(f" {token}" if apart else token)
        place += apart
        starts.append(place)
        place += len(token)
    return "".join(parts), starts


@lru_cache(maxsize=65536)
def _width(character: str) -> str:
    if "HANGUL" in unicodedata.name(character, ""):
        return "narrow"
    kinds = {"W": "wide", "F": "wide", "A": "either"}
    return kinds.get(unicodedata.east_asian_width(character), "narrow")


# word/tag


def read_word_tags(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """A text a line, as word/tag with blanks between, in the tags of the People's Daily: nr are
    people, ns places, nt organisations, as are tags that begin so. Words are joined by nothing.

    There a person's family name and given name are two words: so a word of one character, or a
    family name of two, is one name with the next word where both are nr.
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
    place, family = 0, False  # whether the word before is a person's family name
    for word, tag in tagged:
        end = place + len(word)
        kind = NAMES.get(tag[:2])
        if kind == "PER" and family:
            spans[-1] = (spans[-1][0], end, kind)
            family = False
        elif kind:
            spans.append((place, end, kind))
            family = kind == "PER" and (len(word) == 1 or word in FAMILY_NAMES)
        else:
            family = False
        place = end
    return spans


def _fields(text: str, spans: Sequence[Span], tokens: Sequence[str]) -> dict[str, str]:
    return {"text": text, "label": as_json(spans), "tokens": as_json(tokens)}
