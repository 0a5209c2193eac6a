"""Any number of classes for a text, none among them: emotions, topics, tags.

A label is the JSON list of its class names, each once and sorted: ["anger","joy"], or [] for none.

What the model answers is decided by a threshold for each class, tuned on validation rows for macro
F1: where classes are rare, 0.5 misses most of them. A class's best threshold lies at half of the
F1 that it reaches (Lipton et al. 2014), so it differs from class to class, and of a rare class it
is known badly (Fan and Lin 2007). So each class's own threshold is a mean over parts of the rows,
and is drawn towards one that is best for all classes together, the more so the rarer the class.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..base import (
    Answer,
    Decision,
    Detail,
    Floats,
    Labelled,
    Logits,
    Setting,
    Target,
    Task,
    class_name,
    counts,
)
from ..base.encoding import Piece, Texts
from ..base.roc_auc import areas
from ..base.tfidf import GRAMS, tfidf
from ..base.windows import row_means

if TYPE_CHECKING:
    import torch

Flags = npt.NDArray[np.bool_]
GRID = np.linspace(-7, 7, 141)  # thresholds that are tried, as logits: 0.0009 to 0.9991
PARTS = 5  # of the validation rows; a class's own threshold is the mean of those without each
PULL = 5  # positive rows that the shared threshold counts as, beside a class's own


class Multilabel(Task):
    head = "sequence"
    metrics = ("macro_f1", "micro_f1", "sample_f1", "accuracy")
    exact = "accuracy"

    def label(self, cell: str, text: str, second: str) -> str:
        """From a JSON list of names, or from names with commas between them."""
        cell = cell.strip()
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

    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        mask: "torch.Tensor",
        weights: "torch.Tensor | None" = None,
        smoothing: float = 0.0,
    ) -> "torch.Tensor":
        """Binary cross-entropy of every class of every piece: each of them counts."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")

    def decide(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        rows: Labelled,
        classes: Sequence[str],
    ) -> Decision:
        """`thresholds` of classes, and the `least` number of classes that a row has."""
        return tune(_probabilities(logits, pieces, len(rows.texts)), rows.labels, classes)

    def answers(
        self,
        logits: Sequence[Logits],
        pieces: Sequence[Piece],
        texts: Sequence[Texts],
        classes: Sequence[str],
        decision: Mapping[str, Any],
    ) -> list[Answer]:
        """The classes whose probability reaches their threshold; of windows, the mean of their
        probabilities. Confidence is the chance that the whole set is right if the classes are
        independent: the product of what each class's being in it, or out of it, has."""
        if not texts:
            return []
        probabilities = _probabilities(logits, pieces, len(texts))
        chosen = _chosen(probabilities, classes, decision)
        found = []
        for row, flags in zip(probabilities, chosen, strict=True):
            names = [name for name, flag in zip(classes, flags, strict=True) if flag]
            label = _label(names)
            found.append(
                Answer(
                    label=label,
                    confidence=float(np.where(flags, row, 1 - row).prod()),
                    scores=dict(zip(classes, row.tolist(), strict=True)),
                    details={"labels": self.classes(label)},
                )
            )
        return found

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        """As `counts` has it, and last the F1 of the row's own set."""
        truth, answer = (set(self.classes(each[0])) for each in (truths, answers))
        hits = truth & answer
        counted = counts.tally(hits, answer, truth, truth == answer, classes)
        return np.append(counted, _set_scores(truth, answer)["f1"])

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        """`sample_f1` is the mean F1 of each row's set of classes, 1 where a row has none and is
        given none; `accuracy` the share of rows whose set is wholly right."""
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
        class, answering by thresholds that are tuned as the model's are."""
        texts = [text for text, _ in on.train.texts]
        terms = tfidf(texts, **GRAMS[on.kind])
        known = terms.transform(texts)
        asked = [
            terms.transform(text for text, _ in rows.texts) for rows in (on.validation, on.test)
        ]
        wanted = _wanted(on.train.labels, on.classes)
        columns = [_regression(known, wanted[:, i], asked, on.seed) for i in range(len(on.classes))]
        tuned, told = (np.column_stack(part) for part in zip(*columns, strict=True))
        chosen = _chosen(told, on.classes, tune(tuned, on.validation.labels, on.classes))
        tally = Counter(on.train.labels)
        return {
            "most frequent label": [max(sorted(tally), key=tally.__getitem__)] * len(on.test.texts),
            f"TF-IDF {on.kind} + logistic regressions": [
                _label([name for name, flag in zip(on.classes, flags, strict=True) if flag])
                for flags in chosen
            ],
        }


def tune(probabilities: Floats, labels: Sequence[str], classes: Sequence[str]) -> Decision:
    """What to answer by, from the probabilities (rows, classes) of rows whose labels are known.

    Where every row has a class, no row is answered without one.
    """
    wanted = _wanted(labels, classes)
    cuts = thresholds(probabilities, wanted)
    return {
        "thresholds": {name: round(float(t), 6) for name, t in zip(classes, cuts, strict=True)},
        "least": int(wanted.any(axis=1).all()) if len(wanted) else 0,
    }


def thresholds(probabilities: Floats, wanted: Flags) -> Floats:
    """A threshold for each class, (rows, classes) twice -> (classes,): probabilities."""
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
    # whoever reaches a threshold reaches all lower ones
    hits, answers = (each.reshape(-1, classes)[::-1].cumsum(0)[::-1][1:] for each in both)
    return hits.astype(np.float64), answers.astype(np.float64)


def _best(curve: Floats) -> int:
    """Where it is highest; the middle place, where it is so at several."""
    places = np.flatnonzero(curve >= curve.max() - 1e-12)
    return int(places[len(places) // 2])


def _chosen(probabilities: Floats, classes: Sequence[str], decision: Mapping[str, Any]) -> Flags:
    """Which classes each row is answered with, (rows, classes)."""
    cuts = decision.get("thresholds", {})
    chosen = probabilities >= np.array([cuts.get(name, 0.5) for name in classes])
    if decision.get("least", 0):
        empty = np.flatnonzero(~chosen.any(axis=1))
        chosen[empty, probabilities[empty].argmax(axis=1)] = True
    return np.asarray(chosen)


def _probabilities(logits: Sequence[Logits], pieces: Sequence[Piece], rows: int) -> Floats:
    """(rows, classes)"""
    return row_means(_sigmoid(np.stack(logits).astype(np.float64)), pieces, rows)


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


def _wanted(labels: Sequence[str], classes: Sequence[str]) -> Flags:
    """Which of the classes each label names, (rows, classes)."""
    named = (set(json.loads(label)) for label in labels)
    flags = [[name in names for name in classes] for names in named]
    return np.array(flags, dtype=bool).reshape(len(labels), len(classes))


def _label(names: Sequence[str]) -> str:
    return json.dumps(sorted(set(names)), ensure_ascii=False, separators=(",", ":"))


def _listed(cell: str) -> list[str]:
    try:
        names = json.loads(cell)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            'begins with [ and is no JSON list of names: write it like ["anger", "joy"]'
            " or with commas alone"
        )
    return names


def _set_scores(truth: set[str], answer: set[str]) -> dict[str, float]:
    """precision, recall and F1 of one row's set; 1 where both sets are empty."""
    if not truth and not answer:
        return dict.fromkeys(("precision", "recall", "f1"), 1.0)
    hits = len(truth & answer)
    return {
        "precision": hits / max(len(answer), 1),
        "recall": hits / max(len(truth), 1),
        "f1": 2 * hits / (len(truth) + len(answer)),
    }


def _confusions(truth: set[str], answer: set[str]) -> list[tuple[str, str]]:
    """A class that is missing was taken for the one that came instead, where each is one alone."""
    hits = [(name, name) for name in sorted(truth & answer)]
    missed, invented = sorted(truth - answer), sorted(answer - truth)
    if len(missed) == len(invented) == 1:
        return [*hits, (missed[0], invented[0])]
    return [*hits, *((name, "") for name in missed), *(("", name) for name in invented)]


def _scores(answers: Sequence[Answer], classes: Sequence[str]) -> Floats:
    """(rows, classes)"""
    return np.array([[answer.scores[name] for name in classes] for answer in answers])


def _regression(known: Any, wanted: Flags, asked: Sequence[Any], seed: int) -> list[Floats]:
    """Probabilities of one class for each of the matrices that are asked, (rows,) each."""
    from sklearn.linear_model import LogisticRegression

    if wanted.all() or not wanted.any():
        return [np.full(rows.shape[0], float(wanted.any())) for rows in asked]
    # by far the fastest for many sparse rows of two classes
    regression = LogisticRegression(solver="liblinear", dual=True, random_state=seed)
    regression.fit(known, wanted)
    return [regression.predict_proba(rows)[:, 1] for rows in asked]
