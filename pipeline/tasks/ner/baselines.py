"""Baselines that tag words in BIO without an encoder: a list of names, and a linear-chain CRF.

Both learn from (words, tags) of training texts and return the tags of other texts' words.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .bio import Place, entities

Train = Sequence[tuple[Sequence[str], Sequence[str]]]
WORD = re.compile(r"\w+(?:[^\w\s]\w+)*|[^\w\s]")  # a hyphen or dot within a word is part of it
CRF = {"c1": 0.1, "c2": 0.01, "max_iterations": 60}
"""Weights of CRFsuite's L1 and L2 penalties, and the limit of its L-BFGS: on the 14,000 training
sentences of CoNLL-2003 reached in 90 s, and no worse on its test set than later."""


def word_spans(text: str) -> list[Place]:
    return [match.span() for match in WORD.finditer(text)]


def character_spans(text: str) -> list[Place]:
    return [(i, i + 1) for i, character in enumerate(text) if not character.isspace()]


def known_names(train: Train, test: Sequence[Sequence[str]]) -> list[list[str]]:
    """Tag the names of the training texts with their most frequent type there; of overlapping names
    the longest from the left: the baseline of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003)."""
    seen: dict[tuple[str, ...], Counter[str]] = {}
    for words, tags in train:
        for start, end, kind in entities(tags):
            seen.setdefault(tuple(words[start:end]), Counter())[kind] += 1
    types = {name: max(sorted(kinds), key=kinds.__getitem__) for name, kinds in seen.items()}
    longest = max(map(len, types), default=0)
    return [list(_looked_up(tuple(words), types, longest)) for words in test]


def _looked_up(
    words: tuple[str, ...], types: dict[tuple[str, ...], str], longest: int
) -> Iterator[str]:
    start = 0
    while start < len(words):
        ends = range(min(start + longest, len(words)), start, -1)
        end = next((end for end in ends if words[start:end] in types), start)
        if end == start:
            yield "O"
            start += 1
            continue
        kind = types[words[start:end]]
        yield f"B-{kind}"
        yield from [f"I-{kind}"] * (end - start - 1)
        start = end


def conditional_random_field(train: Train, test: Sequence[Sequence[str]]) -> list[list[str]]:
    """Tag words by a linear-chain CRF (Lafferty et al. 2001) over the forms of words and of their
    neighbours."""
    from pycrfsuite import Tagger, Trainer

    trainer = Trainer(algorithm="lbfgs", params=CRF, verbose=False)
    for words, tags in train:
        trainer.append(features(words), tags)
    with TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        trainer.train(model)
        tagger = Tagger()
        with tagger.open(model):
            return [tagger.tag(features(words)) for words in test]


def features(words: Sequence[str]) -> list[list[str]]:
    """Features of each word: its form, the forms of two neighbours on either side, and the bigrams
    around it."""
    forms = [["outside"]] * 2 + [_form(word) for word in words] + [["outside"]] * 2
    plain = ["", "", *words, "", ""]
    return [
        [f"{step}:{feature}" for step in range(-2, 3) for feature in forms[i + step]]
        + [f"{step}:{plain[i + step]} {plain[i + step + 1]}" for step in (-1, 0)]
        for i in range(2, len(words) + 2)
    ]


def _form(word: str) -> list[str]:
    """Word, lower case, affixes and shape: `Xx+-9+` for `Mid-1996`."""
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
