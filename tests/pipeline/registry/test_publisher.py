"""Publishing once, whatever an earlier attempt left, in MLflow's embedded form."""

from pathlib import Path

import pytest

from pipeline.core.errors import Unavailable
from pipeline.core.log import no_log
from pipeline.registry.live_run import LiveRun
from pipeline.registry.publisher import Publisher
from pipeline.registry.tags import KEY_TAG
from pipeline.registry.versions import Registry
from tests.pipeline.conftest import Home
from tests.pipeline.registry.toys import publish_toy, runs


def test_a_published_run_is_not_written_twice(line: Home, tracking: str, tmp_path: Path) -> None:
    first = publish_toy(line, tracking, tmp_path)
    again = publish_toy(line, tracking, tmp_path)
    assert first == again
    registry = Registry(tracking)
    [run] = runs(registry)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test.accuracy"] > 0.5
    assert run.data.params["finetune.learning_rate"] == "0.1"
    names = {file.path for file in registry.client.list_artifacts(run.info.run_id)}
    assert {"model-card.md", "pictures", "validation", "records"} <= names
    history = registry.client.get_metric_history(run.info.run_id, "training.loss")
    assert len(history) == len((line.finetune / "training.csv").read_text().splitlines()) - 1


def test_another_lineage_is_another_version(line: Home, tracking: str, tmp_path: Path) -> None:
    first = publish_toy(line, tracking, tmp_path)
    second = publish_toy(line, tracking, tmp_path, salt="changed")
    assert (first.version, second.version) == ("1", "2")
    assert first.lineage != second.lineage


def test_a_live_training_is_completed(line: Home, tracking: str, tmp_path: Path) -> None:
    from pipeline.core.records import Fit

    key = Fit.read(line.finetune / "fit.json").key
    with LiveRun(tracking, "toy", key, no_log) as live:
        live.point(1, {"training.loss": 9.0})
    registry = Registry(tracking)
    [before] = runs(registry)
    publication = publish_toy(line, tracking, tmp_path)
    [after] = runs(registry)
    assert before.info.run_id == after.info.run_id == publication.run
    losses = {
        m.step: m.value
        for m in registry.client.get_metric_history(after.info.run_id, "training.loss")
    }
    assert losses[1] == 9.0  # what was told stays, what was missing is added
    assert len(losses) > 5


def test_a_publication_stopped_half_way_is_completed(
    line: Home,
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Publisher, "_register", stop)
    with pytest.raises(KeyboardInterrupt):
        publish_toy(line, tracking, tmp_path, margin=0.1)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    publication = publish_toy(line, tracking, tmp_path, margin=0.2, seed=1)  # edited meanwhile
    [run] = runs(Registry(tracking))
    assert run.info.run_id == publication.run
    assert run.data.tags[KEY_TAG] == publication.key
    params = run.data.params
    assert (params["gate.margin"], params["gate.seed"]) == ("0.1", "1")


def test_a_version_that_is_gone_is_registered_again_from_its_run(
    line: Home, tracking: str, tmp_path: Path
) -> None:
    first = publish_toy(line, tracking, tmp_path, margin=0.1)
    registry = Registry(tracking)
    registry.client.delete_model_version("toy", first.version)
    second = publish_toy(line, tracking, tmp_path, margin=0.2)
    assert (second.run, second.version) == (first.run, "2")
    assert registry.damage("toy", second.version) == []
    [run] = runs(registry)
    assert run.data.params["gate.margin"] == "0.1"


def test_mlflow_being_down_is_one_line_and_loses_nothing(
    line: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable, match="does not answer") as caught:
        publish_toy(line, "http://user:secret@127.0.0.1:9", tmp_path)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "publish" / "publication.json").exists()
