"""A params.yaml of an earlier version is rewritten in place, and nothing of it is lost."""

from pathlib import Path

import pytest

from flows.cli import main
from flows.cli.migrate import migrate
from pipeline.core import old_names
from pipeline.core.config import parse, read_recipe
from pipeline.core.errors import UserError
from pipeline.recipe import Recipe
from tests.conftest import news_params

OLD = """# mine
recipes:
  words:   # a base
    task: "masked_words" # hidden words
    tokenize:
      hide: {share: 0.15, whole_words: true} # as BERT
      both_orders: false
    finetune:
      clip:   1.0   # clip of the gradient
      accumulate: 1

    gate: {rails: {flips: null}, fewest_rows: 10}
"""
NEW = """# mine
recipes:
  words:   # a base
    task: "masked_lm" # hidden words
    tokenize:
      masking: {probability: 0.15, whole_words: true} # as BERT
      symmetric: false
    finetune:
      max_grad_norm:   1.0   # clip of the gradient
      gradient_accumulation: 1

    gate: {guardrails: {flips: null}, min_rows: 10}
"""


def test_old_names_are_rewritten_and_the_rest_stays_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(OLD)
    assert main.main(["migrate"]) == 0
    assert Path("params.yaml").read_text() == NEW
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "params.yaml, line 4: recipes.words.task: masked_words is masked_lm now"
    assert "params.yaml, line 9: recipes.words.finetune.clip: clip is max_grad_norm now" in told
    assert len(told) == 8
    assert main.main(["migrate"]) == 0
    assert capsys.readouterr().out == "params.yaml: all names are current\n"


def test_a_recipe_of_old_keys_parses_once_it_is_migrated(tmp_path: Path) -> None:
    path, section = tmp_path / "params.yaml", ""
    lines = news_params().splitlines(keepends=True)
    for place, line in enumerate(lines):
        name = line.strip().partition(":")[0]
        section = name if line.startswith("    ") and line[4] != " " else section
        old = {new: key for key, new in old_names.KEYS.items() if key.count(".") == 1}
        if old.get(name, "").startswith(f"{section}."):
            lines[place] = line.replace(name, old[name].partition(".")[2])
    path.write_text("".join(lines))
    with pytest.raises(UserError, match=r"is called .* now: bertline migrate"):
        read_recipe("news", path)
    assert migrate(path)
    assert path.read_text() == news_params()
    parse(Recipe, read_recipe("news", path), "recipes.news")


@pytest.mark.parametrize(
    ("key", "new"), [(key, new) for key, new in old_names.KEYS.items() if key.count(".") == 1]
)
def test_an_old_key_names_the_new_one(key: str, new: str, tmp_path: Path) -> None:
    section, old = key.split(".")
    path = tmp_path / "params.yaml"
    path.write_text(f"recipes:\n  toy:\n    {section}:\n      {old}: 1\n")
    with pytest.raises(UserError) as refused:
        read_recipe("toy", path)
    assert str(refused.value) == (
        f"{path}: recipes.toy.{key}: is called {new} now: bertline migrate rewrites the file"
    )


def test_what_is_no_params_yaml_is_told_and_left(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("recipes: [1\n")
    with pytest.raises(UserError, match="not YAML"):
        migrate(path)
    assert path.read_text() == "recipes: [1\n"
