"""Named entities: which stretches of a text name something, and what.

A label is a JSON list of spans, `[[0,4,"PER"],[17,23,"LOC"]]`: first character, one past the
last, and type; sorted, not overlapping, "[]" where a text names nothing.

The head tags the first token of each word in BIO; the other tokens of a word count neither in the
loss nor in an answer (Devlin et al. 2019, section 5.3), so that no word is ever split.
"""

import json
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..base import IGNORED, Answer, Detail, Floats, Labelled, Logits, Setting, Target, Task, counts
from ..base.encoding import Piece, Texts, trimmed
from ..base.single_label import softmax
from . import baselines as bio_baselines
from .bio import Place, Span, best_path, entities, placed, tagged, tags_of

if TYPE_CHECKING:
    import torch

# scripts without spaces that are not wide: Thai and Lao, Burmese, Khmer
UNSPACED = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"))


class Word(NamedTuple):
    """A word as a tokenizer cuts a text into words."""

    token: int
    """Its first."""
    start: int
    end: int


class NamedEntities(Task):
    head = "token"
    metrics = ("entity_f1", "entity_macro_f1")
    offsets = True
    display_name = "Token classification"

    # rows

    def label(self, cell: str, text: str, second: str) -> str:
        """From a JSON list of [start, end, type] or {"start": , "end": , "label": }. White space at
        either end of a span is left out of it."""
        try:
            entries = json.loads(cell)
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, list):
            raise ValueError(
                'is no JSON list of spans: write it like [[0, 4, "PER"]], or [] for none'
            )
        spans = sorted(_span(entry, text) for entry in entries)
        for one, other in pairwise(spans):
            if other.start < one.end:
                raise ValueError(f"spans {_told(one)} and {_told(other)} overlap")
        return written(spans)

    def classes(self, label: str) -> Sequence[str]:
        return [span.type for span in read(label)]

    def shown(self, label: str, text: str, second: str) -> str:
        named = [f"{kind}: {' '.join(text[start:end].split())}" for start, end, kind in read(label)]
        return "; ".join(named) or "none"

    # learning

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return tags_of(classes)

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        """The tag of each word at its first token. A word that a span covers in part counts as
        covered."""
        found = words(piece.encoding, texts[0])
        number = {name: i for i, name in enumerate(self.outputs(classes))}
        tags = tagged([(word.start, word.end) for word in found], read(label))
        of = {word.token: number[tag] for word, tag in zip(found, tags, strict=True)}
        return [of.get(token, IGNORED) for token in piece.keep]

    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        mask: "torch.Tensor",
        weights: "torch.Tensor | None" = None,
        smoothing: float = 0.0,
    ) -> "torch.Tensor":
        from torch.nn.functional import cross_entropy

        flat = logits.flatten(0, 1).float()
        return cross_entropy(flat, targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def decide(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        rows: Labelled,
        classes: Sequence[str],
    ) -> Mapping[str, Any]:
        """Whether no entity begins or ends within a run of characters between spaces, as in texts
        whose words come apart already: then an answer does not either, and the first word of
        `AL-AIN` speaks for the whole."""
        return {"whole_words": all(map(_between_spaces, rows.texts, rows.labels))}

    # answering

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Mapping[str, Any],
    ) -> list[Answer]:
        """The most likely sequence of tags in which I- only goes on with an entity of its type.

        Of windows that share a word, the one that sees the most around it has the say. An entity's
        score is the mean probability of its words' tags; the confidence is that of the least sure
        word, as a label is right only where every word is.
        """
        of: list[list[int]] = [[] for _ in texts]
        for i, piece in enumerate(pieces):
            of[piece.row].append(i)
        names = self.outputs(classes)
        whole = bool(decision.get("whole_words", False))
        return [
            _answer([logits[i] for i in mine], [pieces[i] for i in mine], text, names, whole)
            for mine, (text, _) in zip(of, texts, strict=True)
        ]

    # scores

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        """Of each type the spans found exactly, answered and true, as `conlleval` counts them."""
        truth, answer = read(truths[0]), read(answers[0])
        hits, given, true = (
            [span.type for span in spans] for spans in (set(truth) & set(answer), answer, truth)
        )
        return counts.tally(hits, given, true, truth == answer, classes)

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        """Nothing found where nothing is named is perfect: else a row without entities could not
        tell a model that invents one from a model that does not."""
        _, answers, truths = counts.parts(tallies)
        some = answers.sum(-1) + truths.sum(-1) > 0
        return {
            "entity_f1": np.where(some, counts.micro_f1(tallies), 1.0),
            "entity_macro_f1": np.where(some, counts.macro_f1(tallies), 1.0),
        }

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        """Scores by type; in `more` those of the tags of words, as `token_scores` counts them."""
        given = [answer.label for answer in answers]
        pairs = list(zip(rows.labels, given, strict=True))
        total = sum(
            (self.tally([t], [a], classes) for t, a in pairs), np.zeros(3 * len(classes) + 2)
        )
        return Detail(
            per_class=counts.per_class(total, classes),
            averages=counts.averages(total),
            more=token_scores([text for text, _ in rows.texts], rows.labels, given),
            confusions=[pair for t, a in pairs for pair in _confused(read(t), read(a))],
        )

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The types that training rows give to names, looked up, and a conditional random field."""
        words_of = bio_baselines.words if on.kind == "words" else bio_baselines.characters
        learnt = []
        for (text, _), label in zip(on.train.texts, on.train.labels, strict=True):
            places = words_of(text)
            learnt.append((_said(text, places), tagged(places, read(label))))
        cut = [words_of(text) for text, _ in on.test.texts]
        asked = [_said(text, places) for (text, _), places in zip(on.test.texts, cut, strict=True)]
        found = {
            "known names": bio_baselines.known_names(learnt, asked),
            f"CRF {on.kind}": bio_baselines.conditional_random_field(learnt, asked),
        }
        return {
            name: [
                written(placed(entities(tags), places))
                for tags, places in zip(answers, cut, strict=True)
            ]
            for name, answers in found.items()
        }


# labels


def read(label: str) -> list[Span]:
    return [Span(*entry) for entry in json.loads(label)]


def written(spans: Sequence[Span]) -> str:
    return json.dumps(spans, ensure_ascii=False, separators=(",", ":"))


def _span(entry: Any, text: str) -> Span:
    if isinstance(entry, dict):
        entry = [entry.get(key) for key in ("start", "end", "label")]
    if not isinstance(entry, list) or len(entry) != 3:
        raise ValueError('a span is [start, end, type] or {"start": , "end": , "label": }')
    start, end, kind = entry
    if type(start) is not int or type(end) is not int:
        raise ValueError("a span's start and end are whole numbers")
    if not isinstance(kind, str) or not kind.strip() or not kind.isprintable():
        raise ValueError(f"the type of span {start} to {end} is empty or not printable")
    if start > end:
        raise ValueError(f"span {start} to {end} ends before it starts")
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"span {start} to {end} lies outside of the text's {len(text)} characters")
    start, end = trimmed(text, start, end)
    if start == end:
        raise ValueError(f"span {entry[0]} to {entry[1]} holds no character but white space")
    return Span(start, end, kind.strip())


def _told(span: Span) -> str:
    return f"{span.start} to {span.end} ({span.type})"


# words and tags


def words(encoding: Any, text: str) -> list[Word]:
    """The words of a tokenized text, with the characters that the tokenizer left out after them,
    such as combining accents, and without the emoji at their ends that it took for a part of them.
    In scripts without spaces every token is a word."""
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
        # several tokens of one character lie upon each other
        if found and (goes_on or start < found[-1].end):
            found[-1] = found[-1]._replace(end=max(end, found[-1].end))
        else:
            found.append(Word(token, start, end))
        last = word
    return [_without_emoji(word, text) for word in found]


def plain_words(text: str) -> list[Place]:
    """Runs of characters without white space; in scripts without spaces every character alone."""
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
    """Of each plain word one, for which its first with a letter or digit speaks; the signs at its
    ends are words of their own, as they are in texts whose words come apart already."""
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
        # with the characters that the tokenizer left out
        own = start if not before else inner[0].start
        until = max(end, inner[-1].end) if not after else inner[-1].end
        whole += [*before, _without_emoji(Word(inner[0].token, own, until), text), *after]
    return whole


def _between_spaces(texts: Texts, label: str) -> bool:
    """True if every span of a label begins and ends where plain words do."""
    places = plain_words(texts[0])
    starts, ends = {start for start, _ in places}, {end for _, end in places}
    return all(span.start in starts and span.end in ends for span in read(label))


def _without_emoji(word: Word, text: str) -> Word:
    """Less those before its first letter or digit and behind its last."""
    if text[word.start : word.end].isascii():
        return word
    said = [i for i in range(word.start, word.end) if text[i].isalnum()]
    if not said:
        return word
    start = said[0] if any(map(_is_emoji, text[word.start : said[0]])) else word.start
    end = next((i for i in range(said[-1], word.end) if _is_emoji(text[i])), word.end)
    return Word(word.token, start, end)


def _joined(text: str, place: int) -> bool:
    """True if a character may belong to the word of the one before it."""
    return _attached(text[place]) or not (_unspaced(text[place]) or _unspaced(text[place - 1]))


def _attached(character: str) -> bool:
    """True if it is a mark on the character before it."""
    if character.isascii():
        return False
    return unicodedata.category(character) in ("Mn", "Mc", "Me")


def _is_emoji(character: str) -> bool:
    """Whether it is a picture or the like: no sign before the arrows, such as ° and ™, and none
    that is made of letters, such as ㎡, for these belong to what they touch."""
    return (
        character >= "\u2190"
        and unicodedata.category(character) in ("So", "Sk")
        and not unicodedata.decomposition(character)
    )


def _unspaced(character: str) -> bool:
    """True if its script puts no spaces between words; Hangul counts, whose particles need none."""
    if character.isascii():
        return False
    wide = unicodedata.east_asian_width(character) in "WF"
    return wide or any(first <= character <= last for first, last in UNSPACED)


# answers


def _answer(
    logits: Sequence[Logits],
    pieces: Sequence[Piece],
    text: str,
    names: Sequence[str],
    whole: bool,
) -> Answer:
    found = words(pieces[0].encoding, text)
    if whole:
        found = whole_words(found, text)
    chances = probabilities(logits, pieces)[[word.token for word in found]]  # (words, outputs)
    path = best_path(chances)
    sure = chances[np.arange(len(found)), path]
    spans = entities([names[i] for i in path])
    of_text = placed(spans, [(word.start, word.end) for word in found])
    shown = [
        {
            "start": place.start,
            "end": place.end,
            "label": place.type,
            "text": text[place.start : place.end],
            "score": float(sure[span.start : span.end].mean()),
        }
        for place, span in zip(of_text, spans, strict=True)
    ]
    return Answer(
        label=written(of_text),
        confidence=float(sure.min(initial=1.0)),
        details={"entities": shown},
    )


def probabilities(logits: Sequence[Logits], pieces: Sequence[Piece]) -> Floats:
    """Of each token of one whole text, (tokens, outputs), in the piece that sees the most on the
    narrower side of it; a token in no piece is surely O."""
    special = np.array(pieces[0].encoding.special_tokens_mask, dtype=bool)
    found = np.zeros((len(special), logits[0].shape[-1]))
    found[:, 0] = 1.0
    most = np.full(len(special), -1)
    for values, piece in zip(logits, pieces, strict=True):
        inner = [i for i, token in enumerate(piece.keep) if not special[token]]
        keep = np.array(piece.keep, dtype=np.int64)[inner]
        context = np.arange(len(keep))
        context = np.minimum(context, context[::-1])
        better = context > most[keep]
        most[keep[better]] = context[better]
        found[keep[better]] = softmax(values[inner][better].astype(np.float64))
    return found


# scores


def token_scores(
    texts: Sequence[str], truths: Sequence[str], answers: Sequence[str]
) -> dict[str, float]:
    """F1 of the tags of `plain_words`, B- and I- apart, over the tags that occur; with O counted as
    any other tag (then micro is the share of words tagged rightly), and without."""
    pairs: list[tuple[str, str]] = []
    for text, truth, answer in zip(texts, truths, answers, strict=True):
        places = plain_words(text)
        pairs += zip(tagged(places, read(truth)), tagged(places, read(answer)), strict=True)
    hits = [t for t, a in pairs if t == a]
    tags = sorted({tag for pair in pairs for tag in pair})
    found: dict[str, float] = {}
    for suffix, among in (("", tags), ("_without_o", [tag for tag in tags if tag != "O"])):
        total = counts.tally(hits, [a for _, a in pairs], [t for t, _ in pairs], False, among)
        found[f"token_micro_f1{suffix}"] = float(counts.micro_f1(total))
        found[f"token_macro_f1{suffix}"] = float(counts.macro_f1(total))
    return found


def _confused(truth: Sequence[Span], answer: Sequence[Span]) -> Iterator[tuple[str, str]]:
    """Types of the spans with the same ends; "" for a span that the other has not."""
    true, given = ({span[:2]: span.type for span in spans} for spans in (truth, answer))
    for place in sorted(true.keys() | given.keys()):
        yield true.get(place, ""), given.get(place, "")


def _said(text: str, places: Sequence[Place]) -> list[str]:
    return [text[start:end] for start, end in places]
