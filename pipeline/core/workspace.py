"""Layout of a working folder: the stages, its paths, and the address of MLflow."""

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
"""Stages of the pipeline, each with a folder in data/<recipe>/."""


def tracking() -> str:
    """Return MLflow's address: MLFLOW_TRACKING_URI, else a SQLite file in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
