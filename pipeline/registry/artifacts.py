"""MLflow: list, read and delete the runs, versions and artifacts that upkeep works on."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.errors import UserError
from pipeline.registry.client import all_pages
from pipeline.registry.ledger import experiment_of
from pipeline.registry.tags import ENTRY_TAG

LOCK, ROWS = "records/lock.json", "records/rows.parquet"
MODEL = "models:/"


@dataclass(frozen=True)
class Version:
    number: str
    run: str
    created: float
    """Seconds since 1970."""
    model_id: str
    """ID of the logged model that holds its files; empty if there is none."""
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    identity: str
    name: str
    status: str
    started: float
    """Seconds since 1970."""
    tags: dict[str, str]
    uri: str
    """Address of its artifacts."""


@dataclass(frozen=True)
class Model:
    """A logged model: the folder of files that a version serves."""

    identity: str
    run: str
    uri: str


def versions(client: Any, model: str) -> list[Version]:
    """All versions of a registered model, oldest first."""
    found = all_pages(client.search_model_versions, f"name = '{model}'")
    # search results have no aliases
    aliases = {v.version: client.get_model_version(model, v.version).aliases for v in found}
    return [
        Version(
            number=str(v.version),
            run=str(v.run_id or ""),
            created=v.creation_timestamp / 1000,
            model_id=v.source.removeprefix(MODEL) if str(v.source).startswith(MODEL) else "",
            aliases=tuple(aliases[v.version]),
        )
        for v in sorted(found, key=lambda v: int(v.version))
    ]


def runs(client: Any, experiment: str, *, deleted: bool = False) -> list[Run]:
    """Return the active runs of an experiment, or its deleted ones."""
    from mlflow.entities import ViewType

    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    return [
        Run(
            identity=str(run.info.run_id),
            name=str(run.info.run_name),
            status=str(run.info.status),
            started=run.info.start_time / 1000,
            tags=dict(run.data.tags),
            uri=str(run.info.artifact_uri),
        )
        for run in all_pages(client.search_runs, [found.experiment_id], run_view_type=view)
    ]


def last_point(client: Any, run: Run) -> float:
    """Time of a run's last metric in seconds since 1970; its start if it has no metric."""
    names = client.get_run(run.identity).data.metrics
    points = (m.timestamp for name in names for m in client.get_metric_history(run.identity, name))
    return max((point / 1000 for point in points), default=run.started)


def models(client: Any, experiment: str) -> list[Model]:
    """An experiment's logged models."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    return [
        Model(str(m.model_id), str(m.source_run_id), m.artifact_location)
        for m in all_pages(client.search_logged_models, [found.experiment_id])
    ]


def ledger(client: Any, model: str) -> Iterator[tuple[str, str]]:
    """Yield the ledger's entries as stored: (run, JSON)."""
    for run in runs(client, experiment_of(model)):
        if ENTRY_TAG in run.tags:
            yield run.identity, run.tags[ENTRY_TAG]


def lock_slice(run: Run) -> dict[str, Any] | None:
    """Lock entries of the stages behind a published run; None if the run has none."""
    try:
        stages = json.loads(fetch(run.uri, LOCK).read_bytes())
    except (UserError, ValueError):
        return None
    return stages if isinstance(stages, dict) else None


# files


def listing(uri: str) -> dict[str, int]:
    """Size in bytes of every artifact below an address, by its relative path."""
    repository = _repository(uri)
    found: dict[str, int] = {}
    folders: list[str | None] = [None]
    while folders:
        for info in repository.list_artifacts(folders.pop()):
            if info.is_dir:
                folders.append(info.path)
            else:
                found[info.path] = info.file_size or 0
    return found


def fetch(uri: str, path: str) -> Path:
    """Return an artifact's local path: the file itself in a local store, else a downloaded copy.

    Raises UserError if it cannot be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        return Path(_repository(uri).download_artifacts(path))
    except (MlflowException, OSError) as error:
        raise UserError(f"{path}: cannot be read from {uri}: {error}") from None


def put(uri: str, path: str, content: bytes) -> None:
    """Write an artifact, replacing one of the same path."""
    target = PurePosixPath(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / target.name
        file.write_bytes(content)
        file.chmod(0o644)
        parent = str(target.parent)
        _repository(uri).log_artifact(str(file), None if parent == "." else parent)


def drop(uri: str, path: str | None = None) -> None:
    """Delete one artifact, or all of them."""
    _repository(uri).delete_artifacts(path)


def _repository(uri: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(uri)


def can_erase(tracking: str) -> bool:
    """True if runs can be erased from here; if not, only `mlflow gc` on the server can do it."""
    from mlflow.tracking import _get_store

    return hasattr(_get_store(tracking), "_hard_delete_run")


def erase(tracking: str, run: Run) -> None:
    """Erase a deleted run with its artifacts, as `mlflow gc` does."""
    from mlflow.tracking import _get_store

    drop(run.uri)
    _get_store(tracking)._hard_delete_run(run.identity)
