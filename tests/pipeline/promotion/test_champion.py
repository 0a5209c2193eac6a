"""Publishing once, promoting by the ledger, rolling back: in MLflow's embedded form."""

import shutil
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import tasks
from pipeline.core.errors import Unavailable, UserError
from pipeline.core.log import no_log
from pipeline.core.records import Benchmark, Publication
from pipeline.core.workspace import ORDER
from pipeline.promotion import champion as promotion
from pipeline.promotion import evidence
from pipeline.promotion.evidence import Bench
from pipeline.registry import client
from pipeline.registry.ledger import Ledger
from pipeline.registry.live_run import LiveRun
from pipeline.registry.publisher import Publisher
from pipeline.registry.records import Entry, Verdict
from pipeline.registry.tags import KEY_TAG
from pipeline.registry.versions import Registry
from pipeline.stages.publish import stage as publish
from pipeline.stages.publish.params import PublishParams
from tests.pipeline.conftest import Home


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


def publish_toy(
    home: Home, tracking: str, folder: Path, salt: str = "", **gate: object
) -> Publication:
    return publish.publish(
        PublishParams(description="A toy."),
        home.task,
        "toy",
        {"finetune": {"learning_rate": 0.1}, "ingest": {"source": "x" * 9000}, "gate": gate},
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


def test_the_version_answers_through_onnx_runtime_alone(
    line: Home,
    tracking: str,
    tmp_path: Path,
) -> None:
    publication = publish_toy(line, tracking, tmp_path)
    registry = Registry(tracking)
    [answer] = registry.scores("toy", publication.version, [("goal match striker league", "")])
    assert set(answer) == {"label", "score", "score_film", "score_money", "score_sport"}
    assert answer["label"] == "sport"
    model = next((tmp_path / "mlartifacts").rglob("requirements.txt"))
    assert "torch" not in model.read_text()
    folder = model.parent
    assert not [f for f in folder.rglob("*") if f.suffix in (".pkl", ".pt", ".bin")]
    served = Benchmark.read(line.benchmark / "benchmark.json")
    onnx = line.export / str(served.candidate(served.picked).file)
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
        info = staticmethod(said.append)
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


def verdict(number: str, champion: str | None, decision: str = "promote", **facts: Any) -> Verdict:
    """What a gate could have said."""
    said: dict[str, Any] = {
        "model": "toy",
        "version": number,
        "decision": decision,
        "reason": f"reason {number}",
        "champion": champion,
        "epoch": 1,
        "question": 0,
        "level": 0.0,
        "rows": 100,
        "scores": {"accuracy": 0.9, "macro_f1": 0.9},
        "comparisons": [],
        "only_challenger_right": 0,
        "only_champion_right": 0,
        "guardrails": [],
        "rule": {},
        "unfit": False,
        "evidence": {"challenger": number, "champion": str(champion)},
    }
    return Verdict(**(said | facts))


def promote(registry: Registry, number: str) -> Entry | None:
    judged = verdict(number, promotion.champion_of(registry, "toy"))
    return promotion.decide(registry, judged, approved=True)


def told(registry: Registry) -> list[tuple[str, str, str | None]]:
    entries = Ledger(registry, "toy").written()
    assert [entry.number for _, entry, _ in entries] == list(range(1, len(entries) + 1))
    assert all(settled for _, _, settled in entries)
    return [(entry.event, entry.version, entry.previous) for _, entry, _ in entries]


def test_the_ledger_tells_promotions_and_rollbacks_in_order(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "3"):
        promote(registry, number)
    promotion.rollback(registry, "toy")
    assert registry.champion("toy") == "2"
    promote(registry, "4")
    promotion.rollback(registry, "toy")
    promotion.rollback(registry, "toy")
    assert registry.champion("toy") == "1"
    with pytest.raises(UserError, match="toy/1: has no predecessor"):
        promotion.rollback(registry, "toy")
    assert told(registry) == [
        ("promote", "1", None),
        ("promote", "2", "1"),
        ("promote", "3", "2"),
        ("rollback", "2", "3"),
        ("promote", "4", "2"),
        ("rollback", "2", "4"),
        ("rollback", "1", "2"),
    ]
    lived = promotion.reigns(Ledger(registry, "toy").entries())
    assert [(reign.version, reign.ended) for reign in lived] == [
        ("1", "promote"),
        ("2", "promote"),
        ("3", "rollback"),
        ("2", "promote"),
        ("4", "rollback"),
        ("2", "rollback"),
        ("1", None),
    ]


def crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_crash_between_entry_and_alias_is_carried_out_at_the_next_look(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Versions(tracking)
    promote(registry, "1")

    monkeypatch.setattr(Registry, "move", crash)
    with pytest.raises(KeyboardInterrupt):
        promote(registry, "2")
    monkeypatch.undo()
    assert registry.champion("toy") == "1"
    assert promotion.champion_of(registry, "toy") == "2"
    assert registry.champion("toy") == "2"
    assert told(registry) == [("promote", "1", None), ("promote", "2", "1")]


def test_a_crash_while_a_hand_is_written_down_leaves_the_alias_where_it_is(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Versions(tracking)
    promote(registry, "1")

    def look_and_crash() -> None:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Ledger, "settle", crash)
            promotion.champion_of(registry, "toy")

    registry.client.delete_registered_model_alias("toy", "champion")
    look_and_crash()
    assert promotion.champion_of(registry, "toy") is None
    registry.move("toy", "2")
    look_and_crash()
    registry.move("toy", "3")
    assert promotion.champion_of(registry, "toy") == registry.champion("toy") == "3"
    assert told(registry) == [
        ("promote", "1", None),
        ("by hand", "", "1"),
        ("by hand", "2", None),
        ("by hand", "3", "2"),
    ]


def test_an_alias_moved_by_hand_is_taken_in_and_can_be_rolled_back(tracking: str) -> None:
    registry = Versions(tracking)
    registry.move("toy", "3")  # before there is any ledger
    assert promotion.champion_of(registry, "toy") == "3"
    promote(registry, "1")
    registry.move("toy", "2")
    assert promotion.champion_of(registry, "toy") == "2"
    assert promotion.champion_of(registry, "toy") == "2"
    assert told(registry) == [
        ("by hand", "3", None),
        ("promote", "1", "3"),
        ("by hand", "2", "1"),
    ]
    assert "gate not asked" in Ledger(registry, "toy").entries()[-1].reason
    assert promotion.rollback(registry, "toy").version == "1"
    registry.client.delete_registered_model_alias("toy", "champion")
    assert promotion.champion_of(registry, "toy") is None
    assert told(registry)[-1] == ("by hand", "", "1")
    promote(registry, "4")
    assert promotion.rollback(registry, "toy").version == "1"


def test_a_verdict_is_in_the_ledger_once_with_its_pages(tracking: str) -> None:
    registry = Versions(tracking)
    promote(registry, "1")
    held = verdict("2", "1", "hold")
    for _ in range(2):
        promotion.decide(registry, held, approved=True, pages=[("verdict.md", "# held")])
    assert registry.champion("toy") == "1"
    assert told(registry) == [("promote", "1", None), ("hold", "2", "1")]
    identity = Ledger(registry, "toy").written()[-1][0]
    assert registry.artifact(identity, "verdict.md").read_text() == "# held"
    assert Verdict.read(registry.artifact(identity, "verdict.json")) == held
    with pytest.raises(UserError, match="no predecessor"):
        promotion.rollback(registry, "toy")


def test_where_a_person_has_to_agree_the_gate_alone_moves_nothing(tracking: str) -> None:
    registry = Versions(tracking)
    judged = verdict("1", None)
    waiting = promotion.decide(registry, judged, approved=False)
    assert waiting is not None
    assert (waiting.event, registry.champion("toy")) == ("await", None)
    agreed = promotion.decide(registry, judged, approved=True, reason="looked at it")
    assert agreed is not None
    assert agreed.reason == "reason 1; looked at it"
    assert registry.champion("toy") == "1"
    assert told(registry) == [("await", "1", None), ("promote", "1", None)]


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_a_person_took_out_of_use_only_a_person_brings_back(
    tracking: str, by_hand: bool
) -> None:
    registry = Versions(tracking)
    for number in ("1", "2"):
        promote(registry, number)
    if by_hand:
        registry.move("toy", "1")
        promotion.champion_of(registry, "toy")
    else:
        promotion.rollback(registry, "toy")
    judged = verdict("2", "1")
    before = told(registry)
    for approved in (True, False):
        assert promotion.decide(registry, judged, approved=approved) is None
    assert (registry.champion("toy"), told(registry)) == ("1", before)

    later = verdict("2", "1", evidence={"challenger": "2", "champion": "1", "rows": "new"})
    for _ in range(2):  # the gate says so on new rows: that is written, once, and waits
        promotion.decide(registry, later, approved=True)
    assert (registry.champion("toy"), told(registry)) == ("1", [*before, ("await", "2", "1")])

    again = promotion.decide(registry, judged, approved=True, person=True, reason="it was the data")
    assert again is not None
    assert (again.event, again.reason) == ("promote", "reason 2; it was the data")
    assert registry.champion("toy") == "2"
    assert promotion.decide(registry, judged, approved=True, person=True) is None
    assert told(registry) == [*before, ("await", "2", "1"), ("promote", "2", "1")]
    assert promotion.rollback(registry, "toy").version == "1"


def test_after_a_rollback_a_run_waits_and_promote_does_what_it_says(
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from flows import gate
    from flows.cli import main
    from flows.cli.commands import versions

    registry = Versions(tracking)
    params: Any = SimpleNamespace(approve=False)
    bench = Bench(registry, "toy", tasks.get("classification"), params, tmp_path, tmp_path)

    def ask(_: Bench, number: str) -> Verdict:
        return verdict(number, "1" if number == "2" else None)

    monkeypatch.setattr(evidence, "ask", ask)
    monkeypatch.setattr(evidence, "answers_page", lambda *_: [])
    monkeypatch.setattr(versions, "_bench", lambda *_: bench)
    for number in ("1", "2"):
        assert gate.decide(bench, number, person=False)[1] == "promote"
    promotion.rollback(registry, "toy")
    for _ in range(2):
        assert gate.decide(bench, "2", person=False)[1] == "await"
    assert registry.champion("toy") == "1"
    assert main.main(["promote", "toy/2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["promote: reason 2", "toy/2 is the champion"]
    assert registry.champion("toy") == "2"
    events = [(event, number) for event, number, _ in told(registry)]
    assert events == [("promote", "1"), ("promote", "2"), ("rollback", "1"), ("promote", "2")]


def test_what_a_better_one_replaced_may_come_back_by_itself(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "1"):
        promote(registry, number)
    assert registry.champion("toy") == "1"


def test_a_person_against_the_gate_gives_the_reason(tracking: str) -> None:
    registry = Versions(tracking)
    judged = verdict("1", None, "reject")
    with pytest.raises(UserError, match="toy/1: give a reason for the ledger: --reason TEXT"):
        promotion.force(registry, "override", " ", judged)
    entry = promotion.force(registry, "override", "the old one leaks names", judged)
    assert (entry.decision, entry.reason) == ("reject", "the old one leaks names")
    assert registry.champion("toy") == "1"


def test_a_verdict_that_was_overtaken_is_not_carried_out(tracking: str) -> None:
    registry = Versions(tracking)
    promote(registry, "1")
    against_none = verdict("2", None)
    with pytest.raises(promotion.Overtaken):
        promotion.decide(registry, against_none, approved=True)
    spent = verdict("2", "1", "hold", question=1)
    promotion.decide(registry, spent, approved=True)
    same_question = verdict("3", "1", "hold", question=1)
    with pytest.raises(promotion.Overtaken):
        promotion.decide(registry, same_question, approved=True)


def test_a_champion_promoted_twice_is_rolled_back_to_its_predecessor(tracking: str) -> None:
    registry = Versions(tracking)
    for number in ("1", "2", "2"):
        promote(registry, number)
    assert promotion.rollback(registry, "toy").version == "1"


def test_the_lock_lets_one_in_and_outlives_no_dead_holder(tracking: str) -> None:
    registry = Versions(tracking)
    ledger = Ledger(registry, "toy")
    held = pytest.raises(Unavailable, match=r"toy\.lock is held by process")
    with ledger.lock(), held, ledger.lock(patience=0.3):
        pass
    with ledger.lock(patience=0.3):
        pass
    dead = subprocess.Popen(["true"])
    dead.wait()
    tags = {"host": socket.gethostname(), "process": str(dead.pid), "until": "9e9"}
    registry.client.create_registered_model("toy.lock", tags=tags | {"token": "t"})
    with ledger.lock(patience=0.3):
        pass
    elsewhere = tags | {"host": "another", "token": "u"}
    registry.client.create_registered_model("toy.lock", tags=elsewhere)
    with pytest.raises(Unavailable), ledger.lock(patience=0.3):
        pass
    registry.client.set_registered_model_tag("toy.lock", "until", "1")  # its lease is over
    with ledger.lock(patience=0.3):
        pass


def test_no_model_and_no_alias_are_no_champion(tracking: str) -> None:
    registry = Versions(tracking)
    assert registry.champion("nobody") is None
    assert registry.champion("toy") is None
    registry.move("toy", "1")
    assert registry.champion("toy") == "1"


@pytest.mark.parametrize(
    "call",
    [
        *("get_model_version_by_alias", "get_model_version", "set_registered_model_alias"),
        *("create_registered_model", "search_runs", "create_run", "set_tag"),
    ],
)
def test_an_mlflow_that_fails_is_told_in_one_line_and_is_no_hand(
    tracking: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    registry = Versions(tracking)
    promote(registry, "1")
    promotion.champion_of(registry, "toy")

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("database is locked\n[SQL: SELECT 1]", TEMPORARILY_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, fail)
        judged = verdict("2", "1")
        with pytest.raises(Unavailable, match=r"^MLflow at sqlite:.*: database is locked$"):
            promotion.decide(registry, judged, approved=True)
    promote(registry, "2")  # where it is not there already
    assert promotion.champion_of(registry, "toy") == "2"
    assert told(registry) == [("promote", "1", None), ("promote", "2", "1")]


def test_a_database_that_fails_is_not_one_without_a_champion(
    tracking: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(tracking)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE registered_models")
    with pytest.raises(Unavailable, match=r"no such table: registered_models$"):
        registry.champion("toy")
    assert not caplog.records  # of MLflow's own: a stack trace


def test_files_that_are_gone_and_files_that_do_not_come_are_told_apart(
    line: Home, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish_toy(line, tracking, tmp_path).version
    shutil.rmtree(Registry(tracking).folder("toy", version))
    with pytest.raises(UserError, match=r"^toy/1: cannot read its files .* rollback toy$"):
        Registry(tracking).load("toy", version)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fail)
    with pytest.raises(Unavailable, match=r"^MLflow at sqlite:.*: refused$"):
        Registry(tracking).load("toy", version)


def test_a_changed_file_of_a_version_is_named_and_not_served(
    line: Home, tracking: str, tmp_path: Path
) -> None:
    publication = publish_toy(line, tracking, tmp_path)
    registry = Registry(tracking)
    assert registry.damage("toy", publication.version) == []
    [model] = registry.folder("toy", publication.version).rglob("*.onnx")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    [damage] = registry.damage("toy", publication.version)
    assert damage.endswith(f"{model.name} of toy/1 has changed")
    with pytest.raises(UserError, match="it is not served; bertline rollback toy"):
        registry.scores("toy", publication.version, [("a text", "")])
    model.unlink()
    assert registry.damage("toy", publication.version)[0].endswith("is missing")


def test_an_unknown_version_is_named_with_those_that_there_are(tracking: str) -> None:
    with pytest.raises(UserError, match="toy/9: no such version; there are 1, 2, 3, 4"):
        Versions(tracking).version_tags("toy", "9")


def test_an_address_is_shown_without_its_password() -> None:
    assert client.shown("postgresql://me:pw@host/db") == "postgresql://host/db"
