"""Publication of the pipeline's result in MLflow: one run and one registered version.

    python -m pipeline publish news

Everything is written from the stages' records. A run is found by its key (the lineage and the
runtime picked on this machine): a finished one stays unchanged, one that a live training began is
completed, a missing one is created. It also stores what later checks of the version need: the ids
of all rows, and its part of dvc.lock. Writes publication.json, card.md, rows.parquet and lock.json.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, sha256_of, write_json, write_text
from pipeline.core.log import Log, no_log
from pipeline.core.records import Candidate, Publication, SplitScores
from pipeline.registry.lineage import lineage_key, read_entries
from pipeline.registry.tags import MODEL_TAG, RUNTIME_TAG, TOKENIZER_TAG, WEIGHTS_TAG
from pipeline.stages.publish.card import model_card
from pipeline.stages.publish.params import PublishParams
from pipeline.stages.publish.records import Records
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

    Raises Unavailable if MLflow does not answer; other stages' files stay unchanged.
    """
    from pipeline.registry.publisher import Dataset, Publisher, Run
    from pipeline.registry.versions import Registry

    made = Records.read(ingest, validate, tokenize, finetune, evaluate, export, benchmark)
    lineage, served = lineage_key(lock, recipe), made.served
    files = _files(served, export, benchmark)
    served_files = {path.name: sha256_of(path) for path in files.values()}
    card = model_card(recipe, params.description, task, lineage, made, served_files)
    _write_files(card, lock, recipe, ingest, validate, out)
    log.info(f"writing the run of {recipe} {lineage[:8]}")
    artifacts = _artifacts(made, validate, evaluate, benchmark, out)
    run = Run(
        recipe=recipe,
        lineage=lineage,
        key=hashlib.sha256(f"{lineage} {served.name}".encode()).hexdigest(),
        fit=made.fit.key,
        params=dict(_flat(block)),
        metrics=_metrics(made),
        curves=[*_curves(finetune, "training"), *_curves(finetune, "validation")],
        datasets=[Dataset("rows", made.intake.source, made.intake.rows_sha256)],
        artifacts=artifacts,
        card=card,
        model=files,
        task=task,
        tags=_run_tags(made, served_files, tokenize),
        shown=_version_tags(made),
        digests={"model-card.md": sha256_of(out / "card.md")} | _digests(artifacts),
        source=f"python -m pipeline publish {recipe}",
    )
    publication = Publisher(Registry(tracking)).publish(run)
    log.info(f"{recipe}/{publication.version} is registered")
    return publication.write(out / "publication.json")


def _files(served: Candidate, export: Path, benchmark: Path) -> dict[str, Path]:
    """Return the served files by role. Raises UserError for a runtime that has no file."""
    if served.file is None:
        raise UserError(f"{benchmark / 'benchmark.json'}: picked {served.name}, which has no file")
    return {
        "model": export / served.file,
        "tokenizer": export / "tokenizer.json",
        "settings": export / "serving.json",
        "config": export / "config.json",
        "tokenizer_config": export / "tokenizer_config.json",
        "smoke": benchmark / "smoke.json",
    }


def _write_files(
    card: str, lock: Path, recipe: str, ingest: Path, validate: Path, out: Path
) -> None:
    """Write what this stage adds to the run: the card, the recipe's part of dvc.lock, the rows."""
    write_text(out / "card.md", card)
    entries = read_entries(lock, recipe)
    entries.pop("publish", None)  # an earlier one
    write_json(out / "lock.json", entries)
    _write_rows(ingest / "rows.parquet", validate / "kept.parquet", out / "rows.parquet")


def _artifacts(
    made: Records, validate: Path, evaluate: Path, benchmark: Path, out: Path
) -> list[tuple[str, Path]]:
    """Return the run's artifacts as (folder in the run, local file or folder)."""
    return [
        *(("", folder / "pictures") for folder in (evaluate, benchmark)),
        *(("validation", validate / name) for name in ("docs", "report.csv", "validation.json")),
        *(("records", path) for path in made.files),
        *(("records", evaluate / name) for name in ("mistakes.csv", "behaviour.csv")),
        *(("records", out / name) for name in ("lock.json", "rows.parquet")),
    ]


def _run_tags(made: Records, served: Mapping[str, str], tokenize: Path) -> dict[str, str]:
    return {
        RUNTIME_TAG: made.served.name,
        MODEL_TAG: served[PurePosixPath(str(made.served.file)).name],
        WEIGHTS_TAG: made.fit.weights_sha256,
        TOKENIZER_TAG: sha256_of(tokenize / "tokenizer" / "tokenizer.json"),
    }


def _version_tags(made: Records) -> dict[str, str]:
    """Return the tags that people compare versions by; the gate adds its verdict later."""
    served, main = made.served, made.scores.main
    return {
        "runtime": served.name,
        _mlflow_name(f"test_{main}"): f"{served.test[main]:.4f}",
        "megabytes": f"{served.bytes / 1e6:.0f}",
        "p50_ms": f"{served.single.p50_ms:.1f}",
    }


def _digests(artifacts: Sequence[tuple[str, Path]]) -> dict[str, str]:
    """Return the SHA-256 of every file of the run, by its path there."""
    return {
        str(PurePosixPath(folder, file.relative_to(path.parent).as_posix())): sha256_of(file)
        for folder, path in artifacts
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    }


def _write_rows(ingested: Path, kept: Path, path: Path) -> None:
    """Write every ingested row without its text: the gate excludes these rows from its test, and
    later rows are compared with them."""
    import pandas as pd

    rows = pd.read_parquet(ingested, columns=["id", "label", "split"])
    rows["kept"] = rows["id"].isin(pd.read_parquet(kept, columns=["id"])["id"])
    with atomic_write(path) as temporary:
        rows.to_parquet(temporary, index=False)


def _flat(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _metrics(made: Records) -> dict[str, float]:
    validation, lengths, scores = made.validation, made.lengths, made.scores
    runtimes, served = made.benchmark, made.served
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
    for candidate in runtimes.candidates:
        metrics[f"runtime.{candidate.name}.p50_ms"] = candidate.single.p50_ms
        metrics[f"runtime.{candidate.name}.test_{scores.main}"] = candidate.test[scores.main]
        metrics[f"runtime.{candidate.name}.validation_flips"] = candidate.validation_flips
    return {_mlflow_name(name): value for name, value in metrics.items()}


def _shorts(names: Sequence[str]) -> list[str]:
    """Return the shortest prefix of whole words of each name that no other name shares."""
    split = [re.findall(r"[\w-]+", name.lower()) for name in names]
    shorts = []
    for each in split:
        others = [other for other in split if other is not each]
        sizes = range(1, len(each) + 1)
        size = next((n for n in sizes if all(o[:n] != each[:n] for o in others)), len(each))
        shorts.append("_".join(each[:size]))
    return shorts


def _mlflow_name(name: str) -> str:
    """Return a metric's name with characters that MLflow allows: ndcg@10 becomes ndcg_at_10, which
    MLflow uses too."""
    return re.sub(r"[^\w./ -]+", "_", name.replace("@", "_at_"))


def _curves(folder: Path, prefix: str) -> Iterator[Any]:
    from pipeline.registry.publisher import Curve

    with (folder / f"{prefix}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in rows[0] if rows else ():
        if name != "step":
            yield Curve(f"{prefix}.{name}", [(int(row["step"]), float(row[name])) for row in rows])
