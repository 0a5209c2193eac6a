"""Small DVC cache with a lock file, and MLflow versions registered without training."""

import hashlib
import json
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pipeline.registry import artifacts as mlflow_files
from pipeline.registry.client import experiment_id
from pipeline.registry.ledger import Ledger
from pipeline.registry.records import Entry, Event
from pipeline.registry.tags import FILES_TAG, KEY_TAG, PUBLISHED_TAG, RECORDS_TAG
from pipeline.registry.versions import Registry, digests_of
from pipeline.upkeep.cache import Cache, md5_of


class Shop:
    """Working folder as a run of the pipeline leaves it."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder, self.database = folder, database
        self.cache = Cache(folder / ".dvc" / "cache")
        self.state = folder / ".bertline" / "state"

    @cached_property
    def registry(self) -> Registry:
        shutil.copyfile(self.database, self.folder / "mlflow.db")
        registry = Registry(f"sqlite:///{self.folder / 'mlflow.db'}")
        registry.client.create_registered_model("toy")
        return registry

    @property
    def client(self) -> Any:
        return self.registry.client

    @property
    def experiment(self) -> str:
        return experiment_id(self.client, "toy", self.registry.tracking)

    def keep(self, content: bytes) -> str:
        """Put a file into the cache, read-only as DVC does."""
        name = hashlib.md5(content).hexdigest()
        return self._put(name, content)

    def keep_folder(self, files: dict[str, bytes]) -> str:
        listed = [{"md5": self.keep(c), "relpath": name} for name, c in sorted(files.items())]
        content = json.dumps(listed, sort_keys=True).encode()
        return self._put(hashlib.md5(content).hexdigest() + ".dir", content)

    def _put(self, name: str, content: bytes) -> str:
        path = self.cache.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o444)
        return name

    def remember(self, **outs: str) -> Path:
        """An entry of DVC's run cache."""
        path = (
            self.cache.folder / "runs" / "ab" / "abc" / hashlib.md5(str(outs).encode()).hexdigest()
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        listed = "".join(f"- path: {path}\n  md5: {md5}\n" for path, md5 in outs.items())
        path.write_text(f"cmd: true\nouts:\n{listed}")
        return path

    def version(self, made_of: dict[str, str], artifacts: dict[str, bytes] | None = None) -> str:
        """Register a version of one file, whose run keeps a slice of the lock and `artifacts`."""
        run = self.client.create_run(self.experiment, tags={PUBLISHED_TAG: "true"})
        identity = run.info.run_id
        lock = {"export": {"outs": [{"path": p, "md5": m} for p, m in made_of.items()]}}
        kept = {"records/lock.json": json.dumps(lock).encode()} | (artifacts or {})
        for path, content in kept.items():
            mlflow_files.put(run.info.artifact_uri, path, content)
        listed = {path: hashlib.sha256(content).hexdigest() for path, content in kept.items()}
        self.client.set_tag(identity, RECORDS_TAG, json.dumps(listed))
        model = self.client.create_logged_model(self.experiment, "model", source_run_id=identity)
        files = Path(model.artifact_location.removeprefix("file://"))
        files.mkdir(parents=True)
        (files / "model.onnx").write_bytes(b"weights of " + identity.encode())
        self.client.finalize_logged_model(model.model_id, "READY")
        made = self.client.create_model_version(
            "toy", f"models:/{model.model_id}", identity, model_id=model.model_id
        )
        tags = {KEY_TAG: identity, FILES_TAG: json.dumps(digests_of(files))}
        for name, value in tags.items():
            self.client.set_model_version_tag("toy", made.version, name, value)
        self.client.set_terminated(identity, "FINISHED")
        return str(made.version)

    def files_of(self, number: str) -> Path:
        source = self.client.get_model_version("toy", number).source
        place = self.client.get_logged_model(source.removeprefix("models:/")).artifact_location
        return Path(place.removeprefix("file://"))

    def run_of(self, number: str) -> mlflow_files.Run:
        [version] = [v for v in mlflow_files.versions(self.client, "toy") if v.number == number]
        runs = mlflow_files.runs(self.client, "toy")
        return next(run for run in runs if run.identity == version.run)

    def enter(self, event: Event, number: str, previous: str | None = None) -> None:
        enter(self.registry, event, number, previous)


def enter(registry: Registry, event: Event, number: str, previous: str | None = None) -> None:
    """Write a settled ledger entry, and move the alias if the entry does."""
    ledger = Ledger(registry, "toy")
    place = len(ledger.entries()) + 1
    entry = Entry(
        number=place,
        event=event,
        model="toy",
        version=number,
        previous=previous,
        who="me",
        when=f"2026-01-01T00:00:{place:02}",
        reason="a test",
        lineage="",
    )
    ledger.settle(ledger.append(entry))
    if entry.moves:
        registry.move("toy", number)


def rows_table(*ids: str, split: str = "train", kept: bool = True) -> bytes:
    """Table of rows as a run stores it."""
    import pandas as pd

    return pd.DataFrame({"id": ids, "label": "a", "split": split, "kept": kept}).to_parquet()


def damage(path: Path, place: int = 0) -> None:
    """Flip one bit of a byte, whatever the file's mode."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1
    path.write_bytes(content)
    path.chmod(mode)
    assert md5_of(path)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty MLflow database, shared since its creation takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    Registry(f"sqlite:///{path}")
    return path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Path) -> Shop:
    monkeypatch.chdir(tmp_path)
    return Shop(tmp_path, database)
