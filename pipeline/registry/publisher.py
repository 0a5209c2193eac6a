"""MLflow: write a run and its registered version, once, from the records of the stages."""

import inspect
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from pipeline import tasks
from pipeline.core.records import Publication
from pipeline.registry import digests
from pipeline.registry.client import experiment_id, shown
from pipeline.registry.origin import origin
from pipeline.registry.tags import (
    DIGESTS_TAG,
    FIT_TAG,
    KEY_TAG,
    LINEAGE_TAG,
    NOTE_TAG,
    PUBLISHED_TAG,
    VERSION_KEY_TAG,
)
from pipeline.registry.versions import SERVING_PACKAGES, Registry, answering, digests_of
from pipeline.runtimes import onnx_runtime
from pipeline.tasks import base
from pipeline.tasks.base import Task

LONGEST_VALUE = 5000  # characters of a parameter or tag: MLflow refuses longer ones


@dataclass(frozen=True)
class Curve:
    name: str
    points: Sequence[tuple[int, float]]
    """Points as (step, value)."""


@dataclass(frozen=True)
class Dataset:
    split: str
    source: str
    sha256: str


@dataclass(frozen=True)
class Run:
    """Content of a published run and its version, from the stages' records."""

    recipe: str
    lineage: str
    key: str
    fit: str
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    curves: Sequence[Curve]
    datasets: Sequence[Dataset]
    artifacts: Sequence[tuple[str, Path]]
    """Artifacts as (folder in the run, local file or folder)."""
    card: str
    model: Mapping[str, Path]
    """model, tokenizer, settings and smoke: the served files, and examples of their answers; and
    what other programs need beside them."""
    task: Task
    """Task whose code is stored with the version."""
    tags: Mapping[str, str]
    """Tags of the run."""
    shown: Mapping[str, str]
    """Tags of the version, for people who compare versions."""
    digests: digests.Digests
    """SHA-256 of each artifact, by its path in the run."""
    source: str
    """Command that publishes it."""


class Publisher:
    """Writer of runs and their registered versions."""

    def __init__(self, registry: Registry) -> None:
        self.registry, self.client, self.tracking = registry, registry.client, registry.tracking

    def publish(self, run: Run) -> Publication:
        """Write a run and register its version, once; complete what an earlier attempt left.

        Raises Unavailable if MLflow does not answer.
        """
        with answering(self.tracking):
            return self._publish(run)

    def _publish(self, run: Run) -> Publication:
        experiment = experiment_id(self.client, run.recipe, self.tracking)
        number = self.registry.version_of(run.recipe, run.key)
        found = self._find(experiment, f"tags.`{KEY_TAG}` = '{run.key}'")
        if found and number and found.data.tags.get(PUBLISHED_TAG) == "true":
            return self._publication(run, number, found.info.run_id)
        if found is None:
            live = f"tags.`{FIT_TAG}` = '{run.fit}' and attributes.status = 'RUNNING'"
            found = self._find(experiment, live)
            if found and KEY_TAG in found.data.tags:
                found = None
        if found is None:
            tags = {FIT_TAG: run.fit, **origin(run.source)}
            found = self.client.create_run(experiment, tags=tags)
        identity = str(found.info.run_id)
        self._write(run, identity)
        number = self._register(run, identity)
        self.client.set_tag(identity, PUBLISHED_TAG, "true")
        self.client.set_terminated(identity, "FINISHED")
        return self._publication(run, number, identity)

    def _find(self, experiment: str, query: str) -> Any:
        runs = self.client.search_runs([experiment], query, max_results=1)
        return runs[0] if runs else None

    def _write(self, run: Run, identity: str) -> None:
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.data.sources import LocalArtifactDatasetSource
        from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

        now = int(time.time() * 1000)
        tags = dict(run.tags) | {
            **origin(run.source),
            KEY_TAG: run.key,
            LINEAGE_TAG: run.lineage,
            "mlflow.runName": f"{run.recipe} {run.lineage[:8]}",
            NOTE_TAG: run.card.split("---\n", 2)[-1],  # without its metadata
        }
        # MLflow refuses to change a run's parameters: those of an earlier attempt stay
        logged = self.client.get_run(identity).data.params
        params = [
            Param(k, str(v)[:LONGEST_VALUE]) for k, v in run.params.items() if k not in logged
        ]
        self.client.log_batch(identity, tags=[RunTag(k, v) for k, v in tags.items()])
        metrics = [Metric(name, value, now, 0) for name, value in run.metrics.items()]
        for curve in run.curves:
            steps = {m.step for m in self.client.get_metric_history(identity, curve.name)}
            metrics += [Metric(curve.name, v, now, s) for s, v in curve.points if s not in steps]
        self.client.log_batch(identity, params=params, metrics=metrics)
        inputs = [
            DatasetInput(
                MetaDataset(
                    LocalArtifactDatasetSource(data.source),
                    name=run.recipe,
                    digest=data.sha256[:36],
                )._to_mlflow_entity(),
                [InputTag("mlflow.data.context", data.split), InputTag("sha256", data.sha256)],
            )
            for data in run.datasets
        ]
        self.client.log_inputs(identity, inputs)
        self.client.log_text(identity, run.card, "model-card.md")
        for folder, path in run.artifacts:
            if path.is_dir():
                self.client.log_artifacts(identity, str(path), f"{folder}/{path.name}".strip("/"))
            else:
                self.client.log_artifact(identity, str(path), folder or None)

    def _register(self, run: Run, identity: str) -> str:
        import mlflow

        registered = self.client.search_model_versions(f"run_id = '{identity}'")
        if registered:  # an earlier attempt was stopped before it set the tags below
            number = str(registered[0].version)
        else:
            logging.getLogger("mlflow").setLevel(logging.ERROR)
            with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=identity):
                runtime, code = Path(folder) / "runtime.py", Path(folder) / "tasks"
                shutil.copyfile(onnx_runtime.__file__, runtime)
                copy_code(run.task, code)
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(__file__).with_name("served_model.py")),
                    artifacts={k: str(v) for k, v in run.model.items()}
                    | {"runtime": str(runtime), "tasks": str(code)},
                    model_config={"two_texts": run.task.two_texts},
                    pip_requirements=[f"{name}=={installed(name)}" for name in SERVING_PACKAGES],
                    registered_model_name=run.recipe,
                )
            number = str(info.registered_model_version)
        self._list_files(run, identity, number)
        for name, value in {**run.shown, VERSION_KEY_TAG: run.key}.items():
            self.registry.tag(run.recipe, number, name, value)
        return number

    def _list_files(self, run: Run, identity: str, number: str) -> None:
        """Store the digests of all files of a run and its version."""
        content = digests.as_bytes(
            dict(run.digests), digests_of(self.registry.folder(run.recipe, number))
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / digests.FILE
            file.write_bytes(content)
            self.client.log_artifact(identity, str(file))
        self.client.set_tag(identity, DIGESTS_TAG, digests.tag_of(content))

    def _publication(self, run: Run, number: str, identity: str) -> Publication:
        return Publication(
            model=run.recipe,
            version=number,
            key=run.key,
            lineage=run.lineage,
            run=identity,
            experiment=run.recipe,
            tracking=shown(self.tracking),
        )


def copy_code(task: Task, folder: Path) -> None:
    """Copy a task's code and the code that tasks share into a new folder, for a version to run."""
    shared, own = Path(base.__file__).parent, Path(inspect.getfile(type(task))).parent
    folder.mkdir()
    shutil.copyfile(tasks.__file__, folder / "__init__.py")
    ignored = shutil.ignore_patterns("__pycache__")
    for package in (shared, own):
        shutil.copytree(package, folder / package.name, ignore=ignored)
