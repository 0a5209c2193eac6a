"""Where things lie in the folder that is worked in, and where MLflow is: for the door and flows."""

import os
from pathlib import Path

DATA = Path("data")
LABELS = DATA / "labels"
FEEDBACK = DATA / "feedback"
STATE = Path(".bertline")
LOCK = Path("dvc.lock")


def tracking() -> str:
    """MLflow's address: MLFLOW_TRACKING_URI, else a SQLite file in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
