"""Words of a text: those of a tokenizer, and runs of characters between spaces."""

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..base.encoding import trimmed
from .bio import Place

# scripts without spaces that are not wide: Thai and Lao, Burmese, Khmer
UNSPACED = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"))


class Word(NamedTuple):
    """Word of a tokenized text."""

    token: int
    """Index of its first token."""
    start: int
    end: int


def words(encoding: Any, text: str) -> list[Word]:
    """Words of a tokenized text.

    A word includes the characters behind it that the tokenizer dropped, such as combining accents,
    and excludes emoji at its ends. In scripts without spaces every token is a word.
    """
    found: list[Word] = []
    last = None
    for token, (offsets, word) in enumerate(zip(encoding.offsets, encoding.word_ids, strict=True)):
        if word is None:
            continue
        start, end = trimmed(text, *offsets)  # byte-level tokenizers count the space before
        if start == end:
            continue
        while end < len(text) and _attached(text[end]):
            end += 1
        goes_on = found and word == last and _joined(text, start)
        # several tokens of one character have the same offsets
        if found and (goes_on or start < found[-1].end):
            found[-1] = found[-1]._replace(end=max(end, found[-1].end))
        else:
            found.append(Word(token, start, end))
        last = word
    return [_without_emoji(word, text) for word in found]


def plain_words(text: str) -> list[Place]:
    """Runs of characters without white space; single characters in scripts without spaces."""
    found: list[Place] = []
    for place, character in enumerate(text):
        if character.isspace():
            continue
        if found and found[-1][1] == place and _joined(text, place):
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return found


def whole_words(found: Sequence[Word], text: str) -> list[Word]:
    """Merge the words within each plain word, tagged by the first that has a letter or digit.

    Punctuation at the ends of a plain word stays apart, as in pre-tokenized texts.
    """
    places = plain_words(text)
    starts = [start for start, _ in places]
    of: dict[Place, list[Word]] = {}
    for word in found:
        of.setdefault(places[bisect_right(starts, word.start) - 1], []).append(word)
    whole: list[Word] = []
    for (start, end), parts in of.items():
        said = [any(map(str.isalnum, text[part.start : part.end])) for part in parts]
        first = said.index(True) if any(said) else 0
        last = len(said) - said[::-1].index(True) if any(said) else len(said)
        before, inner, after = parts[:first], parts[first:last], parts[last:]
        # including the characters that the tokenizer dropped
        own = start if not before else inner[0].start
        until = max(end, inner[-1].end) if not after else inner[-1].end
        whole += [*before, _without_emoji(Word(inner[0].token, own, until), text), *after]
    return whole


def _without_emoji(word: Word, text: str) -> Word:
    """Word without the emoji before its first letter or digit and behind its last."""
    if text[word.start : word.end].isascii():
        return word
    said = [i for i in range(word.start, word.end) if text[i].isalnum()]
    if not said:
        return word
    start = said[0] if any(map(_is_emoji, text[word.start : said[0]])) else word.start
    end = next((i for i in range(said[-1], word.end) if _is_emoji(text[i])), word.end)
    return Word(word.token, start, end)


def goes_on(text: str, place: int) -> bool:
    """True if a position is inside a word: a letter or digit of the same word is on either side."""
    inside = 0 < place < len(text)
    return inside and text[place - 1].isalnum() and text[place].isalnum() and _joined(text, place)


def _joined(text: str, place: int) -> bool:
    """True if a character can belong to the same word as the one before it."""
    return _attached(text[place]) or not (_unspaced(text[place]) or _unspaced(text[place - 1]))


def _attached(character: str) -> bool:
    """True if a character is a combining mark."""
    if character.isascii():
        return False
    return unicodedata.category(character) in ("Mn", "Mc", "Me")


def _is_emoji(character: str) -> bool:
    """True for pictographs and arrows; False for symbols that belong to the word they touch: those
    before the arrows, such as ° and ™, and those made of letters, such as ㎡."""
    return (
        character >= "\u2190"
        and unicodedata.category(character) in ("So", "Sk")
        and not unicodedata.decomposition(character)
    )


def _unspaced(character: str) -> bool:
    """True if the character's script puts no spaces between words; Hangul counts, because its
    particles follow without a space."""
    if character.isascii():
        return False
    wide = unicodedata.east_asian_width(character) in "WF"
    return wide or any(first <= character <= last for first, last in UNSPACED)
