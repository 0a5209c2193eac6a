"""MLflow: registered versions, their runs and files, and the champion's alias."""

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
from pipeline.registry.tags import KEY_TAG, VERSION_KEY_TAG
from pipeline.tasks.base.encoding import Texts

CHAMPION = "champion"
SERVING_PACKAGES = ("mlflow", "onnxruntime-gpu", "tokenizers", "numpy", "pandas")
# error codes of MLflow if it or its database fails, or refuses access
OUTAGES = (
    *("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"),
    *("REQUEST_LIMIT_EXCEEDED", "UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"),
)
NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such model or alias


@contextmanager
def answering(tracking: str) -> Iterator[None]:
    """Raise Unavailable if MLflow does not answer a request made in the block."""
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
    """MlflowClient whose calls raise Unavailable if MLflow does not answer."""

    def __init__(self, tracking: str) -> None:
        # it logs a stack trace of every database error, which bertline reports in one line
        logging.getLogger("mlflow.store.db.utils").disabled = True
        self._client, self._tracking = connect(tracking), tracking

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with answering(self._tracking):
                return method(*args, **kwargs)

        return call


class Registry:
    """Registry of models on an MLflow server, or in the project's SQLite file."""

    def __init__(self, tracking: str) -> None:
        self.tracking = tracking
        self.client: Any = Client(tracking)
        self.copies: tempfile.TemporaryDirectory[str] | None = None
        self.fetched: dict[str, Path] = {}

    # versions and runs

    def version_of(self, model: str, key: str) -> str | None:
        """Number of the version with that key."""
        for version in self.client.search_model_versions(f"name = '{model}'"):
            if key in (version.tags.get(VERSION_KEY_TAG), version.tags.get(KEY_TAG)):
                return str(version.version)
        return None

    def last_version(self, model: str) -> str | None:
        """Number of the version that was registered last."""
        found = self.client.search_model_versions(
            f"name = '{model}'", max_results=1, order_by=["version_number DESC"]
        )
        return str(found[0].version) if found else None

    def version_tags(self, model: str, number: str) -> dict[str, str]:
        """Tags of a version and of its run, with that run's ID as `run`.

        Raises UserError if there is no such version.
        """
        from mlflow.exceptions import MlflowException

        try:
            version = self.client.get_model_version(model, number)
        except MlflowException:
            numbers = sorted(
                int(v.version) for v in self.client.search_model_versions(f"name = '{model}'")
            )
            known = ", ".join(map(str, numbers)) or f"none: run bertline run {model} first"
            raise UserError(f"{model}/{number}: no such version; there are {known}") from None
        own = {**self._run_tags(version.run_id), **version.tags, "run": str(version.run_id)}
        return old_names.renamed(own, old_names.TAGS)

    def exists(self, model: str, number: str) -> bool:
        """True if there is a version of that number: it may have been deleted."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_model_version(model, number)
        except MlflowException as error:
            if error.error_code in NOT_FOUND:
                return False
            raise _unavailable(self.tracking, error) from None
        return True

    def _run_tags(self, identity: str | None) -> dict[str, str]:
        """Tags of a run; none if the run was deleted."""
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
        """SHA-256 of each file of a version's folder when it was registered; None if not recorded.

        Raises UserError if the list is missing or damaged.
        """
        tags = self.version_tags(model, number)
        name = f"{model}/{number}"
        return digests.read("version", tags, lambda path: self.artifact(tags["run"], path), name)

    def run_facts(self, identity: str) -> tuple[dict[str, str], dict[str, float], list[str]]:
        """Return parameters and last metrics of a run, and its datasets as 'split sha256'."""
        run = self.client.get_run(identity)
        datasets = []
        for dataset in run.inputs.dataset_inputs:
            tags = {tag.key: tag.value for tag in dataset.tags}
            datasets.append(f"{tags.get('mlflow.data.context')} {tags.get('sha256')}")
        metrics = {old_names.metric(name): value for name, value in run.data.metrics.items()}
        return dict(run.data.params), metrics, datasets

    def folder(self, model: str, number: str) -> Path:
        """Return the local folder of a version's files: the store's own, else one downloaded copy.

        Raises UserError if the files are missing, Unavailable if MLflow does not answer.
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
                    f"{model}/{number}: cannot read its files ({reason(error)}): restore them, or"
                    f" bertline rollback {model}"
                ) from None
            self.fetched[uri] = Path(local)
        return self.fetched[uri]

    def damage(self, model: str, number: str, folder: Path | None = None) -> list[str]:
        """Return a message for each file of a version that has changed since its registration."""
        before = self.files(model, number)
        if before is None:
            return [f"{model}/{number} has no list of its files"]
        now = digests_of(folder or self.folder(model, number))
        return [
            f"{name} of {model}/{number} {'has changed' if name in now else 'is missing'}"
            if name in before
            else f"{name} of {model}/{number} was added"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]

    def load(self, model: str, number: str) -> Any:
        """Load a version with MLflow. Raises UserError if one of its files has changed."""
        import mlflow

        folder = self.folder(model, number)
        if damaged := self.damage(model, number, folder):
            raise UserError(
                f"{damaged[0]}: it is not served; bertline rollback {model}, or restore the file"
            )
        return mlflow.pyfunc.load_model(str(folder))

    def scores(self, model: str, number: str, texts: Sequence[Texts]) -> list[dict[str, Any]]:
        """Answers of `table`, one dictionary per text."""
        return list(self.table(model, number, texts).to_dict("records"))

    def table(self, model: str, number: str, texts: Sequence[Texts]) -> Any:
        """Answer texts by a version's own code and ONNX Runtime; a data frame, one row per text.

        Its columns are `label`, `score`, the task's details, and `score_<class>` of each class.
        """
        loaded = self.load(model, number)
        return loaded.predict(inputs_of(loaded, texts))

    def attach(self, identity: str, path: Path) -> None:
        """Add a file to a run, replacing one of the same name.

        Raises Unavailable if MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_artifact(identity, str(path))
        except (MlflowException, OSError) as error:
            raise _unavailable(self.tracking, error) from None

    def artifact(self, identity: str, path: str) -> Path:
        """Return the local path of a run's artifact. Raises UserError if the run does not have it,
        Unavailable if MLflow does not answer."""
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
                connect(self.tracking)  # raises Unavailable if MLflow is down
            else:
                return Path(local)
        raise UserError(f"run {identity}: has no {path}")

    def _destination(self) -> str | None:
        """Return a new folder for a download, deleted with this object; None for a local store,
        whose files are used in place."""
        if self.tracking.startswith(SQLITE):
            return None
        if self.copies is None:
            self.copies = tempfile.TemporaryDirectory(prefix="bertline-")
        return tempfile.mkdtemp(dir=self.copies.name)

    # alias

    def champion(self, model: str) -> str | None:
        """Number of the version with the alias; None if no version has it.

        Raises Unavailable if MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.get_model_version_by_alias(model, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in NOT_FOUND:
                return None
            raise _unavailable(self.tracking, error) from None

    def move(self, model: str, number: str) -> None:
        self.client.set_registered_model_alias(model, CHAMPION, number)


def takes_pairs(loaded: Any) -> bool:
    """True if a loaded version takes pairs of texts."""
    return bool((loaded.model_config or {}).get("two_texts"))


def inputs_of(loaded: Any, texts: Sequence[Texts]) -> list[Any]:
    """Inputs of a loaded version for these texts."""
    pairs = takes_pairs(loaded)
    return [{"text": text, "second": second} if pairs else text for text, second in texts]


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a version's folder, by relative path."""
    return {
        str(file.relative_to(folder)): sha256_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and file.name != "registered_model_meta"
        and "__pycache__" not in file.parts
    }
