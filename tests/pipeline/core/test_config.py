"""Errors of a recipe are one line that names the key and what to do."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import recipe as recipes
from pipeline.core.config import check_name, parse, read_recipe, read_recipes
from pipeline.core.errors import UserError
from tests.conftest import news_block, news_params, write_params

NEWS = news_block()


def refused(block: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        parse(recipes.Recipe, block, "recipes.news")
    message = str(caught.value)
    assert "\n" not in message
    return message


def changed(path: str, value: object) -> dict[str, Any]:
    block = copy.deepcopy(NEWS)
    *sections, key = path.split(".")
    place = block
    for section in sections:
        place = place[section]
    place[key] = value
    return block


def test_a_typo_names_the_nearest_key() -> None:
    message = refused(changed("finetune.lerning_rate", 1e-4))
    assert "recipes.news.finetune.lerning_rate: unknown key; did you mean learning_rate?" in message


def test_a_typo_in_a_section_names_the_nearest_section() -> None:
    assert "did you mean evaluate?" in refused(changed("evalute", {}))


def test_a_typo_in_a_rule_is_found_below_its_section() -> None:
    assert "did you mean duplicate?" in refused(changed("validate.rules.duplicat", "fail"))


def test_a_missing_key_is_named() -> None:
    block = copy.deepcopy(NEWS)
    del block["finetune"]["epochs"]
    assert "recipes.news.finetune.epochs: is missing: write it out" in refused(block)


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("finetune.epochs", "three", "valid integer"),
        ("finetune.epochs", 2.5, "integer"),
        ("finetune.epochs", -1, "greater than or equal to 0"),
        ("finetune.learning_rate", "2e-5", "valid number"),
        ("finetune.learning_rate", -1.0, "greater than 0"),
        ("finetune.precision", "fp8", "'auto', 'fp32' or 'bf16'"),
        ("validate.rules.duplicate", "ignore", "'fail', 'quarantine' or 'warn'"),
        ("validate.rules.blank", "warn", "'fail' or 'quarantine'"),
        ("validate.near_duplicates.similarity", 0.5, "greater than or equal to 0.75"),
        ("gate.floors.accuracy", 1.5, "less than or equal to 1"),
        ("tokenize.max_length", True, "valid integer"),
        ("base", "package:x", "should be an object"),
    ],
)
def test_an_impossible_value_is_refused_by_name(path: str, value: object, part: str) -> None:
    message = refused(changed(path, value))
    assert f"recipes.news.{path}" in message
    assert part in message


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("ingest.test_percent", 95, "leave nothing to train on"),
        ("ingest.source", {"test": "a.csv"}, "needs one for train"),
        ("ingest.source", [], "names one at least"),
        ("ingest.source", {"train": "a.csv", "test": []}, "names one at least"),
        ("ingest.format", ["lines"], "needs a list of as many sources"),
        ("ingest.carry", ["label"], "carry cannot hold 'label'"),
        ("ingest.carry", ["answer"], "carry cannot hold 'answer'"),
        ("ingest.carry", ["whole"], "carry cannot hold 'whole'"),
        ("ingest.carry", ["scores"], "carry cannot hold 'scores'"),
        ("ingest.carry", ["characters"], "carry cannot hold 'characters'"),
    ],
)
def test_values_that_contradict_each_other_are_refused(path: str, value: object, part: str) -> None:
    message = refused(changed(path, value))
    assert message.startswith("params.yaml: recipes.news.ingest: ")
    assert part in message


@pytest.mark.parametrize(
    "name", ["News", "1st", "a b", "x;rm -rf", "$(id)", "", "raw", "labels", "a" * 41]
)
def test_names_that_could_harm_a_shell_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="recipe name"):
        check_name(name)


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    write_params(tmp_path / "params.yaml", {"reviews": NEWS})
    with pytest.raises(UserError, match="did you mean reviews"):
        read_recipe("review", tmp_path / "params.yaml")


def test_what_is_not_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("recipes:\n  news: [1, 2\n")
    with pytest.raises(UserError, match=r"not YAML.*line"):
        read_recipes(path)


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(re.sub("learning_rate: .*", "learning_rate: 5e-05", news_params()))
    block = read_recipe("news", path)
    assert parse(recipes.Recipe, block, "news").finetune.learning_rate == 5e-5


@pytest.mark.parametrize(
    ("section", "source", "watch"),
    [
        ("ingest", "new.csv", "old.csv"),
        ("ingest", {"train": "rows/a.csv", "test": "other/b.csv"}, "rows"),
        ("base", "models/mine", "constraints.txt"),
    ],
)
def test_a_source_that_dvc_does_not_watch_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: str,
    source: object,
    watch: str,
) -> None:
    block = copy.deepcopy(NEWS)
    if section == "base":
        block["base"] = {
            "model": source,
            "sha256": None,
            "watch": watch,
            "languages": None,
            "han_characters": False,
            "network": None,
        }
    else:
        block["ingest"]["source"], block["watch"] = source, watch
    write_params(tmp_path / "params.yaml", {"news": block})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="whose changes DVC would miss"):
        recipes.load("news")


def test_files_inside_a_watched_folder_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = changed("ingest.source", {"train": "rows/a.csv", "test": "rows/b.csv"})
    write_params(tmp_path / "params.yaml", {"news": block | {"watch": "rows"}})
    monkeypatch.chdir(tmp_path)
    assert recipes.load("news").watch == "rows"


@pytest.mark.parametrize(
    ("source", "watch"),
    [
        ("https://host/rows.csv", "https://host/rows.csv"),
        ("s3://bucket/rows/a.csv", "s3://bucket/rows"),
        ("s3://bucket/rows/", "s3://bucket/rows"),
        (
            {"train": "s3://bucket/rows/a.csv", "test": "s3://bucket/rows/b.csv"},
            "s3://bucket/rows/",
        ),
    ],
)
def test_a_url_is_watched_by_itself_or_a_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: object, watch: str
) -> None:
    write_params(
        tmp_path / "params.yaml", {"news": changed("ingest.source", source) | {"watch": watch}}
    )
    monkeypatch.chdir(tmp_path)
    assert recipes.load("news").watch == watch


@pytest.mark.parametrize(
    ("source", "watch", "message"),
    [
        ("s3://bucket/rows.csv", "constraints.txt", "whose changes DVC would miss"),
        ("s3://bucket/rows-2/a.csv", "s3://bucket/rows", "whose changes DVC would miss"),
        ("https://host/rows/a.csv", "https://host/rows", "whose changes DVC would miss"),
        ("rows.csv", "https://host/rows.csv", "whose changes DVC would miss"),
        ("https://me:planted@host/a.csv", "https://me:planted@host/a.csv", "environment variables"),
        ("rows.csv", "https://host/a.csv?sig=planted", "environment variables"),
        ("s3://rows/a/b.csv?token=planted", "s3://rows/a", "environment variables"),
    ],
)
def test_a_url_that_dvc_does_not_watch_or_that_holds_a_secret_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, watch: str, message: str
) -> None:
    block = changed("ingest.source", source) | {"watch": watch}
    write_params(tmp_path / "params.yaml", {"news": block})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        recipes.load("news")
    assert "planted" not in str(caught.value)


def test_a_slice_that_is_not_carried_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(tmp_path / "params.yaml", {"news": changed("evaluate.slices", ["author"])})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'author' is not carried"):
        recipes.load("news")
