"""Tags of tokens: the scheme that they follow, and the text and spans that they give."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import pairwise

from pipeline.core.text import excerpt

OUTSIDE = "O"
TAG = re.compile(r"O|[BIESLUM]-\S+")
# Letters that begin an entity, continue it, end it, and mark an entity of one token. The first two
# schemes do not mark ends; IOB1 begins with I, and with B only right after an entity of that type.
SCHEMES = {"IOB2": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
BY_CHARACTERS = 0.95  # share of one-character tokens from which a file is tagged by characters
# Types without a letter before or behind them that would mark an entity's beginning, as in PER-B.
PLAIN_TYPE = re.compile(r"(?![BIESLUM][-_])(?!.*[-_][BIESLUM]$)[^\W\d_][\w/-]{0,39}")
PLAIN_OUTSIDE = 0.3  # least share of O among tags without letters

Span = tuple[int, int, str]


class TagSurvey:
    """Properties of tags that are known only after all of a file have been counted."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.single = self.wide = 0

    def count(self, tokens: Sequence[str], tags: Sequence[str]) -> None:
        """Count the tokens and tags of a sentence."""
        self.kinds.update(tags)
        self.pairs.update(pairwise([OUTSIDE, *tags, OUTSIDE]))
        for token in tokens:
            is_single = len(token) == 1
            self.single += is_single
            self.wide += is_single and _width(token) == "wide"

    @cached_property
    def outside(self) -> str:
        """Tag of a token outside of all entities: O, or o where no tag is O."""
        return "o" if "o" in self.kinds and OUTSIDE not in self.kinds else OUTSIDE

    @cached_property
    def plain(self) -> bool:
        """True for tags that are types alone, such as PER: the scheme IO."""
        types = self.kinds.keys() - {self.outside}
        enough = self.kinds[self.outside] >= PLAIN_OUTSIDE * self.kinds.total()
        return bool(types) and enough and all(map(PLAIN_TYPE.fullmatch, types))

    @cached_property
    def scheme(self) -> str:
        """Scheme that the fewest pairs of adjacent tags violate; all rules of a scheme are about
        two adjacent tags."""
        if self.plain:
            return "IOB1"
        pairs = Counter[tuple[str, str]]()
        for (before, tag), count in self.pairs.items():
            pairs[self.normal(before), self.normal(tag)] += count
        violations = {
            scheme: sum(count for pair, count in pairs.items() if not _fits(*pair, scheme))
            for scheme in SCHEMES
        }
        return min(violations, key=violations.__getitem__)

    @cached_property
    def by_characters(self) -> bool:
        tokens = self.kinds.total()
        return self.single >= BY_CHARACTERS * tokens and 2 * self.wide >= tokens

    def normal(self, tag: str) -> str:
        """Return a tag with O for outside and a letter before its type."""
        if tag in (self.outside, OUTSIDE):
            return OUTSIDE
        return f"I-{tag}" if self.plain else tag

    def fault(self, tags: Sequence[str]) -> tuple[int, str] | None:
        """Return the place of the first tag of a sentence that is against the scheme, and the
        reason."""
        scheme = self.scheme
        own = [OUTSIDE, *map(self.normal, tags), OUTSIDE]
        for place, (before, tag) in enumerate(pairwise(own)):
            if _fits(before, tag, scheme):
                continue
            letter, _ = _parsed(tag)
            if letter != OUTSIDE and (not letter or letter not in SCHEMES[scheme]):
                known = ", ".join(f"{letter}-TYPE" for letter in SCHEMES[scheme])
                return place, f"its tag {excerpt(tag)!r} is not {scheme} ({OUTSIDE}, {known})"
            if place == len(tags):
                return place - 1, f"its tag {excerpt(before)!r} ends a sentence, against {scheme}"
            context = f"follows {excerpt(before)!r}" if place else "begins a sentence"
            return place, f"its tag {excerpt(tag)!r} {context}, against {scheme}"
        return None

    def text_and_spans(self, tokens: Sequence[str], tags: Sequence[str]) -> tuple[str, list[Span]]:
        """Join the tokens of a sentence, and return the text and its spans.

        Raises ValueError for a tag that is against the scheme.
        """
        if fault := self.fault(tags):
            raise ValueError(fault[1])
        text, starts = _joined(tokens, self.by_characters)
        spans: list[Span] = []
        pairs = pairwise([OUTSIDE, *map(self.normal, tags)])
        for token, start, (before, tag) in zip(tokens, starts, pairs, strict=True):
            end = start + len(token)
            if tag == OUTSIDE:
                continue
            if _begins(before, tag, self.scheme):
                spans.append((start, end, _parsed(tag)[1]))
            else:
                spans[-1] = (spans[-1][0], end, spans[-1][2])
        return text, spans


@lru_cache(maxsize=65536)
def _parsed(tag: str) -> tuple[str, str]:
    """Return the letter and the type of a tag, ("", "") if it is not a valid tag."""
    letter, hyphen, kind = tag.partition("-")
    if tag == OUTSIDE:
        return OUTSIDE, ""
    return (letter, kind) if len(letter) == 1 and hyphen and kind else ("", "")


@lru_cache(maxsize=65536)
def _fits(before: str, tag: str, scheme: str) -> bool:
    """True if a scheme allows a tag right after another one."""
    (was, old), (now, new) = _parsed(before), _parsed(tag)
    letters = SCHEMES[scheme]
    if now != OUTSIDE and (not now or now not in letters):
        return False
    if scheme == "IOB1":
        return now != "B" or (was in ("B", "I") and old == new)
    continues = now in letters[1:3]
    if scheme == "IOB2":
        return not continues or (was in ("B", "I") and old == new)
    is_open = was != "" and was in letters[:2]
    return continues == is_open and (old == new or not continues)


@lru_cache(maxsize=65536)
def _begins(before: str, tag: str, scheme: str) -> bool:
    """True if an entity begins with a tag that the scheme allows after the tag before."""
    (was, old), (now, new) = _parsed(before), _parsed(tag)
    if scheme == "IOB1":
        return now == "B" or (now == "I" and (was == OUTSIDE or old != new))
    return now in (SCHEMES[scheme][0], SCHEMES[scheme][3:])


def _joined(tokens: Sequence[str], by_characters: bool) -> tuple[str, list[int]]:
    """Join tokens to a text. Returns the text and the start of each token.

    A space separates two tokens, except in Chinese or Japanese: no space between two wide
    characters, nor between a wide one and a mark such as “ whose width is ambiguous (Unicode
    Standard Annex 11). Korean letters are wide too, but its words are separated by spaces. In a
    file that is tagged by characters, a space separates only two tokens of several characters.
    """
    starts, parts, end = [0], [tokens[0]], len(tokens[0])
    for before, token in pairwise(tokens):
        if by_characters:
            spaced = len(before) > 1 and len(token) > 1
        else:
            widths = {_width(before[-1]), _width(token[0])}
            spaced = "narrow" in widths or "wide" not in widths
        parts.append(f" {token}" if spaced else token)
        starts.append(end + spaced)
        end = starts[-1] + len(token)
    return "".join(parts), starts


@lru_cache(maxsize=65536)
def _width(character: str) -> str:
    if "HANGUL" in unicodedata.name(character, ""):
        return "narrow"
    kinds = {"W": "wide", "F": "wide", "A": "either"}
    return kinds.get(unicodedata.east_asian_width(character), "narrow")
