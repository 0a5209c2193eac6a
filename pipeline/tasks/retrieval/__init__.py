"""Retrieval of the nearest classes by embeddings: intents of a question, topics of a text.

The model computes an embedding of each text, (width,) and of length 1. A triplet loss brings texts
of one class together and keeps others apart; each class is then the centroid of its training texts
(Rocchio 1971; Snell et al. 2017). An answer lists the nearest classes, nearest first, one a line.
"""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

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
from ..base.class_lists import single_class
from ..base.encoding import Piece, Texts
from ..base.tfidf import GRAMS, tfidf
from ..base.windows import row_means

if TYPE_CHECKING:
    from torch import Tensor

LISTED = 10  # classes in an answer
PLACES = (1, 5, LISTED)  # k of recall


class Retrieval(Task):
    head = "embedding"
    metrics = ("mrr", *(f"recall_at_{place}" for place in PLACES), f"ndcg_at_{LISTED}")
    display_name = "Sentence similarity"

    def label(self, cell: str, text: str, second: str) -> str:
        return single_class(cell)

    def classes(self, label: str) -> Sequence[str]:
        return (label,)

    def shown(self, label: str, text: str, second: str) -> str:
        return ", ".join(label.splitlines()[:3])

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return list(classes)

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        return classes.index(label)

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        """Batch-hard triplet loss with a soft margin (Hermans et al. 2017) of
        sentence-transformers: the furthest text of the same class against the nearest of
        another."""
        from sentence_transformers.sentence_transformer.losses import BatchHardSoftMarginTripletLoss

        real = targets != IGNORED
        if not real.any():
            return logits.sum() * 0
        unused: Any = None  # the model: embeddings are computed already
        triplets = BatchHardSoftMarginTripletLoss(unused)
        return triplets.compute_loss_from_embeddings([logits[real]], targets[real]) * real.sum()

    def remember(
        self, logits: Sequence[Logits], targets: Sequence[Target], classes: Sequence[str]
    ) -> Mapping[str, Any]:
        """Centroid of each class, (classes, width), as base64 of little-endian float32; every
        window of a text counts."""
        sums = np.zeros((len(classes), len(logits[0])))
        np.add.at(sums, np.asarray(targets), np.stack(logits))
        return {"centroids": base64.b64encode(unit(sums).astype("<f4").tobytes()).decode()}

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Mapping[str, Any],
    ) -> list[Answer]:
        """Nearest classes by cosine; embeddings are averaged over windows."""
        if not texts:
            return []
        known = np.frombuffer(base64.b64decode(decision["centroids"]), "<f4")
        places = unit(row_means(np.stack(logits).astype(np.float64), pieces, len(texts)))
        cosines = places @ known.reshape(len(classes), -1).T  # (rows, classes)
        return [_answer(row, classes) for row in cosines]

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        """One-hot rank of the truth among the first LISTED classes, and 1 for the row."""
        listed = answers[0].splitlines()
        tally = np.zeros(LISTED + 1)
        tally[LISTED] = 1
        if truths[0] in listed:
            tally[listed.index(truths[0])] = 1
        return tally

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        """MRR, recall, and nDCG, whose gain is 1 / log2(1 + rank) with one relevant class."""
        shares = tallies[..., :LISTED] / np.maximum(tallies[..., LISTED:], 1)  # at each place
        places = np.arange(1, LISTED + 1)
        found = [shares @ (1 / places), *(shares[..., :k].sum(-1) for k in PLACES)]
        found.append(shares @ (1 / np.log2(1 + places)))
        return {name: np.asarray(each) for name, each in zip(self.metrics, found, strict=True)}

    def same(self, answers: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
        """True where the nearest class is the same."""
        return super().same(*([each.partition("\n")[0] for each in x] for x in (answers, others)))

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The most frequent training classes, and the nearest centroids of TF-IDF n-grams."""
        texts, classes = [text for text, _ in on.train.texts], on.classes
        terms = tfidf(texts, **GRAMS[on.kind])
        tally = Counter(on.train.labels)
        frequent = sorted(classes, key=lambda name: -tally[name])[:LISTED]
        own = np.array([[name == each for each in on.train.labels] for name in classes], np.float64)
        centroids = unit(own @ terms.transform(texts))
        cosines = terms.transform(text for text, _ in on.test.texts) @ centroids.T
        return {
            "most frequent classes": ["\n".join(frequent)] * len(on.test.texts),
            f"TF-IDF {on.kind} + nearest centroid": [
                _answer(row, classes).label for row in cosines
            ],
        }

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        """Scores of the nearest class."""
        pairs = [(t, a.label.partition("\n")[0]) for t, a in zip(rows.labels, answers, strict=True)]
        total = sum(
            (counts.tally([t] if t == a else (), [a], [t], t == a, classes) for t, a in pairs),
            np.zeros(3 * len(classes) + 2),
        )
        return Detail(
            per_class=counts.per_class(total, classes),
            averages=counts.averages(total),
            confusions=pairs,
        )


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1, (vectors, width); zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def _answer(cosines: Floats, classes: Sequence[str]) -> Answer:
    """Answer from the cosines to all classes, (classes,)."""
    order = np.argsort(-cosines, kind="stable")[:LISTED]
    nearest = [{"class": classes[i], "cosine": float(cosines[i])} for i in order]
    return Answer(
        label="\n".join(classes[i] for i in order),
        confidence=float(np.clip(cosines[order[0]], 0, 1)),
        details={"nearest": nearest},
    )
