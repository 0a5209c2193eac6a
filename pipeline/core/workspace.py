"""The layout of a working folder: the stages, where things lie, and where MLflow is."""

import os
from pathlib import Path

DATA = Path("data")
LABELS = DATA / "labels"
FEEDBACK = DATA / "feedback"
STATE = Path(".bertline")
LOCK = Path("dvc.lock")
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
"""The stages of the line, each with a folder in data/<recipe>/."""


def tracking() -> str:
    """MLflow's address: MLFLOW_TRACKING_URI, else a SQLite file in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
