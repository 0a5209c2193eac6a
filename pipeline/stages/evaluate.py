"""How good the trained model is, beside what little effort gives.

    python -m pipeline evaluate news

Writes scores.json, predictions.parquet (every validation and test row), the plots that DVC
draws (confusion.csv, roc.csv, calibration.csv), mistakes.csv, behaviour.csv (every case of a
behaviour test that failed) and pictures/.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline import behaviour, scoring
from pipeline.config import Settings
from pipeline.files import whole, write_csv
from pipeline.log import Log, no_log
from pipeline.records import Baseline, Lengths, Scores, Slice, Split, SplitScores, Validation
from pipeline.scoring import Floats, Labels
from pipeline.stages import CHARACTERS_PER_TOKEN
from pipeline.text import excerpt

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.adapters.pytorch import TorchClassifier

SCORED: tuple[Split, ...] = ("validation", "test")
LARGEST_SLICES = 12  # of each named column
ROC_POINTS = 50


class EvaluateParams(Settings):
    slices: list[str]
    """Carried columns by whose values the test score is split."""
    baseline: Literal["words", "characters"]
    """n-grams of the TF-IDF baseline: characters for text without spaces."""
    calibration_bins: int = Field(ge=2)
    worst_mistakes: int = Field(ge=0)
    behaviour: list[str]
    """Suites of behaviour tests: ready ones by name, your own by path."""
    seed: int = Field(ge=0)
    """Of the bootstrap."""

    @model_validator(mode="after")
    def _suites_differ(self) -> Self:
        names = [Path(name).stem for name in self.behaviour]
        if len(set(names)) < len(names):
            raise ValueError("behaviour holds two suites of the same name")
        return self


def evaluate(
    params: EvaluateParams,
    validate: Path,
    tokenize: Path,
    finetune: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Scores:
    """Score the PyTorch model on validation and test, with intervals, slices and baselines, and
    put the behaviour tests to it.

    Raises UserError for a suite that is broken or asks for labels that there are not.
    """
    import pandas as pd

    from pipeline.adapters import pictures
    from pipeline.adapters.pytorch import TorchClassifier
    from pipeline.adapters.tokens import read_tokens

    labels = Validation.read(validate / "validation.json").labels
    suites = [behaviour.read_suite(name) for name in params.behaviour]
    behaviour.check_labels(suites, labels)
    kept = pd.read_parquet(validate / "kept.parquet").set_index("id", drop=False).rename_axis(None)
    model = TorchClassifier(finetune / "model")
    frames: dict[Split, pd.DataFrame] = {}
    for split in SCORED:
        rows = read_tokens(tokenize, split)
        log.say(f"answering {len(rows.ids):,} {split} rows")
        probabilities = scoring.softmax(model.logits(rows.tokens))
        frame = kept.loc[rows.ids].copy()
        frame["truth"], frame["answer"] = rows.labels, probabilities.argmax(1)
        frame["confidence"] = probabilities.max(1).astype(float)
        frame["probabilities"] = list(probabilities)
        frames[split] = frame
    longest = Lengths.read(tokenize / "lengths.json").maximum
    tested, failures = behaviour.put(
        suites,
        dict(zip(frames["test"]["id"], frames["test"]["text"], strict=True)),
        labels,
        _answers(model, finetune / "model", longest),
        log=log,
    )
    scores = Scores(
        labels=labels,
        validation=_split_scores(frames["validation"], labels, params),
        test=_split_scores(frames["test"], labels, params),
        baselines=_baselines(kept, frames["test"], labels, params, log),
        slices=_slices(frames["test"], len(labels), params),
        behaviour=tested,
    )
    _write_predictions(frames, labels, out / "predictions.parquet")
    _write_plots(frames["test"], labels, params, out)
    _write_mistakes(frames["test"], labels, params.worst_mistakes, out / "mistakes.csv")
    write_csv(out / "behaviour.csv", behaviour.Failure._fields, failures)
    with whole(out / "pictures") as temporary:
        temporary.mkdir()
        pictures.confusion(scores.test.confusion, labels, temporary / "confusion.png")
        pictures.calibration(out / "calibration.csv", temporary / "calibration.png")
        pictures.roc(out / "roc.csv", temporary / "roc.png")
        pictures.curves(
            finetune / "training.csv", finetune / "validation.csv", temporary / "curves.png"
        )
    log.say(f"test accuracy {scores.test.accuracy.value:.4f}")
    return scores.write(out / "scores.json")


def _answers(model: "TorchClassifier", folder: Path, longest: int) -> behaviour.Answers:
    """Probabilities of raw texts, tokenized as the rows are."""

    def answers(texts: list[str]) -> npt.NDArray[np.float32]:
        from pipeline.adapters.transformers import load_tokenizer

        capped = [text[: longest * CHARACTERS_PER_TOKEN] for text in texts]
        tokenizer = load_tokenizer(folder, str(folder))
        tokens = tokenizer(capped, truncation=True, max_length=longest)["input_ids"]
        return scoring.softmax(model.logits(tokens))

    return answers


def _split_scores(frame: "pd.DataFrame", labels: list[str], params: EvaluateParams) -> SplitScores:
    from sklearn.metrics import precision_recall_fscore_support

    truth, answer = frame["truth"].to_numpy(), frame["answer"].to_numpy()
    confusion = scoring.confusion_matrix(truth, answer, len(labels))
    names = ("precision", "recall", "f1")
    averages = {}
    for average in ("micro", "macro", "weighted"):
        values = precision_recall_fscore_support(truth, answer, average=average, zero_division=0)
        averages[average] = {name: float(v) for name, v in zip(names, values[:3], strict=True)}
    each = precision_recall_fscore_support(
        truth, answer, labels=range(len(labels)), zero_division=0
    )
    probabilities = np.stack(frame["probabilities"].to_list()).astype(np.float64)
    return SplitScores(
        rows=len(frame),
        accuracy=scoring.with_interval("accuracy", confusion, params.seed),
        macro_f1=scoring.with_interval("macro_f1", confusion, params.seed),
        **averages,
        per_class={
            label: {
                **{name: float(each[k][i]) for k, name in enumerate(names)},
                "rows": float(each[3][i]),
            }
            for i, label in enumerate(labels)
        },
        roc_auc=_area("roc", truth, probabilities),
        pr_auc=_area("pr", truth, probabilities),
        calibration_error=scoring.calibration_error(_calibration(frame, params.calibration_bins)),
        confusion=confusion.tolist(),
    )


def _area(curve: str, truth: Labels, probabilities: Floats) -> float | None:
    """Area under the ROC or precision-recall curve, each class against the rest, macro."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    area = roc_auc_score if curve == "roc" else average_precision_score
    classes = probabilities.shape[1]
    hits = truth[:, None] == np.arange(classes)  # (rows, classes)
    if not hits.any(0).all() or hits.all(0).any():
        return None
    return float(np.mean([area(hits[:, c], probabilities[:, c]) for c in range(classes)]))


def _calibration(frame: "pd.DataFrame", bins: int) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, rows) of each bin of equal width that holds a row."""
    place = np.minimum((frame["confidence"] * bins).astype(int), bins - 1)
    right = frame["truth"] == frame["answer"]
    return [
        (float(frame["confidence"][place == b].mean()), float(right[place == b].mean()), int(n))
        for b, n in enumerate(np.bincount(place, minlength=bins))
        if n
    ]


def _baselines(
    kept: "pd.DataFrame",
    test: "pd.DataFrame",
    labels: list[str],
    params: EvaluateParams,
    log: Log,
) -> list[Baseline]:
    """The most frequent training class, and logistic regression on TF-IDF n-grams."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    log.say("fitting the baselines")
    train = kept[kept["split"] == "train"]
    number = {label: i for i, label in enumerate(labels)}
    target = train["label"].map(number).to_numpy()
    if params.baseline == "words":
        grams = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
    else:
        grams = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 3), analyzer="char")
    regression = make_pipeline(grams, LogisticRegression(C=10, max_iter=1000))
    regression.fit(train["text"], target)
    majority = np.full(len(test), np.bincount(target, minlength=len(labels)).argmax())
    answers = {
        "majority class": majority,
        f"TF-IDF {params.baseline} + logistic regression": regression.predict(test["text"]),
    }
    return [_baseline(name, answer, test, labels, params) for name, answer in answers.items()]


def _baseline(
    name: str, answer: Labels, test: "pd.DataFrame", labels: list[str], params: EvaluateParams
) -> Baseline:
    truth = test["truth"].to_numpy()
    confusion = scoring.confusion_matrix(truth, answer, len(labels))
    model_right, baseline_right = test["answer"].to_numpy() == truth, answer == truth
    wins = int((model_right & ~baseline_right).sum())
    losses = int((baseline_right & ~model_right).sum())
    return Baseline(
        name=name,
        accuracy=scoring.with_interval("accuracy", confusion, params.seed),
        macro_f1=scoring.with_interval("macro_f1", confusion, params.seed),
        only_model_right=wins,
        only_baseline_right=losses,
        p_model_worse=scoring.mcnemar_p(losses, wins),
    )


def _slices(test: "pd.DataFrame", classes: int, params: EvaluateParams) -> list[Slice]:
    import pandas as pd

    quarters = pd.qcut(test["text"].str.len(), 4, duplicates="drop").astype(str)
    named = {"characters": quarters} | {column: test[column] for column in params.slices}
    slices = []
    for column, values in named.items():
        for value in values.value_counts().index[:LARGEST_SLICES]:
            part = test[values == value]
            confusion = scoring.confusion_matrix(
                part["truth"].to_numpy(), part["answer"].to_numpy(), classes
            )
            slices.append(
                Slice(
                    name=f"{column}: {value}",
                    rows=len(part),
                    accuracy=scoring.with_interval("accuracy", confusion, params.seed),
                )
            )
    return slices


def _write_predictions(frames: dict[Split, "pd.DataFrame"], labels: list[str], path: Path) -> None:
    import pandas as pd

    frame = pd.concat(frames.values(), ignore_index=True)
    frame["truth"] = frame["label"]
    frame["answer"] = frame["answer"].map(dict(enumerate(labels)))
    columns = ["id", "split", "truth", "answer", "confidence", "probabilities"]
    with whole(path) as temporary:
        frame[columns].to_parquet(temporary, index=False)


def _write_plots(
    test: "pd.DataFrame", labels: list[str], params: EvaluateParams, out: Path
) -> None:
    from sklearn.metrics import roc_curve

    answered = test["answer"].map(dict(enumerate(labels)))
    write_csv(
        out / "confusion.csv", ("actual", "predicted"), zip(test["label"], answered, strict=True)
    )
    write_csv(
        out / "calibration.csv",
        ("confidence", "accuracy", "rows"),
        _calibration(test, params.calibration_bins),
    )
    probabilities = np.stack(test["probabilities"].to_list())
    grid = np.linspace(0, 1, ROC_POINTS)
    points = []
    for i, label in enumerate(labels):
        hits = (test["truth"] == i).to_numpy()
        if hits.any() and not hits.all():
            false, true, _ = roc_curve(hits, probabilities[:, i])
            points += [
                (label, round(f, 4), round(t, 4))
                for f, t in zip(grid, np.interp(grid, false, true), strict=True)
            ]
    write_csv(out / "roc.csv", ("class", "fpr", "tpr"), points)


def _write_mistakes(test: "pd.DataFrame", labels: list[str], most: int, path: Path) -> None:
    wrong = test[test["truth"] != test["answer"]]
    worst = wrong.sort_values(["confidence", "id"], ascending=[False, True]).head(most)
    rows = [
        (
            row["id"],
            row["label"],
            labels[row["answer"]],
            f"{row['confidence']:.4f}",
            row["file"],
            row["line"],
            excerpt(row["text"], 200),
        )
        for row in worst.to_dict("records")
    ]
    header = ("id", "truth", "answer", "confidence", "file", "line", "excerpt")
    write_csv(path, header, rows)
