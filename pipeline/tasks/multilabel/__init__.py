"""Multi-label classification, any number of classes a text: emotions, topics, tags.

A label is the JSON list of its class names, each once and sorted: ["anger","joy"], or [] for none.

Each class has a threshold, tuned on validation rows for macro F1, because 0.5 misses most rows of
rare classes. The best threshold of a class is half of its best F1 (Lipton et al. 2014), so it
differs between classes, and for a rare class its estimate is noisy (Fan and Lin 2007). Therefore a
class's own threshold is a mean over parts of the rows and is shrunk towards the threshold that is
best for all classes together, the more the rarer the class.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..base import (
    Answer,
    ClassScores,
    Decision,
    Detail,
    Floats,
    Labelled,
    Logits,
    LossOptions,
    Setting,
    Target,
    Task,
    class_name,
    counts,
)
from ..base.class_lists import listed, refuse_object
from ..base.encoding import Piece, Texts
from ..base.roc_auc import areas
from ..base.tfidf import GRAMS, tfidf
from ..base.windows import row_means

if TYPE_CHECKING:
    from torch import Tensor

Flags = npt.NDArray[np.bool_]
GRID = np.linspace(-7, 7, 141)  # candidate thresholds as logits: 0.0009 to 0.9991
PARTS = 5  # of the validation rows; each is left out once for a class's own threshold
PULL = 5  # weight of the shared threshold, in positive rows of a class


class Multilabel(Task):
    head = "sequence"
    problem_type = "multi_label_classification"
    metrics = ("macro_f1", "micro_f1", "sample_f1", "accuracy")
    exact = "accuracy"
    many_classes = True

    def label(self, cell: str, text: str, second: str) -> str:
        """Parse a JSON list of names, one as Python or NumPy writes it, or names with commas."""
        cell = cell.strip()
        refuse_object(cell)
        names = _listed(cell) if cell.startswith("[") else cell.split(",")
        names = [class_name(name) for name in names]
        if "" in names:
            raise ValueError("one of its class names is empty: [] is how no class is written")
        return _label(names)

    def classes(self, label: str) -> Sequence[str]:
        names: list[str] = json.loads(label)
        return names

    def shown(self, label: str, text: str, second: str) -> str:
        return ", ".join(self.classes(label)) or "(none)"

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return list(classes)

    def target(self, label: str, piece: Piece, texts: Texts, classes: Sequence[str]) -> Target:
        names = set(self.classes(label))
        return [float(name in names) for name in classes]

    def loss(self, logits: "Tensor", targets: "Tensor", options: LossOptions) -> "Tensor":
        """Binary cross-entropy summed over all classes of all pieces."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")

    def decide(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        rows: Labelled,
        classes: Sequence[str],
    ) -> Decision:
        """`thresholds` of classes, and the `least` number of classes of a row."""
        return tune(_probabilities(logits, pieces, len(rows.texts)), rows.labels, classes)

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Mapping[str, Any],
    ) -> list[Answer]:
        """Classes whose probability, averaged over windows, reaches their threshold. The confidence
        is the probability of the whole set under independent classes."""
        if not texts:
            return []
        probabilities = _probabilities(logits, pieces, len(texts))
        chosen = _chosen(probabilities, classes, decision)
        found = []
        scores = ClassScores.of_rows(classes, probabilities)
        for row, flags, own in zip(probabilities, chosen, scores, strict=True):
            names = [name for name, flag in zip(classes, flags, strict=True) if flag]
            label = _label(names)
            found.append(
                Answer(
                    label=label,
                    confidence=float(np.where(flags, row, 1 - row).prod()),
                    scores=own,
                    details={"labels": self.classes(label)},
                )
            )
        return found

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        """Tally of `counts`, and last the F1 of the row's set of classes."""
        truth, answer = (set(self.classes(each[0])) for each in (truths, answers))
        hits = truth & answer
        counted = counts.tally(hits, answer, truth, truth == answer, classes)
        return np.append(counted, _set_scores(truth, answer)["f1"])

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        """`sample_f1` is the mean F1 of the rows' sets of classes, 1 for a row without truths and
        answers; `accuracy` is the share of rows whose whole set is right."""
        counted = tallies[..., :-1]
        return {
            "macro_f1": counts.macro_f1(counted),
            "micro_f1": counts.micro_f1(counted),
            "sample_f1": np.asarray(tallies[..., -1] / np.maximum(counted[..., -1], 1)),
            "accuracy": counts.right(counted),
        }

    def detail(self, rows: Labelled, answers: Sequence[Answer], classes: Sequence[str]) -> Detail:
        total = sum(
            (
                self.tally([t], [a.label], classes)
                for t, a in zip(rows.labels, answers, strict=True)
            ),
            np.zeros(3 * len(classes) + 3),
        )[:-1]
        sets = [
            (set(self.classes(t)), set(self.classes(a.label)))
            for t, a in zip(rows.labels, answers, strict=True)
        ]
        each = [_set_scores(truth, answer) for truth, answer in sets]
        samples = {
            name: float(np.mean([one[name] for one in each])) if each else 0.0
            for name in ("precision", "recall", "f1")
        }
        number = max(len(sets), 1)
        return Detail(
            per_class=counts.per_class(total, classes),
            averages={**counts.averages(total), "samples": samples},
            more={
                **areas(_wanted(rows.labels, classes), _scores(answers, classes)),
                "labels_per_row": sum(len(truth) for truth, _ in sets) / number,
                "answers_per_row": sum(len(answer) for _, answer in sets) / number,
            },
            confusions=[pair for truth, answer in sets for pair in _confusions(truth, answer)],
        )

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The most frequent training label, and a logistic regression on TF-IDF n-grams for each
        class, with thresholds tuned like the model's."""
        texts = [text for text, _ in on.train.texts]
        terms = tfidf(texts, **GRAMS[on.kind])
        train = terms.transform(texts)
        features = [
            terms.transform(text for text, _ in rows.texts) for rows in (on.validation, on.test)
        ]
        wanted = _wanted(on.train.labels, on.classes)
        columns = [
            _regression(train, wanted[:, i], features, on.seed) for i in range(len(on.classes))
        ]
        validation, test = (np.column_stack(part) for part in zip(*columns, strict=True))
        chosen = _chosen(test, on.classes, tune(validation, on.validation.labels, on.classes))
        tally = Counter(on.train.labels)
        return {
            "most frequent label": [max(sorted(tally), key=tally.__getitem__)] * len(on.test.texts),
            f"TF-IDF {on.kind} + logistic regressions": [
                _label([name for name, flag in zip(on.classes, flags, strict=True) if flag])
                for flags in chosen
            ],
        }


def tune(probabilities: Floats, labels: Sequence[str], classes: Sequence[str]) -> Decision:
    """Decision tuned on the probabilities (rows, classes) of labelled rows.

    If every row has a class, every answer gets one at least.
    """
    wanted = _wanted(labels, classes)
    cuts = thresholds(probabilities, wanted)
    return {
        "thresholds": {name: round(float(t), 6) for name, t in zip(classes, cuts, strict=True)},
        "least": int(wanted.any(axis=1).all()) if len(wanted) else 0,
    }


def thresholds(probabilities: Floats, wanted: Flags) -> Floats:
    """Threshold of each class, (rows, classes) twice -> (classes,), as probabilities."""
    if not wanted.any():
        return np.full(wanted.shape[1], 0.5)
    parts = [
        _curves(probabilities[part::PARTS], wanted[part::PARTS]) for part in range(PARTS)
    ]  # (hits, answers), each (thresholds, classes)
    hits, answers = (sum(each) for each in zip(*parts, strict=True))
    truths = wanted.sum(axis=0)
    shared = GRID[_best(counts.f1(hits, answers, truths).mean(axis=1))]
    own = np.zeros(wanted.shape[1])
    for part, (less_hits, less_answers) in enumerate(parts):
        less_truths = wanted[part::PARTS].sum(axis=0)
        rest = counts.f1(hits - less_hits, answers - less_answers, truths - less_truths)
        own += GRID[[_best(curve) for curve in rest.T]] / PARTS
    return _sigmoid((truths * own + PULL * shared) / (truths + PULL))


def _curves(probabilities: Floats, wanted: Flags) -> tuple[Floats, Floats]:
    """Hits and answers of each class at each threshold, (thresholds, classes) each."""
    classes = wanted.shape[1]
    reached = np.searchsorted(_sigmoid(GRID), probabilities, side="right")
    places = (reached * classes + np.arange(classes)).ravel()
    size = (len(GRID) + 1) * classes
    both = (np.bincount(places, weight, size) for weight in (wanted.ravel(), None))
    # a probability that reaches a threshold reaches all lower ones
    hits, answers = (each.reshape(-1, classes)[::-1].cumsum(0)[::-1][1:] for each in both)
    return hits.astype(np.float64), answers.astype(np.float64)


def _best(curve: Floats) -> int:
    """Index of the maximum; the middle one of several."""
    places = np.flatnonzero(curve >= curve.max() - 1e-12)
    return int(places[len(places) // 2])


def _chosen(probabilities: Floats, classes: Sequence[str], decision: Mapping[str, Any]) -> Flags:
    """True for the predicted classes of each row, (rows, classes)."""
    cuts = decision.get("thresholds", {})
    chosen = probabilities >= np.array([cuts.get(name, 0.5) for name in classes])
    if decision.get("least", 0):
        empty = np.flatnonzero(~chosen.any(axis=1))
        chosen[empty, probabilities[empty].argmax(axis=1)] = True
    return np.asarray(chosen)


def _probabilities(logits: Sequence[Logits], pieces: Sequence[Piece], rows: int) -> Floats:
    """Probabilities averaged over windows, (rows, classes)."""
    return row_means(_sigmoid(np.stack(logits).astype(np.float64)), pieces, rows)


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


def _wanted(labels: Sequence[str], classes: Sequence[str]) -> Flags:
    """True for the classes of each label, (rows, classes)."""
    named = (set(json.loads(label)) for label in labels)
    flags = [[name in names for name in classes] for names in named]
    return np.array(flags, dtype=bool).reshape(len(labels), len(classes))


def _label(names: Sequence[str]) -> str:
    return json.dumps(sorted(set(names)), ensure_ascii=False, separators=(",", ":"))


def _listed(cell: str) -> list[str]:
    names = listed(cell)
    if names is None or not all(isinstance(name, str) for name in names):
        raise ValueError(
            'begins with [ and is no JSON list of names: write it like ["anger", "joy"]'
            " or with commas alone"
        )
    return [str(name) for name in names]


def _set_scores(truth: set[str], answer: set[str]) -> dict[str, float]:
    """Precision, recall and F1 of one row's set; 1 if both sets are empty."""
    if not truth and not answer:
        return dict.fromkeys(("precision", "recall", "f1"), 1.0)
    hits = len(truth & answer)
    return {
        "precision": hits / max(len(answer), 1),
        "recall": hits / max(len(truth), 1),
        "f1": 2 * hits / (len(truth) + len(answer)),
    }


def _confusions(truth: set[str], answer: set[str]) -> list[tuple[str, str]]:
    """Confused pairs (truth, answer). One missing and one surplus class are confused with each
    other; otherwise each is paired with ""."""
    hits = [(name, name) for name in sorted(truth & answer)]
    missed, invented = sorted(truth - answer), sorted(answer - truth)
    if len(missed) == len(invented) == 1:
        return [*hits, (missed[0], invented[0])]
    return [*hits, *((name, "") for name in missed), *(("", name) for name in invented)]


def _scores(answers: Sequence[Answer], classes: Sequence[str]) -> Floats:
    """Scores of the classes, (rows, classes)."""
    return ClassScores.stacked(answers, classes)


def _regression(train: Any, wanted: Flags, features: Sequence[Any], seed: int) -> list[Floats]:
    """Probabilities of one class for the rows of each matrix in `features`, (rows,) each."""
    from sklearn.linear_model import LogisticRegression

    if wanted.all() or not wanted.any():
        return [np.full(rows.shape[0], float(wanted.any())) for rows in features]
    # liblinear is by far the fastest for many sparse rows of two classes
    regression = LogisticRegression(solver="liblinear", dual=True, random_state=seed)
    regression.fit(train, wanted)
    return [regression.predict_proba(rows)[:, 1] for rows in features]
