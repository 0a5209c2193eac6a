"""MLflow as the line uses it: registered versions, their runs, and the alias."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core import old_names
from pipeline.core.errors import Unavailable, UserError
from pipeline.core.files import sha256_of
from pipeline.registry import digests
from pipeline.registry.client import SQLITE, connect, reason, shown
from pipeline.registry.tags import KEY_TAG
from pipeline.tasks.base.encoding import Texts

CHAMPION = "champion"
SERVING_PACKAGES = ("mlflow", "onnxruntime-gpu", "tokenizers", "numpy", "pandas")
# what MLflow says where it or its database fails, or lets nobody in
OUTAGES = (
    *("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"),
    *("REQUEST_LIMIT_EXCEEDED", "UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"),
)
NOBODY = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such model, no such alias


@contextmanager
def answering(tracking: str) -> Iterator[None]:
    """Raises Unavailable where MLflow does not answer what is asked inside."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        if isinstance(error, MlflowException) and error.error_code not in OUTAGES:
            raise
        raise _unavailable(tracking, error) from None


def _unavailable(tracking: str, error: Exception) -> Unavailable:
    return Unavailable(f"MLflow at {shown(tracking)}: {reason(error)}")


class Client:
    """An MlflowClient whose every call raises Unavailable where MLflow does not answer."""

    def __init__(self, tracking: str) -> None:
        # it logs the stack trace of every error of the database, which we tell in a line
        logging.getLogger("mlflow.store.db.utils").disabled = True
        self._client, self._tracking = connect(tracking), tracking

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._client, name)

        def call(*given: Any, **named: Any) -> Any:
            with answering(self._tracking):
                return asked(*given, **named)

        return call


class Registry:
    """One MLflow server, or the SQLite file beside the project."""

    def __init__(self, tracking: str) -> None:
        self.tracking = tracking
        self.client: Any = Client(tracking)
        self.copies: tempfile.TemporaryDirectory[str] | None = None
        self.fetched: dict[str, Path] = {}

    # versions and runs

    def version_of(self, model: str, key: str) -> str | None:
        """The number of the version with that key."""
        for version in self.client.search_model_versions(f"name = '{model}'"):
            if version.tags.get(KEY_TAG) == key:
                return str(version.version)
        return None

    def last_version(self, model: str) -> str | None:
        """The number of the version that was registered last."""
        found = self.client.search_model_versions(
            f"name = '{model}'", max_results=1, order_by=["version_number DESC"]
        )
        return str(found[0].version) if found else None

    def version_tags(self, model: str, number: str) -> dict[str, str]:
        """Tags of a version and of its run, with that run's id as `run`.

        Raises UserError where there is no such version.
        """
        from mlflow.exceptions import MlflowException

        try:
            version = self.client.get_model_version(model, number)
        except MlflowException:
            known = sorted(
                int(v.version) for v in self.client.search_model_versions(f"name = '{model}'")
            )
            has = ", ".join(map(str, known)) or "none: run the line first"
            raise UserError(f"{model}/{number}: no such version; there are {has}") from None
        own = {**self._run_tags(version.run_id), **version.tags, "run": str(version.run_id)}
        return old_names.renamed(own, old_names.TAGS)

    def _run_tags(self, identity: str | None) -> dict[str, str]:
        """Tags of a run; none where the run is gone."""
        from mlflow.exceptions import MlflowException

        if not identity:
            return {}
        try:
            tags = self.client.get_run(identity).data.tags
        except MlflowException:
            return {}
        return {name: value for name, value in tags.items() if name.startswith("bertline.")}

    def tag(self, model: str, number: str, name: str, value: str) -> None:
        """Set a tag of a version."""
        self.client.set_model_version_tag(model, number, name, value)

    def files(self, model: str, number: str) -> digests.Digests | None:
        """SHA-256 of each file of a version's folder, as it was registered; None where nothing
        says. Raises UserError where the list is gone or damaged."""
        tags = self.version_tags(model, number)
        name = f"{model}/{number}"
        return digests.read("version", tags, lambda path: self.artifact(tags["run"], path), name)

    def run_facts(self, identity: str) -> tuple[dict[str, str], dict[str, float], list[str]]:
        """Parameters and last metrics of a run, and its datasets as 'split sha256'."""
        run = self.client.get_run(identity)
        datasets = []
        for given in run.inputs.dataset_inputs:
            tags = {tag.key: tag.value for tag in given.tags}
            datasets.append(f"{tags.get('mlflow.data.context')} {tags.get('sha256')}")
        metrics = {old_names.metric(name): value for name, value in run.data.metrics.items()}
        return dict(run.data.params), metrics, datasets

    def folder(self, model: str, number: str) -> Path:
        """The version's files on this machine: those of a local store themselves, else a copy,
        fetched once.

        Raises UserError where they are gone, Unavailable where MLflow does not give them.
        """
        import mlflow
        from mlflow.exceptions import MlflowException

        uri = self.client.get_model_version_download_uri(model, number)
        if uri not in self.fetched:
            try:
                with answering(self.tracking):
                    local = mlflow.artifacts.download_artifacts(
                        uri, tracking_uri=self.tracking, dst_path=self._destination()
                    )
            except MlflowException as error:
                raise UserError(
                    f"{model}/{number}: its files cannot be had ({reason(error)}): restore them, or"
                    f" bertline rollback {model}"
                ) from None
            self.fetched[uri] = Path(local)
        return self.fetched[uri]

    def damage(self, model: str, number: str, folder: Path | None = None) -> list[str]:
        """Files of a version that are not what they were when it was registered."""
        before = self.files(model, number)
        if before is None:
            return [f"{model}/{number} has no list of its files"]
        now = digests_of(folder or self.folder(model, number))
        return [
            f"{name} of {model}/{number} {'has changed' if name in now else 'is missing'}"
            if name in before
            else f"{name} of {model}/{number} was not there"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]

    def load(self, model: str, number: str) -> Any:
        """The version as MLflow loads it. Raises UserError where a file is not its own."""
        import mlflow

        folder = self.folder(model, number)
        if damaged := self.damage(model, number, folder):
            raise UserError(
                f"{damaged[0]}: it is not served; bertline rollback {model}, or restore the file"
            )
        return mlflow.pyfunc.load_model(str(folder))

    def scores(self, model: str, number: str, texts: Sequence[Texts]) -> list[dict[str, Any]]:
        """What a registered version answers, through its own code and ONNX Runtime: for each text
        its `label`, its `score`, what else its task tells, and `score_<class>` of each class."""
        return list(self.table(model, number, texts).to_dict("records"))

    def table(self, model: str, number: str, texts: Sequence[Texts]) -> Any:
        """The same as a data frame, one row a text."""
        loaded = self.load(model, number)
        return loaded.predict(inputs_of(loaded, texts))

    def answers(self, model: str, number: str, texts: Sequence[Texts]) -> list[str]:
        """The labels that a registered version answers."""
        return [str(answer["label"]) for answer in self.scores(model, number, texts)]

    def attach(self, identity: str, path: Path) -> None:
        """Add a file to a run, or put it in the place of the one of its name.

        Raises Unavailable where MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_artifact(identity, str(path))
        except (MlflowException, OSError) as error:
            raise _unavailable(self.tracking, error) from None

    def artifact(self, identity: str, path: str) -> Path:
        """A run's artifact on this machine. Raises UserError where the run has none, Unavailable
        where MLflow does not answer."""
        import mlflow

        for name in (path, *map(str, old_names.earlier(PurePosixPath(path)))):
            try:
                local = mlflow.artifacts.download_artifacts(
                    run_id=identity,
                    artifact_path=name,
                    tracking_uri=self.tracking,
                    dst_path=self._destination(),
                )
            except (mlflow.exceptions.MlflowException, OSError):
                connect(self.tracking)  # raises where it is MLflow that is missing
            else:
                return Path(local)
        raise UserError(f"run {identity}: has no {path}")

    def _destination(self) -> str | None:
        """Where a server's files come to: a folder that goes with this object. Those of a local
        store are used where they lie."""
        if self.tracking.startswith(SQLITE):
            return None
        if self.copies is None:
            self.copies = tempfile.TemporaryDirectory(prefix="bertline-")
        return tempfile.mkdtemp(dir=self.copies.name)

    # alias

    def champion(self, model: str) -> str | None:
        """The number of the version that carries the alias; None where nobody does.

        Raises Unavailable where MLflow does not say.
        """
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.get_model_version_by_alias(model, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in NOBODY:
                return None
            raise _unavailable(self.tracking, error) from None

    def move(self, model: str, number: str) -> None:
        self.client.set_registered_model_alias(model, CHAMPION, number)


def takes_pairs(loaded: Any) -> bool:
    """True if a version, as it is loaded, is asked about pairs of texts."""
    return bool((loaded.model_config or {}).get("two_texts"))


def inputs_of(loaded: Any, texts: Sequence[Texts]) -> list[Any]:
    """Texts as a version, as it is loaded, takes them."""
    pairs = takes_pairs(loaded)
    return [{"text": text, "second": second} if pairs else text for text, second in texts]


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a version's folder, by its path there."""
    return {
        str(file.relative_to(folder)): sha256_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and file.name != "registered_model_meta"
        and "__pycache__" not in file.parts
    }
