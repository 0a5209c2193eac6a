"""What the line made, written to MLflow: one run, one registered version.

    python -m pipeline publish news

Everything is written from the stages' records. It is found by its key (the lineage and the rung
picked on this machine): a run that is there stays as it is, one that a live training began is
completed, a missing one is written whole. With it go what a later look at the version needs: the
rows that there were, by name, and its slice of dvc.lock. Writes publication.json, card.md,
rows.parquet and lock.json.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of, whole, write_json, write_text
from pipeline.core.log import Log, no_log
from pipeline.core.records import (
    Export,
    Fit,
    Intake,
    Ladder,
    Lengths,
    Publication,
    Scores,
    SplitScores,
    Validation,
)
from pipeline.registry.lineage import lineage_key, read_entries
from pipeline.stages.publish.card import model_card
from pipeline.stages.publish.params import PublishParams
from pipeline.tasks.base import Task


def publish(
    params: PublishParams,
    task: Task,
    recipe: str,
    block: dict[str, Any],
    lock: Path,
    tracking: str,
    ingest: Path,
    validate: Path,
    tokenize: Path,
    finetune: Path,
    evaluate: Path,
    export: Path,
    benchmark: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Publication:
    """Write the run and register the version, once.

    Raises Unavailable where MLflow does not answer; the line's files are untouched by that.
    """
    from pipeline.registry.publisher import Dataset, Publisher, Run
    from pipeline.registry.tags import RECORDS_TAG
    from pipeline.registry.versions import Registry

    intake = Intake.read(ingest / "intake.json")
    validation = Validation.read(validate / "validation.json")
    fit = Fit.read(finetune / "fit.json")
    scores = Scores.read(evaluate / "scores.json")
    exported = Export.read(export / "parity.json")
    ladder = Ladder.read(benchmark / "ladder.json")
    lineage = lineage_key(lock, recipe)
    served = ladder.rung(ladder.picked)
    if served.file is None:
        raise UserError(f"{benchmark / 'ladder.json'}: picked {served.name}, which has no file")
    key = hashlib.sha256(f"{lineage} {served.name}".encode()).hexdigest()
    lengths = Lengths.read(tokenize / "lengths.json")
    files = {
        "model": export / served.file,
        "tokenizer": export / "tokenizer.json",
        "settings": export / "serving.json",
        "smoke": benchmark / "smoke.json",
    }
    card = model_card(
        recipe,
        params.description,
        task,
        lineage,
        intake,
        validation,
        lengths,
        fit,
        scores,
        ladder,
        {path.name: sha256_of(path) for path in files.values()},
    )
    write_text(out / "card.md", card)
    entries = read_entries(lock, recipe)
    entries.pop("publish", None)  # an earlier one
    write_json(out / "lock.json", entries)
    _write_rows(ingest / "rows.parquet", validate / "kept.parquet", out / "rows.parquet")
    registry = Registry(tracking)
    log.say(f"writing the run of {recipe} {lineage[:8]}")
    digests = {parity.file: parity.sha256 for parity in exported.parities}
    run = Run(
        recipe=recipe,
        lineage=lineage,
        key=key,
        fit=fit.key,
        params=dict(_flat(block)),
        metrics=_metrics(validation, lengths, scores, ladder),
        curves=[
            *_curves(finetune / "training.csv", "training"),
            *_curves(finetune / "validation.csv", "validation"),
        ],
        datasets=[Dataset("rows", intake.source, intake.rows_sha256)],
        artifacts=[
            ("", evaluate / "pictures"),
            ("", benchmark / "pictures"),
            ("validation", validate / "docs"),
            ("validation", validate / "report.csv"),
            ("validation", validate / "validation.json"),
            ("records", ingest / "intake.json"),
            ("records", tokenize / "lengths.json"),
            ("records", finetune / "fit.json"),
            ("records", evaluate / "scores.json"),
            ("records", evaluate / "mistakes.csv"),
            ("records", evaluate / "behaviour.csv"),
            ("records", export / "parity.json"),
            ("records", benchmark / "ladder.json"),
            ("records", out / "lock.json"),
            ("records", out / "rows.parquet"),
        ],
        card=card,
        model=files,
        task=task,
        tags={
            "bertline.rung": served.name,
            "bertline.model_sha256": digests[served.file],
            "bertline.weights_sha256": fit.weights_sha256,
            "bertline.tokenizer_sha256": sha256_of(tokenize / "tokenizer" / "tokenizer.json"),
        },
    )
    kept = {"model-card.md": sha256_of(out / "card.md")} | _digests(run.artifacts)
    run = replace(run, tags={**run.tags, RECORDS_TAG: json.dumps(kept)})
    publication = Publisher(registry).publish(run)
    log.say(f"{recipe}/{publication.version} is registered")
    return publication.write(out / "publication.json")


def _digests(artifacts: Sequence[tuple[str, Path]]) -> dict[str, str]:
    """SHA-256 of every file that goes into the run, by its path there."""
    return {
        str(PurePosixPath(folder, file.relative_to(path.parent).as_posix())): sha256_of(file)
        for folder, path in artifacts
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    }


def _write_rows(read: Path, kept: Path, path: Path) -> None:
    """Every row that was read, without its text: what the gate keeps out of its test, and what
    later rows are compared with."""
    import pandas as pd

    rows = pd.read_parquet(read, columns=["id", "label", "split"])
    rows["kept"] = rows["id"].isin(pd.read_parquet(kept, columns=["id"])["id"])
    with whole(path) as temporary:
        rows.to_parquet(temporary, index=False)


def _flat(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _metrics(
    validation: Validation, lengths: Lengths, scores: Scores, ladder: Ladder
) -> dict[str, float]:
    served = ladder.rung(ladder.picked)
    metrics: dict[str, float] = {
        "data.rows": validation.rows,
        "data.kept": validation.kept,
        "data.quarantined": validation.quarantined,
        "data.leak_share": validation.share_lost_to_leaks,
        "tokens.truncated_share": lengths.truncated_share["test"],
        **{f"served.test_{name}": value for name, value in served.test.items()},
        "served.test_flips": served.test_flips,
        "served.p50_ms": served.single.p50_ms,
        "served.p95_ms": served.single.p95_ms,
        "served.speedup": served.speedup,
        "served.megabytes": served.bytes / 1e6,
    }
    for split in ("validation", "test"):
        part: SplitScores = getattr(scores, split)
        for average, values in part.averages.items():
            metrics |= {f"{split}.{average}_{name}": value for name, value in values.items()}
        metrics |= {f"{split}.{name}": value for name, value in part.more.items()}
        if part.calibration_error is not None:
            metrics[f"{split}.calibration_error"] = part.calibration_error
        for name, interval in part.scores.items():
            metrics[f"{split}.{name}"] = interval.value
            metrics[f"{split}.{name}_low"] = interval.low
            metrics[f"{split}.{name}_high"] = interval.high
    shorts = _shorts([baseline.name for baseline in scores.baselines])
    for short, baseline in zip(shorts, scores.baselines, strict=True):
        for name, interval in baseline.scores.items():
            metrics[f"baseline.{short}_{name}"] = interval.value
    if scores.behaviour:
        metrics["behaviour.failed_share"] = scores.behaviour_failed
    for test in scores.behaviour:
        name = re.sub(r"[^\w-]+", "_", f"{test.suite} {test.name}")
        metrics[f"behaviour.{name}"] = test.share
    for rung in ladder.rungs:
        metrics[f"ladder.{rung.name}.p50_ms"] = rung.single.p50_ms
        metrics[f"ladder.{rung.name}.test_{scores.main}"] = rung.test[scores.main]
        metrics[f"ladder.{rung.name}.validation_flips"] = rung.validation_flips
    return {_taken(name): value for name, value in metrics.items()}


def _shorts(names: Sequence[str]) -> list[str]:
    """For each name so many of its first words that no other name begins like it."""
    split = [re.findall(r"[\w-]+", name.lower()) for name in names]
    shorts = []
    for each in split:
        others = [other for other in split if other is not each]
        sizes = range(1, len(each) + 1)
        size = next((n for n in sizes if all(o[:n] != each[:n] for o in others)), len(each))
        shorts.append("_".join(each[:size]))
    return shorts


def _taken(name: str) -> str:
    """A metric's name as MLflow takes it: ndcg@10 becomes ndcg_at_10, as MLflow calls it too."""
    return re.sub(r"[^\w./ -]+", "_", name.replace("@", "_at_"))


def _curves(path: Path, prefix: str) -> Iterator[Any]:
    from pipeline.registry.publisher import Curve

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in rows[0] if rows else ():
        if name != "step":
            yield Curve(f"{prefix}.{name}", [(int(row["step"]), float(row[name])) for row in rows])
