"""MLflow: connections, experiments, page addresses and error messages."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.core.errors import Unavailable

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # selects the UI's pages
SQLITE = "sqlite:///"
EMBEDDED_ARTIFACTS = "mlartifacts"  # artifact folder beside the SQLite file


def connect(tracking: str) -> Any:
    """Return an MlflowClient of an address. Raises Unavailable if MLflow does not answer."""
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
            " start it, or correct MLFLOW_TRACKING_URI; nothing is lost"
        ) from None
    return client


def experiment_id(client: Any, name: str, tracking: str) -> str:
    """ID of the experiment of that name, which is created if it does not exist."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = None
        if tracking.startswith(SQLITE):  # else artifacts would land in ./mlruns
            folder = Path(tracking.removeprefix(SQLITE)).absolute().parent
            location = (folder / EMBEDDED_ARTIFACTS / name).as_uri()
        try:
            return str(client.create_experiment(name, location, tags=EXPERIMENT_TAGS))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def all_pages(search: Callable[..., Any], *args: Any, **options: Any) -> list[Any]:
    """Return all results of one of MLflow's paged searches."""
    found: list[Any] = []
    token = None
    while True:
        results = search(*args, page_token=token, **options)
        found += results
        token = results.token
        if not token:
            return found


def run_url(tracking: str, run: str, artifact: str = "") -> str | None:
    """URL of a run's page, or of one of its artifacts; None if MLflow has no server."""
    if not tracking.startswith(("http://", "https://")):
        return None
    return page(shown(tracking), f"runs/{run}" + (f"/artifacts/{artifact}" if artifact else ""))


def page(server: str, path: str) -> str:
    """URL of a page of MLflow's UI, in its view for model training.

    Without that parameter a new browser opens every experiment as GenAI (MLflow 3.17).
    """
    return f"{server.rstrip('/')}/#/{path}?workflowType=machine_learning"


def shown(tracking: str) -> str:
    """Address without the user name and password that it may contain."""
    return re.sub(r"://[^/@\s]*@", "://", tracking)


def reason(error: Exception) -> str:
    """First line of MLflow's error message, without passwords."""
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]
