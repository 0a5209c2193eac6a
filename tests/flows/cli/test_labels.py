"""Feedback becomes training rows: the unsure first, and none that would stop the pipeline."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from flows.cli import main
from pipeline.core.config import parse, read_recipe, read_task
from pipeline.core.records import Intake
from pipeline.core.text import content_id
from pipeline.serving.feedback import SentFeedback, Store
from pipeline.stages.ingest.params import IngestParams
from pipeline.stages.ingest.stage import ingest
from pipeline.stages.validate.params import ValidateParams
from pipeline.stages.validate.stage import validate
from tests.conftest import make_rows, toy_block, write_csv, write_params
from tests.pipeline.tasks.test_contract import block_of
from tests.pipeline.tasks.toys import TOYS

LABELS = Path("data/labels/toy.jsonl")
RAW = Path("data/raw/toy.csv")
Toy = Callable[..., None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of 100 rows that have been ingested."""
    monkeypatch.chdir(tmp_path)
    write_csv(RAW, make_rows(100))
    write_params(Path("params.yaml"), {"toy": toy_block("base", str(RAW))})
    read()
    return tmp_path


def read() -> Intake:
    block = read_recipe("toy")
    task = read_task(block["task"], "task")
    return ingest(parse(IngestParams, block["ingest"], ""), task, Path("data/toy/ingest"), LABELS)


def rows() -> pd.DataFrame:
    return pd.read_parquet("data/toy/ingest/rows.parquet")


def send(text: str, label: str = "sport", score: float | None = 0.5, **changes: Any) -> None:
    values = {"version": "toy/3", "request": "", "second": "", "consent": True, "answered": "film"}
    sent = SentFeedback(**{**values, **changes}, text=text, label=label, score=score)
    Store(Path("data/feedback"), "toy").add(sent)


def labels(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main.main(["labels", "toy", *arguments]) == 0
    return capsys.readouterr().out


def taken() -> dict[str, str]:
    lines = [json.loads(line) for line in LABELS.read_text().splitlines()]
    return {line["text"]: line["label"] for line in lines}


def test_a_hundred_words_of_feedback_are_a_hundred_new_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, old = Intake.read(Path("data/toy/ingest/intake.json")), rows()
    new = make_rows(100, seed=5)
    for place, row in enumerate(new):
        send(row["text"], row["label"], place / 100)
    told = labels(capsys)
    assert "taken   100 into data/labels/toy.jsonl (" in told
    assert "; confidence 0.00 to 0.99" in told
    assert "next: bertline run toy, or a scheduled retraining" in told
    after, now = read(), rows()
    assert (after.rows, after.labelled) == (200, 100)
    assert after.rows_sha256 != before.rows_sha256
    pd.testing.assert_frame_equal(now[:100], old)
    assert set(now["split"][100:]) == {"train"}
    assert now[["text", "label"]][100:].to_dict("records") == new
    kept = validate(
        parse(ValidateParams, read_recipe("toy")["validate"], ""),
        read_task("classification", "task"),
        Path("data/toy/ingest"),
        Path("data/toy/validate"),
    )
    assert kept.kept == 200


@pytest.mark.parametrize("name", sorted(TOYS))
def test_labels_of_every_task_come_back(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {(r["text"], r.get("second", "")): r for r in TOYS[name](120, Random(4))}
    toys = list(given.values())
    write_csv(RAW, toys[:-12])
    write_params(Path("params.yaml"), {"toy": block_of(name, Path("base"), RAW)})
    before = read()
    task = read_task(name, "task")
    wanted = []
    for row in toys[-12:]:
        second = row.get("second", "")
        label = task.label(row.get("label", ""), row["text"], second)
        send(row["text"], label, second=second, answered=label)
        wanted.append((row["text"], second, label, "train"))
    assert "taken   12 into" in labels(capsys)
    after = read()
    assert (after.labelled, after.undecodable) == (12, 0)
    assert after.rows_sha256 != before.rows_sha256
    frame = rows()[["text", "second", "label", "split"]]
    assert [tuple(row) for row in frame[-12:].to_numpy()] == wanted


def test_the_least_sure_come_first_right_or_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    send("unknown", score=None)
    send("sure and wrong", score=0.99)
    send("unsure and right", score=0.4, answered="sport")
    send("unsure and wrong", score=0.5)
    assert "left    2 with a higher confidence" in labels(capsys, "--most", "2")
    assert list(taken()) == ["unsure and right", "unsure and wrong"]
    labels(capsys, "--most", "1")
    assert list(taken())[2:] == ["sure and wrong"]
    told = labels(capsys)
    assert list(taken())[3:] == ["unknown"]
    assert "left    3 that data/labels/toy.jsonl has already" in told


def test_a_row_tells_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    send("a new goal")
    labels(capsys)
    row = json.loads(LABELS.read_text())
    assert list(row) == ["text", "second", "label", "id", "version", "when"]
    assert (row["id"], row["version"]) == (content_id("a new goal"), "toy/3")


def test_the_last_word_on_a_text_counts(capsys: pytest.CaptureFixture[str]) -> None:
    send("a new goal", "film")
    send("A  new GOAL", "sport")
    labels(capsys)
    assert taken() == {"A  new GOAL": "sport"}
    send("another")
    send("a new goal", "money")
    assert "taken   2 into" in labels(capsys)
    assert taken() == {"a new goal": "money", "another": "sport"}
    assert "taken   0 into" in labels(capsys)


def test_a_label_that_was_mended_by_hand_stays(capsys: pytest.CaptureFixture[str]) -> None:
    send("a new goal", "film")
    labels(capsys)
    mended = LABELS.read_text().replace("film", "sport")
    LABELS.write_text(mended)
    send("another")
    labels(capsys)
    assert LABELS.read_text().startswith(mended)


def test_no_text_comes_back_without_consent(capsys: pytest.CaptureFixture[str]) -> None:
    send("a new goal", consent=False)
    told = labels(capsys)
    assert "1 sent, 1 without consent, 0 texts" in told
    assert "next:" not in told
    assert not LABELS.exists()


def test_what_the_rows_say_already_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    first = rows().iloc[0]
    send(first["text"].upper(), first["label"])
    assert "left    1 whose text and label are in the rows already" in labels(capsys)
    assert not LABELS.exists()


def test_what_contradicts_a_row_is_told_with_both_places(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = rows().iloc[7]
    other = "film" if first["label"] != "film" else "money"
    send("a new goal")
    send(first["text"], other)
    told = labels(capsys)
    assert (
        f"refused data/feedback/toy.jsonl, line 2: says '{other}', where {RAW}, line 9, says"
        f" '{first['label']}': fix that row if it is wrong"
    ) in told
    assert list(taken()) == ["a new goal"]


def test_what_came_back_before_is_no_row_of_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    send("a new goal", "film")
    labels(capsys)
    read()
    send("a new goal", "sport")
    assert "taken   1 into" in labels(capsys)
    assert taken() == {"a new goal": "sport"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "weather"}, "the recipe has no class 'weather'"),
        ({"label": ""}, "it has no label"),
        ({"text": " \t"}, "its text is blank"),
        ({"text": "a\0b"}, "its text has control characters"),
        ({"text": "x" * 100_001}, "its text has 100,001 characters"),
        ({"second": "b"}, "it has a second text"),
    ],
)
def test_what_would_end_the_line_is_refused(
    changes: dict[str, str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    send(**{"text": "a new goal", **changes})
    send("another")
    assert f"refused data/feedback/toy.jsonl, line 1: {reason}\n" in labels(capsys)
    assert list(taken()) == ["another"]


def test_a_label_is_checked_by_the_task_again(capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(RAW, list(TOYS["ner"](60, Random(4))))
    write_params(Path("params.yaml"), {"toy": block_of("ner", Path("base"), RAW)})
    read()
    send("a goal", '[[2, 60, "sport"]]')
    send("a match", "[" * 100_000)
    told = labels(capsys)
    assert "line 1: " in told and "line 2: is no JSON list of spans" in told
    assert "taken   0 into" in told


def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    send("a new goal")
    told = labels(capsys, "--dry-run")
    assert "taken   1 into" in told
    assert "nothing has been written" in told
    assert not LABELS.exists()


def test_feedback_can_lie_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    send("a new goal")
    Path("data/feedback").rename("elsewhere")
    assert "taken   1 into" in labels(capsys, "--feedback", "elsewhere")


def test_rows_of_a_scheduled_run_are_compared_with(capsys: pytest.CaptureFixture[str]) -> None:
    first = rows().iloc[0]
    there = Path(".bertline/worktrees/toy/data/toy/ingest")
    there.parent.mkdir(parents=True)
    Path("data/toy/ingest").rename(there)
    send(first["text"], first["label"])
    send("a new goal", "weather")
    told = labels(capsys)
    assert "left    1 whose text and label are in the rows already" in told
    assert "the recipe has no class 'weather'" in told


def test_without_rows_to_compare_with_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/toy/ingest/rows.parquet").unlink()
    send("a new goal", "weather")
    assert "note: there are no rows to compare with" in labels(capsys)
    assert taken() == {"a new goal": "weather"}


@pytest.mark.parametrize("broken", ["{cut\n", '"text"\n'])
def test_a_broken_file_of_labels_is_named_and_kept(
    broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    LABELS.parent.mkdir()
    LABELS.write_text('{"text": "x", "label": "film"}\n' + broken)
    send("a new goal")
    assert main.main(["labels", "toy"]) == 2
    assert "error: data/labels/toy.jsonl, line 2: is not" in capsys.readouterr().err
    assert LABELS.read_text().endswith(broken)


def test_nothing_is_written_while_the_labels_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    send("a new goal")
    lock = Path(".bertline/locks/toy.ingest.lock")
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert main.main(["labels", "toy"]) == 2
    assert "toy.ingest.lock: another process is using the labels" in capsys.readouterr().err
