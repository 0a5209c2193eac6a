"""Layout of a working folder: the stages, its paths, and the address of MLflow."""

import os
from collections.abc import MutableMapping
from pathlib import Path

DATA = Path("data")
LABELS = DATA / "labels"
FEEDBACK = DATA / "feedback"
STATE = Path(".bertline")
LOCK = Path("dvc.lock")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
ORDER = (
    "ingest",
    "validate",
    "tokenize",
    "finetune",
    "evaluate",
    "export",
    "benchmark",
    "publish",
)
"""Stages of the pipeline, each with a folder in data/<recipe>/."""


def tracking() -> str:
    """Return MLflow's address: MLFLOW_TRACKING_URI, else a SQLite file in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def bypass_proxy(variables: MutableMapping[str, str] = os.environ) -> None:
    """Exclude this machine from the proxies that the environment names, for this process and its
    children: a proxy elsewhere cannot reach its servers. Other hosts are asked as before."""
    lower = {name.lower() for name, value in variables.items() if value}
    if not lower & {"http_proxy", "https_proxy", "all_proxy"}:
        return
    # libraries read both, the lower case first
    excluded = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    names = [name.strip() for name in excluded.split(",") if name.strip()]
    if "*" not in names:
        names += [name for name in LOOPBACK if name not in names]
    variables["no_proxy"] = variables["NO_PROXY"] = ",".join(names)
