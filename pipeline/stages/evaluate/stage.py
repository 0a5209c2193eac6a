"""Evaluation of the trained model and of simple baselines.

    python -m pipeline evaluate news

Writes scores.json, predictions.parquet (every validation and test row), the data of DVC's plots
(confusion.csv, roc.csv, calibration.csv), mistakes.csv, samples.csv (a random sample of answers),
map.csv (embeddings of test rows in two dimensions), behaviour.csv (every failed case of a behaviour
test) and pictures/.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, write_csv
from pipeline.core.log import Log, no_log
from pipeline.core.records import (
    Baseline,
    Fit,
    Interval,
    Scores,
    Slice,
    Split,
    SplitScores,
    Validation,
)
from pipeline.core.text import excerpt
from pipeline.metrics import names as words
from pipeline.metrics import scoring
from pipeline.metrics.calibration import calibration, calibration_error
from pipeline.models.heads import head_of
from pipeline.stages import artifacts
from pipeline.stages.evaluate import behaviour
from pipeline.stages.evaluate.params import EvaluateParams
from pipeline.tasks.base import Answer, Setting, Task
from pipeline.tasks.base.answering import Answering
from pipeline.tasks.base.encoding import Encoder
from pipeline.tasks.base.windows import row_means

if TYPE_CHECKING:
    import pandas as pd

SCORED: tuple[Split, ...] = ("validation", "test")
LARGEST_SLICES = 12  # of each column
ROC_POINTS = 50
FEWEST_MAPPED, MOST_MAPPED = 10, 1_500  # rows
SAMPLES = 20
MOST_READ = 50_000  # training documents for a baseline: a corpus may be larger than memory
MOST_CONFUSED = 80  # names in the data of the plot of confusions; the rest is one name
MOST_CURVES = 100  # ROC curves of classes; of more classes their mean and spread


def evaluate(
    params: EvaluateParams,
    task: Task,
    validate: Path,
    tokenize: Path,
    finetune: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Scores:
    """Score the PyTorch model on validation and test, with intervals, slices and baselines, and run
    the behaviour tests.

    Raises UserError for a suite that is broken or names unknown labels, and for slices by a column
    that is not carried.
    """
    from pipeline.runtimes.pytorch import TorchModel

    _check_slices(params.slices, validate / "kept.parquet")
    classes = Validation.read(validate / "validation.json").labels
    suites = [behaviour.read_suite(name) for name in params.behaviour]
    behaviour.check_labels(suites, classes)
    answering = Answering(
        task,
        artifacts.encoder(tokenize, task),
        TorchModel(finetune / "model", task),
        classes,
        Fit.read(finetune / "fit.json").decision,
    )
    frames = _answered(answering, validate, log)
    test = frames["test"]
    texts = dict(zip(test["id"], test["text"], strict=True))
    predict = _class_scores(answering, log)
    tested, failures = behaviour.run_suites(suites, texts, classes, predict, log=log)
    scorer = _Scoring(params, task, answering.encoder, classes)
    log.info("fitting the baselines")
    most_read = MOST_READ if task.dynamic_masking else None
    scores = Scores(
        task=task.name,
        labels=classes,
        validation=scorer.of_split(frames["validation"]),
        test=scorer.of_split(test),
        baselines=scorer.baselines(artifacts.kept_rows(validate, "train", most=most_read), frames),
        slices=scorer.slices(test, log),
        behaviour=tested,
    )
    _write_predictions(frames, out / "predictions.parquet")
    _write_plots(test, scores, params, task, out)
    _write_mistakes(scorer.wrong(test), task, params.worst_mistakes, out / "mistakes.csv")
    _write_samples(test, task, out / "samples.csv")
    points = _map(answering, test, params.seed) if head_of(task).embeds else []
    write_csv(out / "map.csv", ("id", "x", "y", "class", "right"), points)
    write_csv(out / "behaviour.csv", behaviour.Failure._fields, failures)
    _draw(scores, finetune, out)
    main = scores.test.scores[scores.main]
    log.info(f"test {scores.main} {main.value:.4f}")
    return scores.write(out / "scores.json")


def _check_slices(columns: list[str], kept: Path) -> None:
    """Raise UserError for a column that kept rows do not have."""
    import pyarrow.parquet as pq

    known = pq.read_schema(kept).names
    if unknown := [name for name in columns if name not in known]:
        raise UserError(f"evaluate.slices: {unknown[0]!r} is not carried: add it to ingest.carry")


def _answered(answering: Answering, validate: Path, log: Log) -> dict[Split, "pd.DataFrame"]:
    """Return the rows of each scored split with the model's answers."""
    import pandas as pd

    frames: dict[Split, pd.DataFrame] = {}
    for split in SCORED:
        frame = artifacts.kept_rows(validate, split)
        log.info(f"answering {len(frame):,} {split} rows")
        answers = answering(artifacts.texts_of(frame), batch_size=32, progress=log.progress)
        frame["answer"] = [answer.label for answer in answers]
        frame["confidence"] = [answer.confidence for answer in answers]
        frame["whole"] = pd.Series(answers, index=frame.index, dtype="object")
        frames[split] = frame
    return frames


def _class_scores(answering: Answering, log: Log) -> behaviour.Predict:
    """Return a function from texts to probabilities, (texts, classes)."""

    def scores(texts: list[str]) -> npt.NDArray[np.float64]:
        pairs = [(text, "") for text in texts]
        answers = answering(pairs, batch_size=32, progress=log.progress)
        return np.array([[a.scores[name] for name in answering.classes] for a in answers])

    return scores


class _Scoring:
    """Scoring of answers with the settings of a recipe."""

    def __init__(
        self, params: EvaluateParams, task: Task, encoder: Encoder, classes: list[str]
    ) -> None:
        self.params, self.task, self.encoder, self.classes = params, task, encoder, classes

    def tallies(self, frame: "pd.DataFrame", answers: list[str]) -> scoring.Tallies:
        """Tally answers in the classes that occur: a metric has no use for the others."""
        truths = frame["label"].tolist()
        found = {name for label in {*truths, *answers} for name in self.task.classes(label)}
        classes = [name for name in self.classes if name in found]
        return scoring.tallies(self.task, truths, answers, classes, frame["group"].tolist())

    def intervals(self, frame: "pd.DataFrame", tallied: scoring.Tallies) -> dict[str, Interval]:
        """Return the metrics with their intervals. Rows of one group, such as the questions of one
        article, are resampled together."""
        groups = None if self.task.by_group else artifacts.groups_of(frame)
        units = scoring.grouped(tallied, groups) if groups else tallied
        return scoring.intervals(self.task.measure, units, self.params.seed)

    def of_split(self, frame: "pd.DataFrame") -> SplitScores:
        answers: list[Answer] = frame["whole"].tolist()
        detail = self.task.detail(artifacts.labelled(frame), answers, self.classes)
        bins = _calibration(frame, self.params.calibration_bins) if self.task.exclusive else None
        confusions: dict[str, dict[str, int]] = {}
        for truth, answer in detail.confusions:
            row = confusions.setdefault(truth, {})
            row[answer] = row.get(answer, 0) + 1
        return SplitScores(
            rows=len(frame),
            scores=self.intervals(frame, self.tallies(frame, frame["answer"].tolist())),
            per_class=detail.per_class,
            averages=detail.averages,
            more=detail.more,
            calibration_error=calibration_error(bins) if bins else None,
            confusions={truth: confusions[truth] for truth in sorted(confusions)},
            signatures=dict(detail.signatures),
        )

    def baselines(
        self, train: "pd.DataFrame", frames: dict[Split, "pd.DataFrame"]
    ) -> list[Baseline]:
        test = frames["test"]
        answers_of = self.task.baselines(
            Setting(
                artifacts.labelled(train),
                artifacts.labelled(frames["validation"]),
                artifacts.labelled(test),
                self.classes,
                self.params.baseline,
                self.params.seed,
                self.encoder,
            )
        )
        own = scoring.per_unit_score(self.task, self.tallies(test, test["answer"].tolist()))
        return [self._baseline(name, test, answers, own) for name, answers in answers_of.items()]

    def _baseline(
        self,
        name: str,
        test: "pd.DataFrame",
        answers: list[str],
        own: npt.NDArray[np.float64],
    ) -> Baseline:
        tallied = self.tallies(test, answers)
        difference = own - scoring.per_unit_score(self.task, tallied)
        better, worse = scoring.signs(difference)
        groups = None if self.task.by_group else artifacts.groups_of(test)
        return Baseline(
            name=name,
            scores=self.intervals(test, tallied),
            only_model_right=better,
            only_baseline_right=worse,
            p_model_worse=scoring.worse_p(difference, groups),
        )

    def wrong(self, test: "pd.DataFrame") -> "pd.DataFrame":
        """Return the rows with wrong answers."""
        answers = test["answer"].tolist()
        if self.task.exact:
            return test[scoring.per_unit_score(self.task, self.tallies(test, answers)) < 1]
        return test[~self.task.same(test["label"].tolist(), answers)]

    def slices(self, test: "pd.DataFrame", log: Log) -> list[Slice]:
        characters = test["text"].str.len() + test["second"].str.len()
        parts = scoring.by_length(characters.to_numpy())
        for column in self.params.slices:
            frequent = test[column].value_counts().index
            if len(frequent) > LARGEST_SLICES:
                log.info(
                    f"evaluate.slices: {column} has {len(frequent):,} values in test rows: the"
                    f" {LARGEST_SLICES} most frequent are scored"
                )
            for value in frequent[:LARGEST_SLICES]:
                parts[f"{column}: {value}"] = (test[column] == value).to_numpy()
        slices = []
        for name, mask in parts.items():
            part = test[mask]
            scores = self.intervals(part, self.tallies(part, part["answer"].tolist()))
            slices.append(Slice(name=name, rows=len(part), score=scores[self.task.metrics[0]]))
        return slices


def _calibration(frame: "pd.DataFrame", bins: int) -> list[tuple[float, float, int]]:
    right = (frame["label"] == frame["answer"]).to_numpy()
    return calibration(frame["confidence"].to_numpy(dtype=np.float64), right, bins)


def _write_predictions(frames: dict[Split, "pd.DataFrame"], path: Path) -> None:
    import pandas as pd

    frame = pd.concat(frames.values(), ignore_index=True).rename(columns={"label": "truth"})
    scores = [np.fromiter(answer.scores.values(), np.float64) for answer in frame["whole"]]
    frame["scores"] = pd.Series(scores, index=frame.index, dtype="object")
    columns = ["id", "split", "truth", "answer", "confidence", "scores"]
    with atomic_write(path) as temporary:
        frame[columns].to_parquet(temporary, index=False)


def _write_plots(
    test: "pd.DataFrame", scores: Scores, params: EvaluateParams, task: Task, out: Path
) -> None:
    """Write the data of DVC's plots; a plot that the task does not have is an empty table."""
    names, counts = words.confusion(scores.test.confusions, most=MOST_CONFUSED)
    pairs = (
        (words.confused(truth), words.confused(answer))
        for truth, row in zip(names, counts, strict=True)
        for answer, count in zip(names, row, strict=True)
        for _ in range(count)
    )
    write_csv(out / "confusion.csv", ("actual", "predicted"), pairs)
    bins = _calibration(test, params.calibration_bins) if task.exclusive else []
    write_csv(out / "calibration.csv", ("confidence", "accuracy", "rows"), bins)
    write_csv(out / "roc.csv", ("class", "fpr", "tpr"), _roc(test, scores.labels, task))


def _roc(
    test: "pd.DataFrame", classes: list[str], task: Task
) -> Iterator[tuple[str, float, float]]:
    """Yield the points of each class's ROC curve against the rest; of many classes those of their
    mean, and of the tenths of them with the lowest and highest curves at each point."""
    from sklearn.metrics import roc_curve

    answers: list[Answer] = test["whole"].tolist()
    grid = np.linspace(0, 1, ROC_POINTS)
    truths = [set(task.classes(label)) for label in test["label"]]
    curves: dict[str, npt.NDArray[np.float64]] = {}
    for name in classes if answers[0].scores else ():
        hits = np.array([name in truth for truth in truths])
        if hits.any() and not hits.all():
            false, true, _ = roc_curve(hits, [answer.scores[name] for answer in answers])
            curves[name] = np.interp(grid, false, true)
    if len(curves) > MOST_CURVES:
        every = np.stack(list(curves.values()))  # (classes, points)
        low, high = np.quantile(every, (0.1, 0.9), axis=0)
        mean = f"mean of {len(every):,} classes"
        curves = {mean: every.mean(0), "lowest tenth": low, "highest tenth": high}
    for name, curve in curves.items():
        for f, t in zip(grid, curve, strict=True):
            yield name, round(float(f), 4), round(float(t), 4)


def _write_mistakes(wrong: "pd.DataFrame", task: Task, most: int, path: Path) -> None:
    """Write the worst mistakes, with a column of confidence if they are ordered by it."""
    pairs = zip(wrong["label"], wrong["whole"], strict=True)
    far = [task.error_severity(label, answer) for label, answer in pairs]
    worst = wrong.assign(far=far).sort_values(["far", "id"], ascending=[False, True]).head(most)
    rows = [
        {
            "id": row["id"],
            "truth": excerpt(task.shown(row["label"], row["text"], row["second"]), 200),
            "answer": excerpt(task.shown(row["answer"], row["text"], row["second"]), 200),
            "confidence": f"{row['confidence']:.4f}",
            "file": row["file"],
            "line": row["line"],
            "excerpt": excerpt(" | ".join(filter(None, (row["text"], row["second"]))), 200),
        }
        for row in worst.to_dict("records")
    ]
    header = ["id", "truth", "answer", "confidence", "file", "line", "excerpt"]
    if type(task).error_severity is not Task.error_severity:
        header.remove("confidence")
    write_csv(path, header, ([row[name] for name in header] for row in rows))


def _write_samples(test: "pd.DataFrame", task: Task, path: Path) -> None:
    """Write a random sample of answers: ids are hashes, so the first ones are random but fixed."""
    rows = [
        [
            row["id"],
            excerpt(" | ".join(filter(None, (row["text"], row["second"]))), 200),
            *(
                excerpt(task.shown(row[name], row["text"], row["second"]), 200)
                for name in ("label", "answer")
            ),
        ]
        for row in test.sort_values("id").head(SAMPLES).to_dict("records")
    ]
    write_csv(path, ("id", "text", "truth", "answer"), rows)


def _map(
    answering: Answering, test: "pd.DataFrame", seed: int
) -> Iterator[tuple[str, float, float, str, bool]]:
    """Yield the id of test rows, the two coordinates of their embeddings (t-SNE, van der Maaten and
    Hinton 2008), the class, and True if the answer is right."""
    from sklearn.manifold import TSNE

    rows = test.sort_values("id").head(MOST_MAPPED)
    if len(rows) < FEWEST_MAPPED:
        return
    texts = artifacts.texts_of(rows)
    pieces = answering.encoder.pieces(texts)
    vectors = row_means(np.stack(answering.runtime.logits(pieces, 32)), pieces, len(texts))
    plane = TSNE(
        perplexity=min(30, (len(rows) - 1) / 3), metric="cosine", init="pca", random_state=seed
    )
    places = plane.fit_transform(vectors.astype(np.float32))
    right = answering.task.same(rows["label"].tolist(), rows["answer"].tolist())
    for name, (x, y), label, hit in zip(rows["id"], places, rows["label"], right, strict=True):
        yield name, round(float(x), 2), round(float(y), 2), label, bool(hit)


def _draw(scores: Scores, finetune: Path, out: Path) -> None:
    from pipeline.stages.evaluate import figures

    with atomic_write(out / "pictures") as temporary:
        temporary.mkdir()
        if scores.test.confusions:
            figures.confusion(scores.test.confusions, temporary / "confusion.png")
        if scores.test.calibration_error is not None:
            figures.calibration(out / "calibration.csv", temporary / "calibration.png")
        if "roc_auc" in scores.test.more:
            figures.roc(out / "roc.csv", temporary / "roc.png")
        figures.curves(
            finetune / "training.csv", finetune / "validation.csv", temporary / "curves.png"
        )
