"""Ranking of candidates: documents for a query, items for a user's history.

A row is one candidate: `text` is the query or history, `second` the candidate, `label` a grade of
relevance, 0 for irrelevant. The rows of a group are ranked against each other, by the probability
that the candidate is relevant, which is the answer.

Metrics are means over the groups with a relevant candidate. A metric of tied candidates is its
expectation over all orders of the ties (McSherry & Najork 2008), so a constant model scores like a
random order.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..base import Answer, Detail, Floats, Labelled, Logits, LossOptions, Setting, Target, Task
from ..base.encoding import Piece, Texts

if TYPE_CHECKING:
    from torch import Tensor

MOST = 10  # highest grade; the gain doubles with each
NDCG_PLACES, RECALL_PLACES = 10, 5
DIGITS = 8  # of an answer
ALIKE = 0.1  # standard deviations that two equal scores may differ by
K1, B = 1.2, 0.75  # parameters of BM25
COUNTS = 6  # length of a tally


class Ranking(Task):
    head = "sequence"
    metrics = (f"ndcg_at_{NDCG_PLACES}", "mrr", f"recall_at_{RECALL_PLACES}", "auc")
    two_texts = True
    by_group = True
    display_name = "Text ranking"

    def label(self, cell: str, text: str, second: str) -> str:
        """Parse a whole number from 0 to MOST."""
        number = re.fullmatch(r"([0-9]+)(\.0*)?", cell.strip())
        if not number or int(number[1]) > MOST:
            raise ValueError(
                f"is no grade of relevance: write 0 for not relevant, else a whole number from 1 to"
                f" {MOST}"
            )
        return str(int(number[1]))

    def shown(self, label: str, text: str, second: str) -> str:
        return f"{float(label):.3f}" if "." in label else label

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return ["score"]

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        return float(label != "0")

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        """Pointwise loss: binary cross-entropy of relevance (Nogueira & Cho 2019)."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(
            logits[:, 0], targets.to(logits.dtype), reduction="sum"
        )

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Mapping[str, Any],
    ) -> list[Answer]:
        """Probability of being relevant; the maximum over windows (Dai & Callan 2019)."""
        best = np.full(len(texts), -np.inf)
        scores = np.array([float(score[0]) for score in logits])
        np.maximum.at(best, [piece.row for piece in pieces], scores)
        return [
            Answer(label=_written(chance), confidence=chance)
            for chance in np.exp(-np.logaddexp(0, -best)).tolist()
        ]

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        """Tally of a group: 1 if it has a relevant candidate, its nDCG, reciprocal rank and recall;
        1 if it has an irrelevant one too, and its AUC."""
        grades = np.array([int(grade) for grade in truths])
        scores = np.array([float(answer) for answer in answers])
        tally = np.zeros(COUNTS)
        if grades.any():
            tally[:4] = (
                1,
                ndcg(grades, scores, NDCG_PLACES),
                reciprocal_rank(grades, scores),
                recall(grades, scores, RECALL_PLACES),
            )
        if grades.any() and not grades.all():
            tally[4:] = 1, auc(grades, scores)
        return tally

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        groups, *sums, mixed, areas = np.moveaxis(tallies, -1, 0)
        means = [each / np.maximum(groups, 1) for each in sums] + [areas / np.maximum(mixed, 1)]
        return {name: np.asarray(mean) for name, mean in zip(self.metrics, means, strict=True)}

    def same(self, answers: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
        """True where two scores differ by at most ALIKE standard deviations of `others`; a score
        equals a grade if it lies on the grade's side of 0.5."""
        mine, theirs = (np.array([float(each) for each in given]) for given in (answers, others))
        graded = ["." not in a or "." not in b for a, b in zip(answers, others, strict=True)]
        spread = theirs.std() if len(theirs) else 0.0
        near = np.abs(mine - theirs) <= max(ALIKE * spread, 0.1**DIGITS)
        return np.asarray(np.where(graded, (mine >= 0.5) == (theirs >= 0.5), near), dtype=bool)

    def error_severity(self, label: str, answer: Answer) -> float:
        return abs((label != "0") - float(answer.label))

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """Random order; BM25 of the candidate for the query; and, if candidates of training occur
        again, how often they were relevant there."""
        found = {
            "random order": np.zeros(len(on.test.texts)),
            f"BM25 of {on.kind}": bm25(on.train.texts, on.test.texts, on.kind),
        }
        if {second for _, second in on.train.texts} & {second for _, second in on.test.texts}:
            found["popularity in training"] = popularity(on.train, on.test.texts)
        return {name: [_written(score) for score in scores] for name, scores in found.items()}

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        groups = Counter(rows.groups)
        relevant = {
            group for group, grade in zip(rows.groups, rows.labels, strict=True) if grade != "0"
        }
        return Detail(
            more={
                "groups": float(len(groups)),
                "groups_without_relevant": float(len(groups) - len(relevant)),
                "candidates_per_group": len(rows.labels) / max(len(groups), 1),
                "relevant_share": sum(grade != "0" for grade in rows.labels)
                / max(len(rows.labels), 1),
            }
        )


def _written(score: float) -> str:
    return f"{score:.{DIGITS}f}"


# Metrics of one group: `grades` and `scores` are (candidates,), a grade above 0 is relevant.


def ndcg(grades: npt.NDArray[np.int64], scores: Floats, places: int) -> float:
    """Normalized discounted cumulative gain (Järvelin & Kekäläinen 2002), with the gain 2^grade - 1
    (Burges et al. 2005) and the discount log2(1 + place)."""
    gains = np.exp2(grades) - 1
    discounts = np.where(np.arange(len(gains)) < places, 1 / np.log2(np.arange(len(gains)) + 2), 0)
    ideal = np.sort(gains)[::-1] @ discounts
    return float(_expected(gains, scores) @ discounts / ideal)


def recall(grades: npt.NDArray[np.int64], scores: Floats, places: int) -> float:
    """Share of the relevant candidates in the first places."""
    relevant = (grades > 0).astype(np.float64)
    return float(_expected(relevant, scores)[:places].sum() / relevant.sum())


def reciprocal_rank(grades: npt.NDArray[np.int64], scores: Floats) -> float:
    """Reciprocal of the place of the first relevant candidate."""
    best = scores[grades > 0].max()
    above, tied = int((scores > best).sum()), scores == best
    irrelevant, left = int((tied & (grades == 0)).sum()), int(tied.sum())
    rank, reach = 0.0, 1.0  # probability that no relevant one came before
    for place in range(above + 1, above + irrelevant + 2):
        rank += reach * (left - irrelevant) / left / place
        reach *= irrelevant / left
        irrelevant, left = irrelevant - 1, left - 1
    return rank


def auc(grades: npt.NDArray[np.int64], scores: Floats) -> float:
    """Probability that a relevant candidate precedes an irrelevant one; ties count half."""
    relevant, others = scores[grades > 0], np.sort(scores[grades == 0])
    below = np.searchsorted(others, relevant, "left") + np.searchsorted(others, relevant, "right")
    return float(below.mean() / (2 * len(others)))


def _expected(values: Floats, scores: Floats) -> Floats:
    """Expected value at each place, from the highest score on; ties share their places."""
    _, tie, count = np.unique(-scores, return_inverse=True, return_counts=True)
    means = np.bincount(tie, weights=values) / count
    return np.asarray(np.repeat(means, count))


def bm25(train: Sequence[Texts], pairs: Sequence[Texts], kind: str) -> Floats:
    """BM25 / (1 + BM25) of each pair's second text for the first, (pairs,) in [0, 1) (Robertson &
    Zaragoza 2009), with term rarity and text length from all distinct candidates."""
    from sklearn.feature_extraction.text import CountVectorizer

    words = {"token_pattern": r"(?u)\w+"} if kind == "words" else {"analyzer": "char"}
    counter = CountVectorizer(**words, ngram_range=(1, 1 if kind == "words" else 2))
    documents = list(dict.fromkeys(second for _, second in (*train, *pairs)))
    place = {document: i for i, document in enumerate(documents)}
    try:
        terms = counter.fit_transform(documents).astype(np.float64).tocoo()  # (documents, terms)
    except ValueError:  # no candidate has a word
        return np.zeros(len(pairs))
    present = np.bincount(terms.col, minlength=terms.shape[1])
    rarity = np.log1p((len(documents) - present + 0.5) / (present + 0.5))
    lengths = np.asarray(terms.sum(1)).ravel()
    damp = K1 * (1 - B + B * lengths / lengths.mean())
    terms.data *= (K1 + 1) / (terms.data + damp[terms.row]) * rarity[terms.col]
    own = terms.tocsr()[[place[second] for _, second in pairs]]
    queries = counter.transform(first for first, _ in pairs)  # (pairs, terms)
    fit = np.asarray(queries.multiply(own).sum(1)).ravel()
    return np.asarray(fit / (1 + fit))


def popularity(train: Labelled, pairs: Sequence[Texts]) -> Floats:
    """Share of relevant rows among the training rows with the same second text, (pairs,), smoothed
    by one row of the overall mean."""
    seen = Counter(second for _, second in train.texts)
    relevant = Counter(
        second for (_, second), grade in zip(train.texts, train.labels, strict=True) if grade != "0"
    )
    mean = relevant.total() / max(seen.total(), 1)
    return np.array([(relevant[second] + mean) / (seen[second] + 1) for _, second in pairs])
