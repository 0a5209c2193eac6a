"""The gallery, and blocks that are added to params.yaml."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main, recipes
from pipeline import recipe as parsed
from pipeline import tasks
from pipeline.core.config import parse, read_recipe, read_recipes
from pipeline.core.workspace import ORDER
from pipeline.promotion import gate
from pipeline.stages.benchmark import params as benchmark
from pipeline.stages.evaluate import params as evaluate
from pipeline.stages.finetune import params as finetune
from pipeline.stages.tokenize import params as tokenize
from tests.conftest import make_rows, news_params, toy_block, write_csv, write_params

SHIPPED = news_params()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped params.yaml."""
    (tmp_path / "params.yaml").write_text(SHIPPED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def leaves(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, (*place, key))
    else:
        yield place, content


def plain(content: Any) -> Any:
    return json.loads(json.dumps(content))


@pytest.mark.parametrize("name", recipes.names())
def test_a_ready_recipe_is_well_formed(name: str, home: Path) -> None:
    write_params(home / "params.yaml", {name: recipes.ready(name).placed()})
    parsed.load(name)


@pytest.mark.parametrize("name", recipes.names())
def test_a_ready_recipe_says_only_what_differs(name: str) -> None:
    told = ("about", "language", "rows", "data", "folder", "task")
    own = recipes._yaml().load(recipes.GALLERY / f"{name}.yaml")
    task = tasks.get(own.get("task", recipes.DEFAULT_TASK))
    start = dict(leaves(recipes.starting_block(task)))
    same = [
        place
        for place, value in leaves(own)
        if place[0] not in told and place in start and start[place] == value
    ]
    assert not same
    assert own.get("task") != recipes.DEFAULT_TASK


@pytest.mark.parametrize("name", tasks.known())
def test_a_starting_block_fits_its_task(name: str) -> None:
    task, block = tasks.get(name), recipes.starting_block(tasks.get(name))
    for stage in (tokenize, finetune, evaluate, benchmark):
        section = stage.__name__.split(".")[2]
        kind = getattr(stage, f"{section.capitalize()}Params")
        stage.check(parse(kind, block[section], section), task)
    gate.check(parse(gate.GateParams, block["gate"], "gate"), task)
    guardrails = block["gate"]["guardrails"]
    assert (guardrails["calibration"] is not None) == task.exclusive
    assert (guardrails["flips"] is None) == (task.head in ("masked_lm", "seq2seq"))
    assert (block["tokenize"]["long_text"] == "windows") == (
        task.cut == "second" or task.dynamic_masking
    )


def test_the_listing_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["recipe", *recipes.names()]
    assert lines[0].split() == ["recipe", "task", "language", "rows", "about"]
    assert len({line.index(about) for line, about in zip(lines[1:], _abouts(), strict=True)}) == 1


def _abouts() -> list[str]:
    return [recipes.ready(name).about for name in recipes.names()]


def test_a_page_is_yaml_and_says_where_the_data_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["recipes", "imdb"]) == 0
    shown = capsys.readouterr().out
    ready = recipes.ready("imdb")
    assert shown.startswith(f"# {ready.about}\n# data: {ready.data}\nimdb:\n  task:")
    assert plain(recipes._yaml().load(shown)["imdb"]) == plain(ready.placed())
    assert "source:\n      train: data/raw/imdb/train.parquet\n" in shown


def test_a_recipe_that_is_not_there_is_told_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["recipes", "imbd"]) == 2
    assert "the gallery has no recipe 'imbd'; did you mean imdb?" in capsys.readouterr().err


def test_add_writes_a_whole_block_and_leaves_the_file_as_it_was(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "my data"
    for name in ("train.parquet", "test.parquet"):
        write_csv(folder / name, make_rows(2))
    assert main.main(["add", "imdb", "--as", "films", "--data", "my data/"]) == 0
    assert "recipes.films is added; next: bertline check films" in capsys.readouterr().out
    assert (home / "params.yaml").read_text().startswith(SHIPPED)
    block = read_recipe("films")
    assert block["ingest"]["source"]["test"] == "my data/test.parquet"
    assert block["watch"] == "my data"
    assert block["finetune"]["epochs"] == 1
    assert parsed.load("films").task == block["task"]
    assert list(read_recipes()) == ["news", "films"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("imdb",), "data/raw/imdb/train.parquet: no such file: name the folder of the data by"),
        (("imdb", "--data", "away"), "away/train.parquet: no such file"),
        (("imdb-lora",), "data/raw/imdb/train.parquet"),
        (("zh-base",), "data/raw/chnsenticorp/train.tsv: no such file"),  # the second of a list
        (("news",), "recipes.news is there already"),
        (("imdb", "--as", "news"), "recipes.news is there already"),
        (("imdb", "--as", "../x"), "recipe name '../x'"),
        (("imbd",), "did you mean imdb?"),
    ],
)
def test_add_writes_nothing_where_something_is_amiss(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main.main(["add", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert (home / "params.yaml").read_text() == SHIPPED


def test_missing_data_is_told_with_where_to_get_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["add", "banking77"]) == 2
    assert recipes.ready("banking77").data in capsys.readouterr().err


def test_new_fits_the_task(home: Path) -> None:
    rows = [
        {"a": row["text"], "b": f"{row['text']} again", "alike": str(number)}
        for number, row in enumerate(make_rows(5))
    ]
    write_csv(home / "a.csv", rows)
    given = ["new", "mine", "a.csv", "--task", "similarity", "--text", "a", "--second", "b"]
    assert main.main([*given, "--label", "alike"]) == 0
    block = read_recipe("mine")
    assert block["ingest"]["second"] == "b"
    assert block["gate"]["metrics"] == list(block["gate"]["floors"]) == ["pearson"]
    assert block["benchmark"]["metric"] == "pearson"
    assert block["publish"]["description"].endswith(": alike of a.csv.")
    parsed.load("mine")


def test_new_reads_files_without_header_and_quotes(home: Path) -> None:
    (home / "a.tsv").write_text('a "text\tsport\nanother\tmoney\n')
    given = ["new", "mine", "a.tsv", "--header", "text,topic", "--no-quotes", "--label", "topic"]
    assert main.main(given) == 0
    assert read_recipe("mine")["ingest"]["header"] == ["text", "topic"]
    parsed.load("mine")


def test_new_copies_a_recipe_but_not_what_it_says_of_its_rows(home: Path) -> None:
    block = read_recipe("news")
    block["finetune"]["epochs"] = 7
    block["ingest"]["carry"], block["evaluate"]["slices"] = ["label"], ["label"]
    write_params(home / "params.yaml", {"news": block})
    write_csv(home / "a.csv", make_rows(5))
    assert main.main(["new", "mine", "a.csv", "--like", "news"]) == 0
    mine = read_recipe("mine")
    assert mine["finetune"]["epochs"] == 7
    assert mine["ingest"]["carry"] == mine["evaluate"]["slices"] == []
    assert mine["evaluate"]["behaviour"] == []
    assert mine["retrain"]["schedule"] is None


@pytest.mark.parametrize("published", ["its own files", "a column"])
def test_new_does_not_copy_the_shares_of_published_splits(home: Path, published: str) -> None:
    block = read_recipe("news")
    block["ingest"].update({"validation_percent": 10, "test_percent": 0})
    if published == "a column":
        block["ingest"]["split"] = "part"
    else:
        block["ingest"]["source"] = {"train": "train.csv", "test": "test.csv"}
    write_params(home / "params.yaml", {"news": block})
    write_csv(home / "a.csv", make_rows(5))
    assert main.main(["new", "mine", "a.csv", "--like", "news"]) == 0
    assert read_recipe("mine")["ingest"]["test_percent"] == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "clasification"), "no task 'clasification'; did you mean classification?"),
        (("--task", "similarity"), "recipes.mine.ingest.second: similarity reads two texts"),
        (("--second", "label"), "recipes.mine.ingest.second: classification reads one text"),
        (("--like", "nwes"), "no recipe 'nwes' to copy from; did you mean news?"),
        (("--like", "news", "--task", "similarity"), "recipes.news is of task classification"),
        (("--format", "excel"), "recipes.mine.ingest.format:"),
        (("--group", "author"), "no column 'author'"),
    ],
)
def test_what_new_cannot_write_is_told_in_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    write_csv(home / "a.csv", make_rows(5))
    assert main.main(["new", "mine", "a.csv", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert (home / "params.yaml").read_text() == SHIPPED


@pytest.fixture
def unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC says that nothing has run yet."""
    monkeypatch.setattr("flows.steps.stale_stages", lambda name: set(ORDER))


def test_check_tells_rows_classes_and_time(
    home: Path, tiny_base: Path, unfinished: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(home / "a.csv", make_rows(300))
    write_params(home / "params.yaml", {"toy": toy_block(tiny_base, "a.csv")})
    assert main.main(["check", "toy"]) == 0
    told = capsys.readouterr().out
    assert "recipe toy is well formed\ndata   a.csv: 300 rows (" in told
    assert "label  3 classes: " in told
    assert "run    ingest, validate" in told
    assert "time   about 1 min" in told


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
    home: Path, tiny_base: Path, unfinished: None, capsys: pytest.CaptureFixture[str]
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


def test_check_knows_a_base_from_scratch(
    home: Path, tiny_base: Path, unfinished: None, capsys: pytest.CaptureFixture[str]
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
    home: Path, tiny_base: Path, unfinished: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(home / "params.yaml", {"toy": toy_block(tiny_base, "a.csv")})
    rows = write_csv(home / "a.csv", make_rows(40)).read_bytes()
    (home / "a.csv").write_bytes(rows + "很好,film\n".encode("gbk") * 10)
    assert main.main(["check", "toy"]) == 0
    told = capsys.readouterr().out
    assert "a.csv, line 42: is not UTF-8" in told
    assert "20 % of all rows, more than validate.max_quarantine_percent" in told
    (home / "a.csv").write_bytes(b"text,label\n" + "很好,film\n".encode("gbk") * 10)
    assert main.main(["check", "toy"]) == 2
    told = capsys.readouterr().err
    assert "a.csv, line 2: no rows: all are unreadable, the first is not UTF-8" in told
