"""Calls of fsck, gc and forget that need no run of the pipeline."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from flows.cli import main, upkeep
from pipeline.core.config import parse, read_task
from pipeline.core.text import content_id
from pipeline.stages.ingest.params import IngestParams
from pipeline.stages.ingest.stage import ingest
from pipeline.upkeep import forget
from tests.conftest import make_rows, toy_block, write_csv, write_params
from tests.pipeline.upkeep.conftest import Shop, damage, database, rows_table, shop  # noqa: F401

PERSON = "Marigold Featherstonehaugh asks about her team"
NAME = content_id(PERSON)


@pytest.fixture
def folder(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:  # noqa: F811
    """Ingested recipe with its table in the cache, and a version trained on one row."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(shop.folder / "prefect"))
    monkeypatch.setattr(upkeep, "cache_folder", lambda: shop.cache.folder)
    rows = [*make_rows(30), {"text": PERSON, "label": "sport"}]
    write_csv(shop.folder / "data" / "raw" / "toy.csv", rows)
    block = toy_block("base", "data/raw/toy.csv")
    write_params(shop.folder / "params.yaml", {"toy": block})
    (shop.folder / "dvc.yaml").write_text("stages: {}\n")
    task = read_task(block["task"], "task")
    ingest(parse(IngestParams, block["ingest"], ""), task, Path("data/toy/ingest"))
    table = Path("data/toy/ingest/rows.parquet")
    name = shop.keep(table.read_bytes())
    outs = [{"path": str(table), "md5": name}]
    Path("dvc.lock").write_text(json.dumps({"stages": {"ingest@toy": {"outs": outs}}}))
    number = shop.version({str(table): name}, {"records/rows.parquet": rows_table(NAME, "y")})
    shop.enter("promote", number)
    Path("ids.txt").write_text(f"{NAME}\n")
    return shop


def holders(folder: Path) -> list[Path]:
    from pipeline.upkeep.rows import Forgotten

    forgotten = Forgotten.of([NAME], [PERSON], [])
    return list(forget.remains(folder, forgotten, [folder / "ids.txt"]))


def test_a_sound_folder_is_sound_and_a_damaged_one_is_not(
    folder: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["fsck"]) == 0
    assert capsys.readouterr().out == "nothing is damaged\n"
    damage(Path("data/toy/ingest/rows.parquet"))
    assert main.main(["fsck", "toy"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "data/toy/ingest/rows.parquet: changed since its stage ran:"
        " dvc checkout -f data/toy/ingest/rows.parquet, or dvc repro ingest@toy",
        "1 damaged",
    ]


def test_a_damaged_database_is_told_before_it_is_asked(
    folder: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(Path("mlflow.db").read_bytes())
    content[4096 : 4096 * 40] = b"\xff" * (4096 * 39)
    Path("mlflow.db").write_bytes(content)
    assert main.main(["fsck"]) == 1
    assert "mlflow.db: is damaged" in capsys.readouterr().out


def test_fsck_makes_no_database_where_there_is_none(folder: Shop) -> None:
    Path("mlflow.db").unlink()
    assert main.main(["fsck"]) == 0
    assert not Path("mlflow.db").exists()


def test_gc_only_says_it_until_it_is_told_to(
    folder: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    loose = folder.keep(b"nobody needs this")
    assert main.main(["gc"]) == 0
    assert "nothing has been deleted: --yes deletes it" in capsys.readouterr().out
    assert folder.cache.has(loose)
    assert main.main(["gc", "--yes"]) == 0
    assert not folder.cache.has(loose)
    assert main.main(["fsck"]) == 0
    capsys.readouterr()
    assert main.main(["gc", "--budget", "1B", "--yes"]) == 1
    assert "1 B cannot be reached" in capsys.readouterr().out


def test_gc_shows_a_terminal_the_same_table(
    folder: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.keep(b"nobody needs this")
    assert main.main(["gc"]) == 0
    *rows, stays, note = capsys.readouterr().out.splitlines()
    monkeypatch.setattr("flows.cli.terminal.watched", lambda: True)
    assert main.main(["gc"]) == 0
    head, rule, *drawn = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "what goes"
    assert set(rule.strip()) == {"─"}
    cells = [[re.split(r"\s{2,}", row.strip()) for row in lines] for lines in (rows, drawn[:-2])]
    assert cells[0] == cells[1]
    assert drawn[-2:] == [stays, note]


def test_gc_leaves_a_shared_cache_alone(
    folder: Shop,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = tmp_path_factory.mktemp("shared")
    monkeypatch.setattr(upkeep, "cache_folder", lambda: shared)
    assert main.main(["gc", "--yes"]) == 2
    assert "other projects may use it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "lock", [".bertline/locks/line.lock", ".bertline/locks/toy.finetune.lock", ".dvc/tmp/lock"]
)
def test_nothing_is_removed_while_something_is_at_work(
    folder: Shop, capsys: pytest.CaptureFixture[str], lock: str
) -> None:
    Path(lock).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        assert main.main(["gc", "--yes"]) == 2
        assert main.main(["forget", "toy", "--ids", "ids.txt", "--yes"]) == 2
    assert capsys.readouterr().err.count("wait for its end") == 2


def test_a_forgotten_row_is_nowhere_and_its_versions_are_told(
    folder: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = Path(".bertline/answers/x.parquet")
    answers.parent.mkdir(parents=True)
    answers.write_bytes(b"scores")
    nightly = Path(".bertline/worktrees/toy/data/raw/toy.csv")
    nightly.parent.mkdir(parents=True)
    shutil.copy("data/raw/toy.csv", nightly)
    before = Path("data/raw/toy.csv").read_text()
    assert len(holders(folder.folder)) == 5
    assert main.main(["forget", "toy", "--ids", "ids.txt"]) == 0
    told = capsys.readouterr().out
    assert "toy/1, the champion, has learned from 1 of them" in told
    assert "nothing has been done: --yes does it" in told
    assert len(holders(folder.folder)) == 5
    assert main.main(["forget", "toy", "--ids", "ids.txt", "--yes"]) == 0
    assert "no file of this folder holds them any more" in capsys.readouterr().out
    assert holders(folder.folder) == []
    assert not answers.exists()
    assert Path("data/raw/toy.csv").read_text() == before.replace(f"{PERSON},sport\n", "")


def sent_back(folder: Path, *texts: str, recipe: str = "toy", consent: bool = True) -> None:
    """Feedback and the labels made from it."""
    from pipeline.serving.feedback import SentFeedback, Store

    for text in texts:
        sent = SentFeedback("toy/1", "", text, "", "sport", consent, "film", 0.4)
        Store(folder / "data" / "feedback", recipe).add(sent)
        labels = folder / "data" / "labels" / f"{recipe}.jsonl"
        labels.parent.mkdir(exist_ok=True)
        with labels.open("a") as file:
            file.write(json.dumps({"text": text, "label": "sport"}) + "\n")


def test_a_row_that_was_sent_back_is_forgotten_there_too(
    folder: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    sent_back(folder.folder, "another text", PERSON, PERSON, "a third one")
    sent_back(folder.folder, PERSON, consent=False)
    feedback, labels = Path("data/feedback/toy.jsonl"), Path("data/labels/toy.jsonl")
    with feedback.open("a") as file:
        file.write(f'{{"id": "cut", "text": "{PERSON}')
    before = labels.read_text().splitlines(keepends=True)
    assert main.main(["forget", "toy", "--ids", "ids.txt", "--yes"]) == 0
    told = capsys.readouterr().out
    assert "  rewrite data/labels/toy.jsonl without 3 lines" in told
    assert "  rewrite data/feedback/toy.jsonl without 4 lines" in told
    assert holders(folder.folder) == []
    assert labels.read_text() == before[0] + before[3]
    kept = [json.loads(line)["text"] for line in feedback.read_text().splitlines()]
    assert kept == ["another text", "a third one"]
    assert feedback.stat().st_mode & 0o777 == 0o600


def test_what_was_only_sent_back_is_known_and_forgotten(
    folder: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Bartholomew Quillfeather wants his letter back"
    sent_back(folder.folder, text, consent=False)
    Path("data/labels/toy.jsonl").unlink()
    Path("ids.txt").write_text(f"{content_id(text)}\n")
    assert main.main(["forget", "toy", "--ids", "ids.txt", "--yes"]) == 0
    assert "no version has learned from them" in capsys.readouterr().out
    assert Path("data/feedback/toy.jsonl").read_text() == ""
    assert PERSON in Path("data/raw/toy.csv").read_text()


def test_what_another_recipes_senders_said_is_told(
    folder: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    block = toy_block("base", "data/raw/toy.csv")
    write_params(folder.folder / "params.yaml", {"toy": block, "other": block})
    sent_back(folder.folder, PERSON, recipe="other")
    assert main.main(["forget", "toy", "--ids", "ids.txt", "--yes"]) == 1
    told = capsys.readouterr().out
    for name in ("labels", "feedback"):
        assert f"still in data/{name}/other.jsonl: bertline forget other --ids ids.txt" in told
    assert main.main(["forget", "other", "--ids", "ids.txt", "--yes"]) == 0
    assert holders(folder.folder) == []


def test_a_remote_is_told_what_to_delete(folder: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    Path(".dvc/config").write_text("[core]\n    remote = far\n['remote \"far\"']\n    url = x\n")
    [name] = folder.cache.objects()
    assert main.main(["forget", "toy", "--ids", "ids.txt"]) == 0
    assert f"delete there: files/md5/{name[:2]}/{name[2:]}\n" in capsys.readouterr().out


def test_an_unknown_id_stops_everything(folder: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = hashlib.sha256(b"nobody").hexdigest()[:20]
    Path("ids.txt").write_text(f"{NAME}\n{unknown}\n")
    assert main.main(["forget", "toy", "--ids", "ids.txt", "--yes"]) == 2
    told = capsys.readouterr().err
    assert f"ids.txt: {unknown}: no row of toy has that id; nothing has been done" in told
    assert len(holders(folder.folder)) == 4


@pytest.mark.parametrize("before", range(5))
def test_a_call_that_was_stopped_is_finished_by_the_next(
    folder: Shop, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    done = []

    class Stopping(forget.Step):
        def __getattribute__(self, name: str) -> object:
            if name == "go":
                if len(done) == before:
                    raise KeyboardInterrupt
                done.append(self)
            return super().__getattribute__(name)

    monkeypatch.setattr(forget, "Step", Stopping)
    code = main.main(["forget", "toy", "--ids", "ids.txt", "--yes"])
    assert code == (130 if before < 4 else 0)
    monkeypatch.setattr(forget, "Step", Stopping.__mro__[1])
    if code:
        assert main.main(["forget", "toy", "--ids", "ids.txt", "--yes"]) == 0
    assert holders(folder.folder) == []


def test_what_another_recipe_holds_is_told(
    folder: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    block = toy_block("base", "data/raw/toy.csv")
    write_params(folder.folder / "params.yaml", {"toy": block, "other": block})
    task = read_task(block["task"], "task")
    ingest(parse(IngestParams, block["ingest"], ""), task, Path("data/other/ingest"))
    assert main.main(["forget", "toy", "--ids", "ids.txt", "--yes"]) == 1
    told = capsys.readouterr().out
    assert "still in data/other/ingest/rows.parquet: bertline forget other --ids ids.txt" in told
    assert main.main(["forget", "other", "--ids", "ids.txt", "--yes"]) == 0
    assert holders(folder.folder) == []
