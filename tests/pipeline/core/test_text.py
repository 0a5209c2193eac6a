"""Excerpts and messages keep every script, and nothing that harms a terminal."""

import pytest

from pipeline.core.errors import HARMFUL, UserError
from pipeline.core.text import excerpt
from pipeline.tasks import base

KEPT = (
    "علمی\u200cتخیلی",  # Persian, joined by a zero-width non-joiner
    "👩\u200d💻 ❤\ufe0f",  # an emoji of two, and one with a variation selector
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # a flag of tags
    "क्\u200dष",  # Devanagari
    "שלום\u200f!",  # a right-to-left mark
    "Donau\u00addampf",  # a soft hyphen
    "\ue000 \U0001faea",  # private use, and a character younger than this Python
)
HARM = "\0\x07\x1b\x7f\x85\x9b\u202a\u202e\u2066\u2069\ud83d\udce9\ufdd0\uffff"


@pytest.mark.parametrize("text", KEPT)
def test_characters_of_a_script_or_an_emoji_are_shown(text: str) -> None:
    assert excerpt(text) == str(UserError(text)) == text
    assert base.class_name(f" {text} ") == text


@pytest.mark.parametrize("character", HARM)
def test_characters_that_harm_a_terminal_are_replaced(character: str) -> None:
    shown = "a b\ufffdc" if character != "\x85" else "a b c"  # which is white space
    assert excerpt(f"a\n b{character}c") == str(UserError(f"a\n b{character}c")) == shown
    with pytest.raises(ValueError, match="cannot be printed"):
        base.class_name(f"a{character}b")


def test_separators_that_break_a_line_are_spaces_in_an_excerpt_and_in_no_name() -> None:
    assert excerpt("a\u2028b\u2029c\vd") == "a b c d"
    for character in "\u2028\u2029\v\t\n":
        with pytest.raises(ValueError, match="cannot be printed"):
            base.class_name(f"a{character}b")


def test_a_version_refuses_the_characters_that_messages_replace() -> None:
    assert base.HARMFUL.pattern == HARMFUL.pattern
