"""Files that `make clean` keeps."""

import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT

OURS = (
    "data/news/export/model.onnx",
    "data/news/report/report.html",
    ".bertline/state/x",
    "mlflow.db",
)
YOURS = (
    "data/raw/export/rows.csv",
    "data/labels/report/rows.csv",
    "data/feedback/gate/rows.jsonl",
    "data/behaviour/validate/suite.jsonl",
    "data/my export/evaluate.csv",
    ".bertline/servers/secrets/key",
    ".bertline/servers-2/secrets/key",
    ".bertline/secrets/mlflow-kek",
    "dvc.lock",
)


def test_clean_leaves_what_nobody_can_make_again(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*OURS, *YOURS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [name for name in (*OURS, *YOURS) if (tmp_path / name).exists()] == [*YOURS]
