"""Each kind of change changes a text as documented, and nothing else."""

import re
from random import Random
from typing import Any

import pytest

from pipeline.stages.evaluate.perturbations import Change


@pytest.mark.parametrize(
    ("change", "text", "expected"),
    [
        ({"case": "upper"}, "Straight on", "STRAIGHT ON"),
        ({"case": "lower"}, "BBC News", "bbc news"),
        ({"ending": ["!"]}, "It rains ...", "It rains!"),
        ({"ending": ["", "."]}, "It rains.", "It rains"),
        ({"before": ["Hello."]}, "It rains.", "Hello. It rains."),
        ({"after": ["我很喜欢。"]}, "下雨了。", "下雨了。我很喜欢。"),
        ({"spaces": 2}, "It\nrains", "  It  rains  "),
        ({"swap": [["Rome", "Oslo"]]}, "Rome, not Romeo", "Oslo, not Romeo"),
        ({"swap": [["York", "New York"]]}, "New York or York", "York or New York"),
        ({"swap": [["York", "York City"]]}, "York City or York", "York or York City"),
        ({"swap": [["北京", "上海"]]}, "我在北京。", "我在上海。"),
        ({"swap": [["a.c", "x"]]}, "abc", "abc"),
        ({"typos": 3}, "a few tiny ones", "a few tiny ones"),
        ({"digits": True}, "MP3 at 800m", "MP3 at 800m"),
        ({"case": "upper", "after": ["So."]}, "It rains.", "IT RAINS. SO."),
    ],
)
def test_a_change_does_what_it_says(change: dict[str, Any], text: str, expected: str) -> None:
    assert Change.model_validate(change).apply(text, Random("a seed")) == expected


def test_typos_keep_letters_and_the_ends_of_words() -> None:
    text = "Researchers presented remarkable findings yesterday"
    for seed in range(50):
        changed = Change(typos=2).apply(text, Random(seed))
        pairs = list(zip(text.split(), changed.split(), strict=True))
        assert sum(old != new for old, new in pairs) <= 2
        for old, new in pairs:
            assert sorted(old) == sorted(new)
            assert (old[0], old[-1]) == (new[0], new[-1])


def test_numbers_keep_their_width() -> None:
    changed = Change(digits=True).apply("1,250 of 3.5m in 2004", Random(1))
    assert re.fullmatch(r"[1-9],[1-9]{3} of [1-9]\.5m in [1-9]{4}", changed)


def test_every_number_becomes_another() -> None:
    for seed in range(100):
        changed = Change(digits=True).apply("7 of 12", Random(seed))
        assert all(old != new for old, new in zip(["7", "12"], changed.split(" of "), strict=True))
