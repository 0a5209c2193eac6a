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
from pipeline.promotion import gate
from pipeline.stages.benchmark import params as benchmark
from pipeline.stages.evaluate import params as evaluate
from pipeline.stages.finetune import params as finetune
from pipeline.stages.tokenize import params as tokenize
from tests.conftest import make_rows, news_params, write_csv, write_params
from tests.servers import Site

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


def test_data_of_a_ready_recipe_may_be_in_a_store(home: Path) -> None:
    assert main.main(["add", "imdb", "--as", "films", "--data", "s3://bucket/imdb/"]) == 0
    block = read_recipe("films")
    assert block["ingest"]["source"]["test"] == "s3://bucket/imdb/test.parquet"
    assert block["watch"] == "s3://bucket/imdb"
    assert parsed.load("films").watch == "s3://bucket/imdb"


def test_new_reads_and_watches_a_file_on_the_web(home: Path, site: Site) -> None:
    site.pages["/a.csv"] = write_csv(home / "a.csv", make_rows(40)).read_bytes()
    url = f"{site.url}/a.csv"
    assert main.main(["new", "mine", url]) == 0
    block = read_recipe("mine")
    assert block["watch"] == block["ingest"]["source"] == url


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
        (("--task", "similarity"), "a.csv: similarity reads two texts: name the other by --second"),
        (("--second", "label"), "a.csv: no column is left for a label"),
        (
            ("--task", "classification", "--second", "label", "--label", "label"),
            "second: classification reads one text",
        ),
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
