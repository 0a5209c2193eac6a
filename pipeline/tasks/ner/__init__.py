"""Named entity recognition: spans of a text and their types.

A label is a JSON list of spans, `[[0,4,"PER"],[17,23,"LOC"]]`: first character, one past the
last, and type; sorted, without overlaps, "[]" for a text without entities.

The head predicts a BIO tag for the first token of each word; the other tokens of a word count
neither in the loss nor in an answer (Devlin et al. 2019, section 5.3), so no word is split.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import (
    IGNORED,
    Answer,
    Detail,
    Floats,
    Labelled,
    Logits,
    LossOptions,
    Setting,
    Target,
    Task,
    counts,
)
from ..base.encoding import Piece, Texts
from ..base.single_label import softmax
from . import baselines as bio_baselines
from . import spans
from .bio import Place, Span, best_path, entities, placed, tagged, tags_of
from .word_boundaries import plain_words, whole_words, words

if TYPE_CHECKING:
    from torch import Tensor


class NamedEntities(Task):
    head = "token"
    metrics = ("entity_f1", "entity_macro_f1")
    offsets = True
    display_name = "Token classification"

    # rows

    def label(self, cell: str, text: str, second: str) -> str:
        """Parse a JSON list of spans (`spans.parse`), which do not overlap."""
        found = spans.parse(cell, text)
        for one, other in pairwise(found):
            if other.start < one.end:
                raise ValueError(f"spans {_described(one)} and {_described(other)} overlap")
        return written(found)

    def in_characters(self, cell: str, text: str, second: str) -> str:
        return spans.in_characters(cell, text)

    def doubt(self, label: str, text: str, second: str) -> str | None:
        return spans.doubt(read(label), text)

    def classes(self, label: str) -> Sequence[str]:
        return [span.type for span in read(label)]

    def shown(self, label: str, text: str, second: str) -> str:
        named = [f"{kind}: {' '.join(text[start:end].split())}" for start, end, kind in read(label)]
        return "; ".join(named) or "none"

    # learning

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return tags_of(classes)

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        """Tag of each word at its first token. A partly covered word counts as covered."""
        found = words(piece.encoding, texts[0])
        number = {name: i for i, name in enumerate(self.outputs(classes))}
        tags = tagged([(word.start, word.end) for word in found], read(label))
        of = {word.token: number[tag] for word, tag in zip(found, tags, strict=True)}
        return [of.get(token, IGNORED) for token in piece.keep]

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
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
        """Decide `whole_words`: True if no entity begins or ends inside a run of characters between
        spaces, as in pre-tokenized texts. Then no predicted span does either, and the tag of the
        first word of `AL-AIN` is that of the whole."""
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
        """Decode the most likely legal sequence of tags: I- only continues an entity of its type.

        If windows share a word, the one with the most context around it decides. The score of an
        entity is the mean probability of its words' tags; the confidence is the lowest probability
        of a word, since a label is right only if every word is.
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
        """Number of exact hits, answers and truths of each type, as `conlleval` counts them."""
        truth, answer = read(truths[0]), read(answers[0])
        hits, given, true = (
            [span.type for span in spans] for spans in (set(truth) & set(answer), answer, truth)
        )
        return counts.tally(hits, given, true, truth == answer, classes)

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        """F1 of exact spans, 1 where neither truth nor answer has one: otherwise a row without
        entities could not separate a model that invents one from a model that does not."""
        _, answers, truths = counts.parts(tallies)
        some = answers.sum(-1) + truths.sum(-1) > 0
        return {
            "entity_f1": np.where(some, counts.micro_f1(tallies), 1.0),
            "entity_macro_f1": np.where(some, counts.macro_f1(tallies), 1.0),
        }

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        """Scores by type; `more` has the `token_scores`."""
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
        """Lookup of the names in training rows, and a conditional random field."""
        words_of = bio_baselines.word_spans if on.kind == "words" else bio_baselines.character_spans
        train = []
        for (text, _), label in zip(on.train.texts, on.train.labels, strict=True):
            places = words_of(text)
            train.append((_substrings(text, places), tagged(places, read(label))))
        cut = [words_of(text) for text, _ in on.test.texts]
        test = [
            _substrings(text, places) for (text, _), places in zip(on.test.texts, cut, strict=True)
        ]
        found = {
            "known names": bio_baselines.known_names(train, test),
            f"CRF {on.kind}": bio_baselines.conditional_random_field(train, test),
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


def _described(span: Span) -> str:
    return f"{span.start} to {span.end} ({span.type})"


def _between_spaces(texts: Texts, label: str) -> bool:
    """True if every span of a label begins and ends at a boundary of plain words."""
    places = plain_words(texts[0])
    starts, ends = {start for start, _ in places}, {end for _, end in places}
    return all(span.start in starts and span.end in ends for span in read(label))


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
    """Probabilities of the tags of each token of one text, (tokens, outputs).

    A token's probabilities come from the piece that has the most context on the token's narrower
    side; a token in no piece is O with probability 1.
    """
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
    """F1 over the tags of `plain_words` that occur, B- and I- counted apart, with and without O.

    With O counted like any other tag, micro F1 is the accuracy.
    """
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
    """Pairs of types of spans with the same ends; "" for a span that the other side lacks."""
    true, given = ({span[:2]: span.type for span in spans} for spans in (truth, answer))
    for place in sorted(true.keys() | given.keys()):
        yield true.get(place, ""), given.get(place, "")


def _substrings(text: str, places: Sequence[Place]) -> list[str]:
    return [text[start:end] for start, end in places]
