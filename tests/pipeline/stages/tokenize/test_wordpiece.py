"""Learned vocabularies are reproducible, and one that writes decodes to the original text."""

import pytest
from tokenizers import Tokenizer

from pipeline.stages.tokenize import wordpiece
from tests.conftest import SHARED

FRENCH = [
    "Un homme s'est assis près de l'herbe (verte), peut-être à 10 h 30.",
    "« L'été » : c'est aujourd'hui, n'est-ce pas ?",
    "Une fille en T-shirt ## lit le n° 5 d'un journal...",
    "我爱北京 et les 東京タワー!",
]


def learned(texts: list[str], **how: bool) -> Tokenizer:
    return wordpiece.trained(lambda: texts, 400, lower_case=False, min_frequency=1, **how)


@pytest.mark.parametrize("writes", [False, True])
def test_a_vocabulary_is_the_same_each_time(writes: bool) -> None:
    assert learned(FRENCH, writes=writes).to_str() == learned(FRENCH, writes=writes).to_str()


def test_what_writes_gives_back_spaces_accents_and_marks_as_they_were() -> None:
    words = learned(FRENCH, writes=True)
    for text in [*FRENCH, "l'homme ##d'un n° 3"]:
        encoded = words.encode(text)
        assert encoded.tokens[0] == "[CLS]" and encoded.tokens[-1] == "[SEP]"
        assert words.decode(encoded.ids) == text


def test_a_long_chinese_sentence_is_no_single_word() -> None:
    words = learned(FRENCH, writes=True)
    assert words.decode(words.encode("我爱北京" * 60).ids) == "我爱北京" * 60


def test_case_is_lost_where_that_is_wanted() -> None:
    words = wordpiece.trained(lambda: FRENCH, 400, lower_case=True, min_frequency=1, writes=True)
    assert words.decode(words.encode("L'ÉTÉ").ids) == "l'été"


def test_a_whole_test_set_comes_back() -> None:
    folder = SHARED / "multi30k"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    lines = (folder / "train.fr").read_text().split("\n")[:8000]
    words = wordpiece.trained(lambda: lines, 8000, lower_case=False, min_frequency=2, writes=True)
    test = (folder / "test_2016_flickr.fr").read_text()
    truths = [" ".join(line.split()) for line in test.splitlines()]
    back = [words.decode(words.encode(text).ids) for text in truths]
    assert sum(a == b for a, b in zip(back, truths, strict=True)) >= 0.99 * len(truths)
