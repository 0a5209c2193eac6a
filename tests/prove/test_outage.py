"""MLflow is down: one stage fails, in one line, and nothing is lost."""

import pytest

from pipeline.core.files import sha256_of
from tests.conftest import Workspace

pytestmark = pytest.mark.prove


def test_mlflow_down_fails_publish_alone_and_it_is_tried_again(workspace: Workspace) -> None:
    workspace.repro("export@toy")
    weights = workspace.folder / "data" / "toy" / "finetune" / "model" / "model.safetensors"
    before = sha256_of(weights)
    workspace.variables["MLFLOW_TRACKING_URI"] = "http://me:hush@127.0.0.1:9"
    workspace.variables["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    done = workspace.call(*workspace.bertline, "run", "toy", code=2)
    assert done.stderr.count("Running stage 'publish@toy'") == 3
    [last] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert last.startswith("error: publish of toy: MLflow at http://127.0.0.1:9 does not answer")
    assert "hush" not in done.stdout + done.stderr

    workspace.variables.clear()
    again = workspace.call(*workspace.bertline, "run", "toy")
    assert again.stderr.count("fresh: nothing to do") == 7
    assert "verdict on toy/1: promote" in again.stdout
    assert sha256_of(weights) == before
