"""MLflow: how to reach it, quietly and safely."""

import logging
import os
import re
from pathlib import Path
from typing import Any

from pipeline.core.errors import Unavailable

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # which pages its UI shows
SQLITE = "sqlite:///"
EMBEDDED_ARTIFACTS = "mlartifacts"  # beside the SQLite file, where no server keeps them


def connect(tracking: str) -> Any:
    """An MlflowClient for a tracking address. Raises Unavailable where nothing answers."""
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):  # MLflow sets its own level when it is imported
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        mlflow.set_tracking_uri(tracking)
        mlflow.set_registry_uri(tracking)
        client = MlflowClient()
        client.search_registered_models(max_results=1)
    except (MlflowException, OSError) as error:
        raise Unavailable(
            f"MLflow at {shown(tracking)} does not answer ({reason(error)}):"
            " start it, or mend MLFLOW_TRACKING_URI; nothing is lost"
        ) from None
    return client


def experiment_id(client: Any, name: str, tracking: str) -> str:
    """The experiment of that name, made where it is missing."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        place = None
        if tracking.startswith(SQLITE):  # else artifacts would land in ./mlruns
            beside = Path(tracking.removeprefix(SQLITE)).absolute().parent
            place = (beside / EMBEDDED_ARTIFACTS / name).as_uri()
        try:
            return str(client.create_experiment(name, place, tags=EXPERIMENT_TAGS))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def run_url(tracking: str, run: str, artifact: str = "") -> str | None:
    """The page of a run, or of an artifact of it; none where no server shows it."""
    if not tracking.startswith(("http://", "https://")):
        return None
    return page(shown(tracking), f"runs/{run}" + (f"/artifacts/{artifact}" if artifact else ""))


def page(server: str, place: str) -> str:
    """A page of a server, opened as model training: a browser that was never told otherwise opens
    all experiments as GenAI (MLflow 3.17)."""
    return f"{server.rstrip('/')}/#/{place}?workflowType=machine_learning"


def shown(tracking: str) -> str:
    """An address without the name and password that it may carry."""
    return re.sub(r"://[^/@\s]*@", "://", tracking)


def reason(error: Exception) -> str:
    """The first line of what MLflow says, without passwords."""
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]
