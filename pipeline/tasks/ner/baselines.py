"""Two ways to tag words in BIO that need no encoder: what a list of names and what the forms of
words tell.

Both learn from (words, tags) of training texts and give the tags of other texts' words.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .bio import Place, entities

Learnt = Sequence[tuple[Sequence[str], Sequence[str]]]
WORD = re.compile(r"\w+(?:[^\w\s]\w+)*|[^\w\s]")  # a hyphen or dot within a word is part of it
FIELD = {"c1": 0.1, "c2": 0.01, "max_iterations": 60}
"""Weights of CRFsuite's L1 and L2 penalties, and where its L-BFGS stops: on the 14,000 training
sentences of CoNLL-2003 after a minute and a half, and no worse on its test set than later."""


def words(text: str) -> list[Place]:
    return [match.span() for match in WORD.finditer(text)]


def characters(text: str) -> list[Place]:
    return [(i, i + 1) for i, character in enumerate(text) if not character.isspace()]


def known_names(learnt: Learnt, asked: Sequence[Sequence[str]]) -> list[list[str]]:
    """Every name of the training texts has the type it has there most often; where names overlap,
    the longest from the left: the baseline of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003)."""
    seen: dict[tuple[str, ...], Counter[str]] = {}
    for said, tags in learnt:
        for start, end, kind in entities(tags):
            seen.setdefault(tuple(said[start:end]), Counter())[kind] += 1
    types = {name: max(sorted(kinds), key=kinds.__getitem__) for name, kinds in seen.items()}
    longest = max(map(len, types), default=0)
    return [list(_looked_up(tuple(said), types, longest)) for said in asked]


def _looked_up(
    said: tuple[str, ...], types: dict[tuple[str, ...], str], longest: int
) -> Iterator[str]:
    start = 0
    while start < len(said):
        ends = range(min(start + longest, len(said)), start, -1)
        end = next((end for end in ends if said[start:end] in types), start)
        if end == start:
            yield "O"
            start += 1
            continue
        kind = types[said[start:end]]
        yield f"B-{kind}"
        yield from [f"I-{kind}"] * (end - start - 1)
        start = end


def conditional_random_field(learnt: Learnt, asked: Sequence[Sequence[str]]) -> list[list[str]]:
    """A linear-chain CRF (Lafferty et al. 2001) over the forms of words and their neighbours."""
    from pycrfsuite import Tagger, Trainer

    trainer = Trainer(algorithm="lbfgs", params=FIELD, verbose=False)
    for said, tags in learnt:
        trainer.append(features(said), tags)
    with TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        trainer.train(model)
        tagger = Tagger()
        with tagger.open(model):
            return [tagger.tag(features(said)) for said in asked]


def features(said: Sequence[str]) -> list[list[str]]:
    """Of each word: its form, those of two neighbours on either side, and the pairs around it."""
    forms = [["outside"]] * 2 + [_form(word) for word in said] + [["outside"]] * 2
    plain = ["", "", *said, "", ""]
    return [
        [f"{step}:{feature}" for step in range(-2, 3) for feature in forms[i + step]]
        + [f"{step}:{plain[i + step]} {plain[i + step + 1]}" for step in (-1, 0)]
        for i in range(2, len(said) + 2)
    ]


def _form(word: str) -> list[str]:
    """The word, its affixes, and its shape: `Xx+-9+` for `Mid-1996`."""
    low = word.lower()
    letters = re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", word)
    shape = re.sub(r"(.)\1+", r"\1+", re.sub(r"\d", "9", letters))
    affixes = range(1, min(4, len(low) - 1) + 1)
    return [
        word,
        f"low={low}",
        f"shape={shape}",
        *(f"begins={low[:n]}" for n in affixes),
        *(f"ends={low[-n:]}" for n in affixes),
    ]
