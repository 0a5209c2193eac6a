"""The report of a run: one self-contained HTML file.

    bertline report news

All its content comes from the records in the recipe's folder, so it can be written again at any
time. The classes in pipeline/core/records.py document the records; page.html.j2 has the texts of
the page, in the order of the stages.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core.files import sha256_of, size_of, write_text
from pipeline.core.records import (
    Benchmark,
    Export,
    Fit,
    Intake,
    Interval,
    Lengths,
    Publication,
    Record,
    Scores,
    Validation,
)
from pipeline.core.text import excerpt
from pipeline.metrics import names as words
from pipeline.promotion.summary import paragraph
from pipeline.registry.records import Verdict
from pipeline.sources import LARGEST_ROW

TEMPLATE = Path(__file__).with_name("page.html.j2")
REPORT = "report"  # folder of the page in the recipe's folder
MOST_FLAGGED = 3  # rows shown of each rule
MOST_MISTAKES = 25
MOST_CONFUSIONS = 10
MOST_SLICES = 24  # drawn; the table has all
MOST_DECISIONS = 8  # with more, their table is closed at first
MOST_CELLS = 15  # names; with more, the confusion matrix is a picture instead of a table
MOST_CLASSES = 150  # in a table or picture; with more, the most frequent or mistaken ones
Table = list[dict[str, str]]
AnyRecord = TypeVar("AnyRecord", bound=Record)


def write(home: Path, recipe: str) -> Path:
    """Write the report of a recipe's folder to its report/report.html and return that path."""
    path = home / REPORT / "report.html"
    write_text(path, build(home, recipe))
    return path


def build(home: Path, recipe: str) -> str:
    """Return the report of a recipe's folder as HTML; the same records give the same text.

    A run may be unpublished or not yet judged by the gate. Raises UserError if a stage up to
    benchmark has not run.
    """
    from pipeline.report import html

    publication = _read_optional(Publication, home / "publish" / "publication.json")
    verdict = _read_optional(Verdict, home / "gate" / "verdict.json")
    if verdict and publication and verdict.version != publication.version:
        verdict = None  # of an earlier version
    scores = Scores.read(home / "evaluate" / "scores.json")
    fit = Fit.read(home / "finetune" / "fit.json")
    lock = _lock(home / "publish" / "lock.json")
    validation = Validation.read(home / "validate" / "validation.json")
    names, counts = words.confusion(scores.test.confusions, scores.labels, MOST_CLASSES)
    decision = list(_decision(fit.decision, scores.labels))
    values: dict[str, object] = {
        "recipe": recipe,
        "intake": Intake.read(home / "ingest" / "intake.json"),
        "validation": validation,
        "kept_by_label": _frequent(validation.kept_by_label),
        "lengths": Lengths.read(home / "tokenize" / "lengths.json"),
        "fit": fit,
        "decision": decision[:MOST_CLASSES],
        "decisions": len(decision),
        "listed": words.most_mistaken(scores.test.per_class, MOST_CLASSES),
        "scores": scores,
        "export": Export.read(home / "export" / "parity.json"),
        "runtimes": Benchmark.read(home / "benchmark" / "benchmark.json"),
        "publication": publication,
        "verdict": verdict,
        "judged": paragraph(verdict) if verdict else "",
        "rule": dict(_flat(verdict.rule)) if verdict else {},
        "flagged": _flagged(home / "validate" / "report.csv"),
        "confused_names": names,
        "confused_counts": counts,
        "all_confused": {*scores.labels} <= {*names},
        "confusions": _confusions(scores),
        "failures": [(test.name, case) for test in scores.behaviour for case in test.examples],
        "mistakes": _table(home / "evaluate" / "mistakes.csv")[:MOST_MISTAKES],
        "samples": _table(home / "evaluate" / "samples.csv"),
        "lock": lock,
        "base_digest": _base_digest(lock, recipe),
        "changed": _changed(home, recipe, lock),
        "files": list(_files(home)),
        "MOST_CELLS": MOST_CELLS,
        "MOST_DECISIONS": MOST_DECISIONS,
        "MOST_FLAGGED": MOST_FLAGGED,
    }
    return html.render(TEMPLATE, values | {"charts": _charts(home, values)}, FILTERS)


def _read_optional(kind: type[AnyRecord], path: Path) -> AnyRecord | None:
    return kind.read(path) if path.exists() else None


def _table(path: Path) -> Table:
    """Rows of a stage's CSV file; none if there is no file."""
    if not path.exists():
        return []
    csv.field_size_limit(LARGEST_ROW)
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return list(csv.DictReader(file))


def _columns(path: Path) -> dict[str, list[float]]:
    """Columns of a stage's CSV file of numbers."""
    rows = _table(path)
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def _flagged(path: Path) -> Table:
    """First rows that each rule flagged."""
    seen: Counter[str] = Counter()
    rows = []
    for row in _table(path):
        seen[row["rule"]] += 1
        if seen[row["rule"]] <= MOST_FLAGGED:
            rows.append(row)
    return rows


def _frequent(kept_by_label: Mapping[str, int]) -> dict[str, int]:
    """Rows of each class; of many classes the most frequent ones and the sum of the others."""
    if len(kept_by_label) <= MOST_CLASSES:
        return dict(kept_by_label)
    shown = dict(Counter(kept_by_label).most_common(MOST_CLASSES - 1))
    others = sum(kept_by_label.values()) - sum(shown.values())
    return {**shown, f"{len(kept_by_label) - len(shown):,} others": others}


def _confusions(scores: Scores) -> list[tuple[str, str, int, float]]:
    """Most frequent mistakes: truth, answer, count, and share of the true class."""
    found = [
        (truth, answer, count, count / sum(row.values()))
        for truth, row in scores.test.confusions.items()
        for answer, count in row.items()
        if truth != answer and count
    ]
    return sorted(found, key=lambda each: (-each[2], -each[3], each[:2]))[:MOST_CONFUSIONS]


def _decision(
    decision: Mapping[str, Any], labels: Sequence[str]
) -> Iterator[tuple[str, str, object]]:
    """Yield parameters besides the weights: name, the label it applies to ("" for all), value."""
    for name, value in decision.items():
        if isinstance(value, list) and len(value) == len(labels):
            value = dict(zip(labels, value, strict=True))
        if isinstance(value, Mapping):
            yield from ((name, part, each) for part, each in _flat(value))
        elif not isinstance(value, str):  # strings are vocabularies or vectors, not readable
            yield name, "", value


def _lock(path: Path) -> dict[str, dict[str, Any]]:
    """Entries of dvc.lock of this recipe, by stage."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _base_digest(lock: Mapping[str, Mapping[str, Any]], recipe: str) -> str | None:
    """SHA-256 of the recipe's base model, if it is pinned."""
    params = lock.get("finetune", {}).get("params", {}).get("params.yaml", {})
    digest: str | None = params.get(f"recipes.{recipe}.base", {}).get("sha256")
    return digest


def _changed(home: Path, recipe: str, lock: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Files that have changed since they were published: with them the page mixes two runs."""
    changed = []
    for stage, entry in lock.items():
        for out in entry.get("outs", []) if stage != "publish" else []:
            name = out["path"].removeprefix(f"data/{recipe}/")
            path = home / name
            # DVC's digest of a folder is one of its listing and ends in .dir: not comparable
            if path.is_file() and not out["md5"].endswith(".dir") and _md5(path) != out["md5"]:
                changed.append(name)
    return changed


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _files(home: Path) -> Iterator[tuple[str, int, str]]:
    """Yield every file of the recipe's folder except the report: name, bytes and SHA-256."""
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home)
        hidden = any(part.startswith(".") for part in name.parts)  # partial files, DVC's own
        if path.is_file() and name.parts[0] != REPORT and not hidden:
            yield name.as_posix(), size_of(path), sha256_of(path)


def _flat(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _charts(home: Path, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the page's pictures as SVG, by name."""
    from pipeline.report import charts

    scores: Scores = values["scores"]
    fit: Fit = values["fit"]
    verdict: Verdict | None = values["verdict"]
    training = _columns(home / "finetune" / "training.csv")
    validation = _columns(home / "finetune" / "validation.csv")
    lengths = _columns(home / "tokenize" / "lengths.csv")
    bins = _columns(home / "evaluate" / "calibration.csv")
    models = [("this model", scores.test.scores)]
    models += [(each.name, each.scores) for each in scores.baselines]
    drawn = {"scores": charts.scores(models), "runtimes": charts.runtimes(values["runtimes"])}
    if lengths:
        starts, texts = ([int(x) for x in lengths[name]] for name in ("tokens", "texts"))
        record: Lengths = values["lengths"]
        what = "windows of" if record.long_text == "windows" else "cut at"
        drawn["lengths"] = charts.lengths(starts, texts, record.maximum, what)
    if training and validation:
        steps = validation["step"]
        drawn["loss"] = charts.loss(
            (training["step"], training["loss"]), (steps, validation["loss"]), fit.best_step
        )
        curves = {name: v for name, v in validation.items() if name not in ("step", "loss")}
        drawn["progress"] = charts.progress(steps, curves)
    if bins and scores.test.calibration_error is not None:
        drawn["calibration"] = charts.calibration(
            bins["confidence"], bins["accuracy"], bins["rows"]
        )
    if scores.slices:
        parts = [(_short(each.name), each.score) for each in scores.slices[:MOST_SLICES]]
        overall = scores.test.scores[scores.main].value
        drawn["slices"] = charts.slices(parts, overall, scores.main)
    if scores.test.confusions and len(values["confused_names"]) > MOST_CELLS:
        drawn["confusion"] = charts.confusion(values["confused_counts"])
    if points := _table(home / "evaluate" / "map.csv"):
        x, y = ([float(point[name]) for point in points] for name in ("x", "y"))
        right = [point["right"] == "True" for point in points]
        drawn["space"] = charts.space(x, y, [_short(point["class"]) for point in points], right)
    if verdict and verdict.comparisons:
        margin = verdict.rule.get("margin", 0)
        margin = float(margin) if isinstance(margin, int | float) else 0.0
        drawn["comparison"] = charts.comparison(verdict.comparisons, margin)
    return drawn


# filters of the template


def _short(text: str, width: int = 60) -> str:
    return excerpt(text, width)


def _score(value: float) -> str:
    return _minus(f"{value:.4f}")


def _minus(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")


def _interval(interval: Interval) -> str:
    return f"{_score(interval.value)} [{_score(interval.low)}, {_score(interval.high)}]"


def _intervals(scores: Mapping[str, Interval]) -> str:
    """Format all metrics with their intervals in one line."""
    return ", ".join(f"{words.metric(name)} {_interval(each)}" for name, each in scores.items())


def _value(value: object) -> str:
    """Format any JSON value."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _minus(f"{value:.4g}")
    return _short(value if isinstance(value, str) else json.dumps(value))


def _points(share: float) -> str:
    return _minus(f"{100 * share:+.2f}")


def _gap(interval: Interval) -> str:
    """Format a difference with its interval in percentage points."""
    return f"{_points(interval.value)} [{_points(interval.low)}, {_points(interval.high)}]"


def _size(number: float) -> str:
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number:.0f} B"


FILTERS: dict[str, Callable[..., str]] = {
    "count": lambda number: f"{number:,.0f}",
    "score": _score,
    "three": lambda number: f"{number:.3f}",
    "interval": _interval,
    "percent": lambda share: f"{share:.2%}".replace("%", "\N{NO-BREAK SPACE}%"),
    "points": _points,
    "gap": _gap,
    "chance": lambda p: f"{p:.2g}",
    "brief": lambda number: f"{number:.3g}",
    "ms": lambda number: f"{number:.1f}",
    "size": _size,
    "short": _short,
    "words": lambda name: _short(name).replace("_", " "),
    "metric": lambda name: _short(words.metric(name)),
    "confused": lambda name: _short(words.confused(name), 40),
    "intervals": _intervals,
    "number": words.number,
    "value": _value,
}
