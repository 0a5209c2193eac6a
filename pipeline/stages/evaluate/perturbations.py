"""Random changes of texts for behaviour tests."""

import re
import unicodedata
from collections.abc import Sequence
from random import Random
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.config import Settings

NUMBER = re.compile(r"(?<![A-Za-z0-9])[0-9]+(?![A-Za-z0-9])")  # not the 3 of MP3
LETTERS = re.compile(r"[^\W\d_]{5,}")  # words long enough for a typo inside
ENDINGS = " \n\t.!?…。！？"

Words = Annotated[str, Field(min_length=1)]


class Change(Settings):
    """Changes that are made to a text, in this order; at least one."""

    swap: list[Annotated[list[Words], Field(min_length=2)]] = Field(default=[])
    """Groups of names; each name in the text is replaced by another of its group."""
    digits: bool = False
    """True if every number outside of a word is replaced by another with as many digits."""
    typos: int = Field(default=0, ge=0)
    """Number of words in which two neighbouring letters are swapped."""
    ending: list[str] = Field(default=[])
    """Replacements for the punctuation at the end, of which one is drawn."""
    before: list[Words] = Field(default=[])
    """Sentences of which one is put before the text."""
    after: list[Words] = Field(default=[])
    """Sentences of which one is put after the text."""
    case: Literal["lower", "upper"] | None = None
    spaces: int = Field(default=0, ge=0, le=100)
    """Number of spaces that replace each white space and are put around the text."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not any(value for _, value in self):
            raise ValueError(f"changes nothing: name one of {', '.join(type(self).model_fields)}")
        return self

    def apply(self, text: str, random: Random) -> str:
        for group in self.swap:
            text = _swapped(text, group, random)
        if self.digits:
            text = NUMBER.sub(lambda found: _other_number(found[0], random), text)
        text = _mistyped(text, self.typos, random)
        if self.ending:
            stem = text.rstrip(ENDINGS)
            others = [end for end in self.ending if stem + end != text]
            text = stem + random.choice(others or self.ending)
        if self.before:
            text = _joined(random.choice(self.before), text)
        if self.after:
            text = _joined(text, random.choice(self.after))
        if self.case:
            text = text.lower() if self.case == "lower" else text.upper()
        if self.spaces:
            pad = " " * self.spaces
            text = pad + pad.join(text.split()) + pad
        return text


def _swapped(text: str, group: Sequence[str], random: Random) -> str:
    """Replace each name of the group by another, no two by the same."""
    shift = random.randrange(1, len(group))
    other = {name: group[(i + shift) % len(group)] for i, name in enumerate(group)}
    longest_first = sorted(group, key=len, reverse=True)
    return re.sub("|".join(map(_pattern, longest_first)), lambda found: other[found[0]], text)


def _pattern(name: str) -> str:
    """Return a pattern of the name, as a whole word if its script has spaces between words."""
    start = "" if _wide(name[0]) else r"(?<!\w)"
    end = "" if _wide(name[-1]) else r"(?!\w)"
    return f"{start}{re.escape(name)}{end}"


def _other_number(number: str, random: Random) -> str:
    other = number
    while other == number:
        other = "".join(random.choice("123456789") for _ in number)
    return other


def _mistyped(text: str, words: int, random: Random) -> str:
    """Swap two neighbouring letters inside each of so many words."""
    found = list(LETTERS.finditer(text))
    for word in random.sample(found, min(words, len(found))):
        at = random.randrange(word.start() + 1, word.end() - 2)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def _joined(first: str, second: str) -> str:
    """Join two sentences, with a space between them if their script has spaces."""
    return first + ("" if _wide(first[-1:] + second[:1]) else " ") + second


def _wide(characters: str) -> bool:
    """True if one of the characters belongs to a script without spaces, such as Chinese."""
    return any(unicodedata.east_asian_width(character) in "WF" for character in characters)
