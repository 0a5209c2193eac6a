"""Live curves of a training."""

import pytest

from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog, no_log
from pipeline.registry.live_run import LiveRun
from pipeline.registry.versions import Registry
from tests.pipeline.registry.toys import runs


def test_a_live_run_that_cannot_be_written_ends_no_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with LiveRun("http://127.0.0.1:9", "toy", "key", FunctionLog(said.append)) as live:
        live.point(1, {"training.loss": 1.0})
    [sentence] = said
    assert "publish writes them later" in sentence


def test_a_training_that_failed_is_a_run_that_failed(tracking: str) -> None:
    with pytest.raises(UserError), LiveRun(tracking, "toy", "key", no_log) as live:
        live.point(1, {"training.loss": 1.0})
        raise UserError("the loss is nan")
    [run] = runs(Registry(tracking))
    assert (run.info.status, run.data.metrics["training.loss"]) == ("FAILED", 1.0)
