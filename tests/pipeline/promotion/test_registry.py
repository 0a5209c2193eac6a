"""Publishing once, promoting by the ledger, rolling back: in MLflow's embedded form."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters import mlflow_client
from pipeline.adapters.live_run import LiveRun
from pipeline.adapters.mlflow import KEY_TAG, Registry
from pipeline.errors import Unavailable, UserError
from pipeline.log import no_log
from pipeline.promotion import registry as promotion
from pipeline.promotion.gate import Champion, GateParams, judge
from pipeline.records import Entry, Ladder, Publication
from pipeline.stages import ORDER, publish
from pipeline.stages.publish import PublishParams
from tests.pipeline.conftest import Home


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def write_lock(folder: Path, salt: str = "") -> Path:
    """A dvc.lock as if the toy's stages had run."""
    from ruamel.yaml import YAML

    stages = {
        f"{stage}@toy": {
            "cmd": f"python -m pipeline {stage} toy",
            "deps": [{"path": f"pipeline/stages/{stage}.py", "md5": f"{stage}{salt}"}],
            "params": {"params.yaml": {}},
            "outs": [{"path": f"data/toy/{stage}", "md5": "0"}],
        }
        for stage in ORDER
    }
    path = folder / "dvc.lock"
    with path.open("w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)
    return path


def publish_toy(home: Home, tracking: str, folder: Path, salt: str = "") -> Publication:
    return publish.publish(
        PublishParams(description="A toy."),
        "toy",
        {"finetune": {"learning_rate": 0.1}, "ingest": {"source": "x" * 9000}},
        write_lock(folder, salt),
        tracking,
        *(home.folder / stage for stage in ORDER[:-1]),
        folder / "publish",
    )


def runs(registry: Registry) -> list[Any]:
    experiment = registry.client.get_experiment_by_name("toy").experiment_id
    return list(registry.client.search_runs([experiment]))


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
    from pipeline.records import Fit

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

    monkeypatch.setattr(Registry, "_register", stop)
    with pytest.raises(KeyboardInterrupt):
        publish_toy(line, tracking, tmp_path)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    publication = publish_toy(line, tracking, tmp_path)
    [run] = runs(Registry(tracking))
    assert run.info.run_id == publication.run
    assert run.data.tags[KEY_TAG] == publication.key


def test_the_version_answers_through_onnx_runtime_alone(
    line: Home,
    tracking: str,
    tmp_path: Path,
) -> None:
    publication = publish_toy(line, tracking, tmp_path)
    registry = Registry(tracking)
    [answer] = registry.scores("toy", publication.version, ["goal match striker league"])
    assert set(answer) == {"label", "score", "score_film", "score_money", "score_sport"}
    assert answer["label"] == "sport"
    model = next((tmp_path / "mlartifacts").rglob("requirements.txt"))
    assert "torch" not in model.read_text()
    folder = model.parent
    assert not [f for f in folder.rglob("*") if f.suffix in (".pkl", ".pt", ".bin")]
    served = Ladder.read(line.benchmark / "ladder.json")
    onnx = line.export / str(served.rung(served.picked).file)
    [registered] = list(folder.rglob("*.onnx"))
    assert registered.read_bytes() == onnx.read_bytes()


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


def test_a_live_run_that_cannot_be_written_ends_no_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    class Said:
        say = staticmethod(said.append)
        progress = staticmethod(lambda *_: None)

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with LiveRun("http://127.0.0.1:9", "toy", "key", Said()) as live:
        live.point(1, {"training.loss": 1.0})
    [sentence] = said
    assert "publish writes them later" in sentence


def test_a_training_that_failed_is_a_run_that_failed(tracking: str) -> None:
    with pytest.raises(UserError), LiveRun(tracking, "toy", "key", no_log) as live:
        live.point(1, {"training.loss": 1.0})
        raise UserError("the loss is nan")
    [run] = runs(Registry(tracking))
    assert (run.info.status, run.data.metrics["training.loss"]) == ("FAILED", 1.0)


class Versions(Registry):
    """A registry of four empty versions, without MLflow's slow model logging."""

    def __init__(self, tracking: str) -> None:
        super().__init__(tracking)
        self.client.create_registered_model("toy")
        for number in range(1, 5):
            self.client.create_model_version("toy", source=f"file:///nowhere/{number}")


def champions(entries: list[tuple[str, Entry, bool]]) -> list[tuple[str, str, str | None]]:
    return [(entry.event, entry.version, entry.previous) for _, entry, _ in entries]


def test_the_ledger_tells_promotions_and_rollbacks_in_order(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "3"):
        promotion.promote(registry, "toy", number, f"reason {number}")
    promotion.rollback(registry, "toy")
    assert registry.champion("toy") == "2"
    promotion.promote(registry, "toy", "4", "again")
    promotion.rollback(registry, "toy")
    promotion.rollback(registry, "toy")
    assert registry.champion("toy") == "1"
    with pytest.raises(UserError, match="toy/1: has no predecessor"):
        promotion.rollback(registry, "toy")
    assert champions(registry.entries("toy")) == [
        ("promote", "1", None),
        ("promote", "2", "1"),
        ("promote", "3", "2"),
        ("rollback", "2", "3"),
        ("promote", "4", "2"),
        ("rollback", "2", "4"),
        ("rollback", "1", "2"),
    ]


def test_a_crash_between_entry_and_alias_is_carried_out_at_the_next_look(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Versions(tracking)
    promotion.promote(registry, "toy", "1", "first")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "move", crash)
    with pytest.raises(KeyboardInterrupt):
        promotion.promote(registry, "toy", "2", "second")
    monkeypatch.undo()
    assert registry.champion("toy") == "1"
    assert promotion.champion_of(registry, "toy") == "2"
    assert registry.champion("toy") == "2"
    assert all(settled for _, _, settled in registry.entries("toy"))


def test_a_version_that_is_held_is_in_the_ledger_once(tracking: str) -> None:
    registry = Versions(tracking)
    promotion.promote(registry, "toy", "1", "first")
    held = judge(
        GateParams(floor_accuracy=0.1, floor_macro_f1=0.1, significance=0.05),
        "2",
        ["a", "b"],
        ["a", "b"],
        ["a", "b"],
        Champion("1", ["a", "b"]),
    )
    for _ in range(2):
        promotion.decide(registry, "toy", "2", held)
    assert registry.champion("toy") == "1"
    assert champions(registry.entries("toy")) == [("promote", "1", None), ("hold", "2", "1")]
    with pytest.raises(UserError, match="no predecessor"):
        promotion.rollback(registry, "toy")


def test_a_champion_promoted_twice_is_rolled_back_to_its_predecessor(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "2"):
        promotion.promote(registry, "toy", number, "again")
    assert promotion.rollback(registry, "toy").version == "1"


def test_an_unknown_version_is_named_with_those_that_there_are(tracking: str) -> None:
    with pytest.raises(UserError, match="toy/9: no such version; there are 1, 2, 3, 4"):
        Versions(tracking).version_tags("toy", "9")


def test_an_address_is_shown_without_its_password() -> None:
    assert mlflow_client.shown("postgresql://me:pw@host/db") == "postgresql://host/db"
