"""Report of `bertline check`: what a run would read, refuse, train and cost."""

import json
from pathlib import Path

import pytest

from flows.cli import main
from pipeline.core.config import read_recipe
from pipeline.core.workspace import ORDER
from tests.conftest import make_rows, news_params, toy_block, write_csv, write_params
from tests.servers import Site


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped params.yaml."""
    (tmp_path / "params.yaml").write_text(news_params())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC says that nothing has run yet."""
    monkeypatch.setattr("flows.steps.stale_stages", lambda name: set(ORDER))


def test_check_tells_rows_classes_and_time(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(home / "a.csv", make_rows(300))
    write_params(home / "params.yaml", {"toy": toy_block(tiny_base, "a.csv")})
    assert main.main(["check", "toy"]) == 0
    told = capsys.readouterr().out
    assert "recipe toy is well formed\ndata   a.csv: 300 rows (" in told
    assert "label  3 classes: " in told
    assert "run    ingest, validate" in told
    assert "time   about 1 min" in told


def test_check_reads_rows_of_the_web(
    home: Path, tiny_base: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.pages["/a.csv"] = write_csv(home / "a.csv", make_rows(300)).read_bytes()
    url = f"{site.url}/a.csv"
    write_params(home / "params.yaml", {"toy": toy_block(tiny_base, url)})
    assert main.main(["check", "toy"]) == 0
    assert f"data   {url}: 300 rows (" in capsys.readouterr().out
    del site.pages["/a.csv"]
    assert main.main(["check", "toy"]) == 2
    assert f"{url}: no such object: correct the source" in capsys.readouterr().err


def test_check_shows_a_terminal_the_same_facts_and_brackets_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [("label", "2 classes: [b] 3, " + "word " * 30), ("", "a.csv, line 2: [red]")]
    monkeypatch.setattr("flows.cli.preflight.outlook", lambda recipe, log: told)
    monkeypatch.setattr("flows.cli.terminal.watched", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    assert main.main(["check", "toy"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("label  2 classes: [b] 3, word")
    assert {line[:7] for line in rest} == {" " * 7}
    assert rest[-1] == "       a.csv, line 2: [red]"


def test_check_knows_the_labels_of_any_task(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"text": row["text"], "label": f"{row['label']}, all" if i else "[1]"}
        for i, row in enumerate(make_rows(30))
    ]
    write_csv(home / "a.csv", rows)
    assert main.main(["new", "tags", "a.csv", "--task", "multilabel"]) == 0
    block = read_recipe("tags")
    block["base"].update({"model": str(tiny_base), "sha256": None, "watch": str(tiny_base)})
    block["tokenize"]["max_length"] = 24
    write_params(home / "params.yaml", {"tags": block})
    assert main.main(["check", "tags"]) == 0
    told = capsys.readouterr().out
    assert "29 rows (" in told
    assert "a.csv, line 2: " in told
    assert "label  4 classes: all 29" in told


def test_check_tells_spans_that_begin_inside_a_word(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": row["text"], "label": [[0, 3, "X"]]} for row in make_rows(40)]
    rows[7] = {"text": "goal goals", "label": [[1, 4, "X"]]}
    (home / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main.main(["new", "names", "a.jsonl", "--task", "ner", "--base", str(tiny_base)]) == 0
    capsys.readouterr()
    main.main(["check", "names"])
    told = capsys.readouterr().out
    assert "labels are doubtful, the first a.jsonl, line " in told
    assert "inside a word" in told


def test_check_knows_a_base_from_scratch(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(home / "a.csv", make_rows(60))
    assert main.main(["new", "words", "a.csv", "--task", "masked_lm"]) == 0
    block = read_recipe("words")
    network = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    network |= {"intermediate_size": 64, "max_position_embeddings": 24}
    block["base"].update({"model": "scratch", "sha256": None, "network": network})
    block["base"]["watch"] = "a.csv"
    block["tokenize"]["max_length"] = 24
    block["tokenize"]["vocabulary"] = {"size": 200, "lower_case": True, "min_frequency": 2}
    write_params(home / "params.yaml", {"words": block})
    assert main.main(["check", "words"]) == 0
    told = capsys.readouterr().out
    assert "base   scratch: 0 MB" in told
    assert "time   about 1 min" in told


def test_check_tells_what_would_end_the_line(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(home / "params.yaml", {"toy": toy_block(tiny_base, "a.csv")})
    rows = write_csv(home / "a.csv", make_rows(40)).read_bytes()
    (home / "a.csv").write_bytes(rows + b"too,many,fields\n" * 10)
    assert main.main(["check", "toy"]) == 0
    told = capsys.readouterr().out
    assert "undecodable: 10 rows (20 %), quarantine, first a.csv, line 42: " in told
    assert "20 % of all rows, more than validate.max_quarantine_percent" in told
    (home / "a.csv").write_bytes(b"text,label\n" + b"too,many,fields\n" * 10)
    assert main.main(["check", "toy"]) == 2
    told = capsys.readouterr().err
    assert "a.csv, line 2: no rows: all are unreadable, the first " in told


def checked(
    home: Path, base: Path, rows: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Return the lines of check on rows, with the policy `fail` for all rules, and check that
    nothing is left of the work and that --strict ends with 2 where the run would stop."""
    block = toy_block(base, "a.csv")
    block["validate"]["rules"] = dict.fromkeys(block["validate"]["rules"], "fail")
    write_params(home / "params.yaml", {"toy": block})
    write_csv(home / "a.csv", rows)
    assert main.main(["check", "toy"]) == 0
    told = capsys.readouterr().out
    stops = told.startswith("recipe toy is well formed, but its run would stop at validate\n")
    assert stops == ("the run would stop there" in told)
    assert main.main(["check", "toy", "--strict"]) == (2 if stops else 0)
    assert list((home / ".bertline").glob("check-*")) == []
    capsys.readouterr()
    return told.splitlines()


def test_check_foresees_all_rules_at_once(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows(200)
    bad = [{"text": "a text", "label": ""}, {"text": " ", "label": "film"}, rows[3], rows[3]]
    told = checked(home, tiny_base, [*rows, *bad], capsys)
    [start] = [place for place, line in enumerate(told) if line.startswith("rules  ")]
    stop = ": the run would stop there"
    assert told[start : start + 4] == [
        f"rules  unlabelled: 1 row (0.49 %), fail, first a.csv, line 202: no label{stop}",
        f"       blank: 1 row (0.49 %), fail, first a.csv, line 203: blank{stop}",
        "       duplicate: 2 rows (0.98 %), fail, first a.csv, line 204: duplicate of line 5"
        + stop,
        "       to go on: fix these rows, or set unlabelled, blank, duplicate of validate.rules to"
        " quarantine",
    ]


def test_check_of_one_row_without_a_label_tells_that_nothing_can_be_learned(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = checked(home, tiny_base, [{"text": "a text", "label": ""}], capsys)
    assert any("no training row has a class: there is nothing to learn" in line for line in told)


def test_check_foresees_too_few_rows_of_a_split(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = checked(home, tiny_base, make_rows(8), capsys)
    assert any("rows of at least 5 (min_rows): the run would stop there" in line for line in told)


def test_check_tells_classes_that_look_alike(
    home: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows(200)
    rows += [row | {"label": "Sport"} for row in make_rows(60, seed=5)]
    told = checked(home, tiny_base, rows, capsys)
    assert any("'Sport' (60 rows)" in line and "differ by case only" in line for line in told)
    assert not any("would stop" in line for line in told)
