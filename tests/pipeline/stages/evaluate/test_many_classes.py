"""Thousands of classes make no picture, table or array that grows with their square."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.core.log import no_log
from pipeline.core.records import Scores
from pipeline.metrics import names as words
from pipeline.plots import png
from pipeline.stages.evaluate import figures, stage
from pipeline.stages.evaluate.params import EvaluateParams
from pipeline.tasks.base import ClassScores
from pipeline.tasks.classification import Classification
from tests.conftest import ROOT

CLASSES, ROWS = 2_000, 6_000
MOST_BYTES = 2_500_000_000  # of the whole process; before, the picture alone took 23 GB
LARGEST_SIDE = 5_000  # pixels


def answered(classes: list[str], rows: int) -> pd.DataFrame:
    """Test rows of random classes, with the answers of a model that is often right."""
    random = np.random.default_rng(0)
    truths = np.concatenate([np.arange(len(classes)), random.integers(0, len(classes), rows)])
    truths = truths[:rows]
    logits = random.normal(size=(rows, len(classes))).astype(np.float32)
    logits[np.arange(rows), truths] += 3
    pieces = [SimpleNamespace(row=i) for i in range(rows)]
    answers = Classification().answers(list(logits), pieces, [("", "")] * rows, classes, {})  # type: ignore[arg-type]
    frame = pd.DataFrame(
        {
            "id": [f"{i:020x}" for i in range(rows)],
            "split": "test",
            "text": [f"text {i} {'x' * (i % 50)}" for i in range(rows)],
            "second": "",
            "label": [classes[i] for i in truths],
            "group": "",
            "file": "a.csv",
            "line": range(rows),
            "answer": [answer.label for answer in answers],
            "confidence": [answer.confidence for answer in answers],
        }
    )
    return frame.assign(whole=pd.Series(answers, dtype="object"))


def evaluated(out: Path, classes: list[str], rows: int) -> Scores:
    """Scores and files of evaluate for those rows, without a model."""
    params = EvaluateParams.model_construct(
        calibration_bins=10, seed=0, baseline="words", slices=[], behaviour=[], worst_mistakes=100
    )
    task, test = Classification(), answered(classes, rows)
    scorer = stage._Scoring(params, task, None, classes)  # type: ignore[arg-type]
    split = scorer.of_split(test)
    scores = Scores(
        task=task.name,
        labels=classes,
        validation=split,
        test=split,
        baselines=[],
        slices=scorer.slices(test, no_log),
    )
    stage._write_predictions({"test": test}, out / "predictions.parquet")
    stage._write_plots(test, scores, params, task, out)
    stage._write_mistakes(scorer.wrong(test), task, 100, out / "mistakes.csv")
    figures.confusion(scores.test.confusions, out / "confusion.png")
    figures.roc(out / "roc.csv", out / "roc.png")
    return scores.write(out / "scores.json")


def sides(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    head = picture.read_bytes()[16:24]
    return int.from_bytes(head[:4]), int.from_bytes(head[4:])


def test_two_thousand_classes_fit_into_memory(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.metrics import scoring\n"
        "from tests.pipeline.stages.evaluate import test_many_classes as own\n"
        "scoring.RESAMPLES = 200\n"  # they take time, not memory
        "classes = [f'code {i:04d}' for i in range(own.CLASSES)]\n"
        "own.evaluated(Path(sys.argv[1]), classes, own.ROWS)\n"
        # not getrusage, whose maximum is that of the parent too
        "status = Path('/proc/self/status').read_text().split()\n"
        "print(1024 * int(status[status.index('VmHWM:') + 1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < MOST_BYTES
    for name in ("confusion.png", "roc.png"):
        assert max(sides(tmp_path / name)) <= LARGEST_SIDE
        assert (tmp_path / name).stat().st_size < 2_000_000
    plotted = pd.read_csv(tmp_path / "confusion.csv")
    assert len(plotted) == ROWS
    assert plotted["actual"].nunique() <= stage.MOST_CONFUSED
    assert "1,921 others" in set(plotted["actual"])
    assert pd.read_csv(tmp_path / "roc.csv")["class"].unique().tolist() == [
        f"mean of {CLASSES:,} classes",
        "lowest tenth",
        "highest tenth",
    ]
    scores = Scores.read(tmp_path / "scores.json")
    assert len(scores.test.per_class) == CLASSES  # nothing is lost in the record


def test_the_most_confused_names_are_kept_and_the_rest_is_counted() -> None:
    found = {"a": {"a": 9}, "b": {"b": 5, "c": 4}, "c": {"c": 1, "d": 1}, "d": {"d": 7, "": 1}}
    names, counts = words.confusion(found, ["a", "b", "c", "d"], most=3)
    assert names == ["b", "c", "3 others"]
    assert counts == [[5, 4, 0], [0, 1, 1], [0, 0, 17]]
    assert sum(map(sum, counts)) == sum(sum(row.values()) for row in found.values())
    assert words.confusion(found, most=5) == words.confusion(found)


def test_the_classes_with_the_most_mistakes_are_listed_in_their_order() -> None:
    each = {"a": (0.9, 10), "b": (0.5, 4), "c": (0.1, 1), "d": (0.8, 100)}
    per_class = {name: {"f1": f1, "rows": float(rows)} for name, (f1, rows) in each.items()}
    assert words.most_mistaken(per_class, 2) == ["b", "d"]
    assert words.most_mistaken(per_class, 4) == ["a", "b", "c", "d"]


def test_no_picture_is_larger_than_the_largest(tmp_path: Path) -> None:
    figure, _ = png.new(902, 901)
    png.save(figure, tmp_path / "a.png")
    assert max(sides(tmp_path / "a.png")) == 120 * png.LARGEST <= LARGEST_SIDE


def test_classes_that_do_not_occur_change_no_score(tmp_path: Path) -> None:
    classes = ["a", "b", "c"]
    test = answered(classes, 200)
    found = []
    for named in (classes, ["0", *classes, "z"]):
        params = EvaluateParams.model_construct(seed=0)
        scorer = stage._Scoring(params, Classification(), None, named)  # type: ignore[arg-type]
        tallied = scorer.tallies(test, test["answer"].tolist())
        found.append(scorer.intervals(test, tallied))
    assert found[0] == found[1]


def test_scores_of_classes_are_those_of_a_dictionary() -> None:
    rows = np.array([[0.25, 0.75], [1.0, 0.0]])
    first, second = ClassScores.of_rows(["a", "b"], rows)
    assert first == {"a": 0.25, "b": 0.75}
    assert dict(second) == {"a": 1.0, "b": 0.0}
    assert (list(first), len(first), "c" in first) == (["a", "b"], 2, False)
    with pytest.raises(KeyError):
        first["c"]
