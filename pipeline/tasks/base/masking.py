"""Tokens that are hidden so that a model guesses them (Devlin et al. 2019, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
IGNORED = -100  # as PyTorch has it
MASKED, KEPT = 0.8, 0.1  # of the hidden tokens; the rest become others drawn by chance


@dataclass(frozen=True)
class Vocabulary:
    """What masking needs to know of a tokenizer's vocabulary."""

    mask: int
    """The token that stands for a hidden one."""
    first: int
    separator: int
    """What every text begins with, and what stands behind each of its parts."""
    special: Flags
    """Tokens that are of no text, (tokens of the vocabulary,): never hidden, never drawn."""
    continues: Flags
    """Tokens that go on with the word before them, as WordPiece's ## does, (tokens,)."""

    @cached_property
    def plain(self) -> Ints:
        """What a hidden token can be replaced by."""
        return np.flatnonzero(~self.special)


def vocabulary_of(tokenizer: object) -> Vocabulary:
    """That of a BERT's tokenizer, a `tokenizers.Tokenizer`.

    Raises ValueError where it lacks one of a BERT's special tokens.
    """
    names: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)  # type: ignore[attr-defined]
    size = max(names.values()) + 1
    special, continues = np.zeros(size, bool), np.zeros(size, bool)
    added = tokenizer.get_added_tokens_decoder()  # type: ignore[attr-defined]
    special[[place for place, token in added.items() if token.special]] = True
    for name, place in names.items():
        continues[place] = name.startswith("##")
        special[place] |= name.startswith("[unused")
    try:
        mask, first, separator = names["[MASK]"], names["[CLS]"], names["[SEP]"]
    except KeyError as error:
        raise ValueError(f"its tokenizer has no {error.args[0]}") from None
    return Vocabulary(mask, first, separator, special, continues)


def masked(
    ids: Sequence[int] | Ints,
    vocabulary: Vocabulary,
    probability: float,
    whole_words: bool,
    random: np.random.Generator,
) -> tuple[Ints, Ints]:
    """A text's tokens with some of them hidden, and what should be guessed: the token where one is
    hidden, else IGNORED; (tokens,) both.

    Of the tokens that are not special `probability` are masked, one at least. Of these 80 % become
    the mask, 10 % another token and 10 % stay, drawn for each token. By `whole_words` all tokens of
    a word are masked or none; a word that would be too much is passed over, and a shorter one
    taken.
    """
    tokens = np.asarray(ids, dtype=np.int64)
    places = np.flatnonzero(~vocabulary.special[tokens])
    targets = np.full(len(tokens), IGNORED)
    if not len(places):
        return tokens, targets
    # the part that is no whole token is one by chance, so that the share holds on the average
    wanted = max(1, int(probability * len(places) + random.random()))
    if whole_words:
        chosen = _words(tokens, places, vocabulary.continues, wanted, random)
    else:
        chosen = random.choice(places, size=wanted, replace=False, shuffle=False)
    targets[chosen] = tokens[chosen]
    tokens = tokens.copy()
    fate = random.random(len(chosen))
    tokens[chosen[fate < MASKED]] = vocabulary.mask
    other = chosen[fate >= MASKED + KEPT]
    tokens[other] = random.choice(vocabulary.plain, size=len(other))
    return tokens, targets


def _words(
    tokens: Ints, places: Ints, continues: Flags, wanted: int, random: np.random.Generator
) -> Ints:
    """Places of whole words, of `wanted` tokens together or nearly so."""
    begins = ~continues[tokens[places]]
    begins[0] = True
    begins[1:] |= np.diff(places) > 1  # a special token parts words
    words = np.split(places, np.flatnonzero(begins)[1:])
    chosen: list[Ints] = []
    left = wanted
    for i in random.permutation(len(words)):
        if len(words[i]) <= left:
            chosen.append(words[i])
            left -= len(words[i])
        if not left:
            break
    # a text of one long word
    return np.concatenate(chosen) if chosen else min(words, key=len)
