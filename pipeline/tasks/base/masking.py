"""Random masking of tokens, whole words on request (Devlin et al. 2019, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
IGNORED = -100  # as PyTorch has it
MASKED, KEPT = 0.8, 0.1  # shares of the chosen tokens; the rest become random tokens


@dataclass(frozen=True)
class Vocabulary:
    """Token ids of a tokenizer that masking needs."""

    mask: int
    """Id of [MASK]."""
    first: int
    separator: int
    """Id of [CLS], which begins every text, and of [SEP], which ends each of its parts."""
    special: Flags
    """True for tokens outside of texts, (vocabulary,): never masked, never drawn."""
    continues: Flags
    """True for tokens that continue a word, such as WordPiece's ##, (vocabulary,)."""

    @cached_property
    def plain(self) -> Ints:
        """Tokens that can replace a masked one."""
        return np.flatnonzero(~self.special)


def vocabulary_of(tokenizer: object) -> Vocabulary:
    """Vocabulary of a BERT tokenizer, a `tokenizers.Tokenizer`.

    Raises ValueError if it lacks one of BERT's special tokens.
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
    """Mask random tokens of a text; return its tokens and the targets, (tokens,) each: the original
    of a masked token, else IGNORED.

    A share of `probability` of the tokens that are not special is chosen, one at least. Of these
    80 % become [MASK], 10 % a random token and 10 % stay, drawn for each token. With `whole_words`
    all tokens of a word are chosen or none; words too long for what is left are skipped.
    """
    tokens = np.asarray(ids, dtype=np.int64)
    places = np.flatnonzero(~vocabulary.special[tokens])
    targets = np.full(len(tokens), IGNORED)
    if not len(places):
        return tokens, targets
    # the fraction of a token is rounded at random, so the share holds on average
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
    """Positions of random whole words, of `wanted` tokens together or slightly fewer."""
    begins = ~continues[tokens[places]]
    begins[0] = True
    begins[1:] |= np.diff(places) > 1  # a special token ends a word
    words = np.split(places, np.flatnonzero(begins)[1:])
    chosen: list[Ints] = []
    left = wanted
    for i in random.permutation(len(words)):
        if len(words[i]) <= left:
            chosen.append(words[i])
            left -= len(words[i])
        if not left:
            break
    # all words are too long
    return np.concatenate(chosen) if chosen else min(words, key=len)
