"""The page of results, from results as they are kept."""

import sys
from pathlib import Path
from typing import Any

import pytest

from flows.cli.recipes import names, ready
from pipeline import recipe as recipes
from pipeline.core.errors import UserError
from tests.conftest import ROOT, write_params

sys.path.insert(0, str(ROOT / "bench"))
import results
import results_page
import trials

MACHINE = {
    "processor": "a processor",
    "cores": 2,
    "memory_gb": 8.0,
    "gpu": None,
    "features": ["avx2"],
    "system": "Linux",
    "versions": {"torch": "2"},
}


def result(name: str = "imdb", macro_f1: float = 0.9) -> dict[str, Any]:
    interval = {"value": macro_f1, "low": macro_f1 - 0.01, "high": macro_f1 + 0.01}
    return {
        "recipe": name,
        "task": "classification",
        "digest": "",
        "command": f"python bench/results.py {name}",
        "kept": {"train": 20000, "validation": 2000, "test": 24801},
        "leaks": 123,
        "max_length": 256,
        "long_text": "head_tail",
        "base": "package:base",
        "parameters": 22_700_000,
        "trained": 22_700_000,
        "epochs": 1.0,
        "precision": "fp32",
        "training_seconds": 1800,
        "scores": {"accuracy": interval, "macro_f1": interval},
        "more": {"token_micro_f1": 0.976, "token_macro_f1": 0.87},
        "uncut": {"rows": 25000, "scores": {"accuracy": macro_f1, "macro_f1": 0.897}},
        "baselines": {
            "majority": {"accuracy": 0.5, "macro_f1": 0.33},
            "TF-IDF": {"accuracy": 0.88, "macro_f1": 0.88},
        },
        "served": {
            "runtime": "onnx-int8",
            "speedup": 2.14,
            "megabytes": 23.0,
            "scores": {"accuracy": 0.899, "macro_f1": 0.899},
        },
        "machine": MACHINE,
    }


def test_a_bar_is_met_or_not() -> None:
    row = "| imdb | macro f1 | 24,801 | **{}** ({}) | 0.897 of 25,000 | 0.880 TF-IDF | 0.91: {} |"
    assert row.format("0.900", "0.890–0.910", "not met") in results_page.page([result()])
    better = results_page.page([result(macro_f1=0.91)])
    assert row.format("0.910", "0.900–0.920", "met") in better
    assert "| 0.894 BERT-base |" in better


def test_a_recipe_without_a_bar_is_held_to_its_best_baseline() -> None:
    assert "| baseline: met |" in results_page.page([result("news", 0.89)])
    assert "| baseline: not met |" in results_page.page([result("news", 0.87)])
    assert "| baseline: not met |" in results_page.page([result("news", 0.88)])


def test_a_bar_can_be_of_a_number_without_interval() -> None:
    told = [
        row[-2]
        for row in results_page._reached(
            result("conll2003")
            | {"scores": {"entity_f1": {"value": 0.88, "low": 0.87, "high": 0.89}}}
        )
    ]
    assert told == ["0.87: met", "0.975: met", "0.88: not met"]


def test_a_bar_can_be_so_many_times_the_baseline_or_so_much_above_it() -> None:
    def told(perplexity: float, followed: float) -> list[str]:
        values = {
            "masked_accuracy": 0.5,
            "inverse_perplexity": 1 / perplexity,
            "next_sentence_accuracy": followed,
        }
        kept = result("imdb-domain") | {
            "scores": {
                name: {"value": value, "low": value, "high": value}
                for name, value in values.items()
            },
            "baselines": {
                "unigrams": {
                    "masked_accuracy": 0.1,
                    "inverse_perplexity": 1 / 500,
                    "next_sentence_accuracy": 0.82,
                }
            },
        }
        rows = list(results_page._reached(kept))
        assert rows[1][3].startswith(f"**{1 / perplexity:.3g}**")
        return [row[-2] for row in rows]

    assert told(100, 0.87) == [
        "baseline: met",
        "5 × baseline: met",
        "0.85: met",
        "baseline + 0.05: met",
    ]
    assert told(101, 0.86)[1:] == [
        "5 × baseline: not met",
        "0.85: met",
        "baseline + 0.05: not met",
    ]


def test_the_page_says_what_it_took_and_what_is_missing() -> None:
    page = results_page.page([result()])
    cost = "| imdb | 20,000 | 2,000 | 24,801 | 123 | 256 head tail | 22.7 of 22.7 M |"
    assert f"{cost} 30 min, 1 epoch, fp32 | onnx-int8 | 2.14 × | 0.899 accuracy |" in page
    assert "`python bench/results.py imdb` (from package:base)." in page
    waiting = page.partition("Not run yet: ")[2].splitlines()[0]
    assert waiting == ", ".join(name for name in names() if name != "imdb") + "."


def test_bars_are_of_recipes_that_there_are() -> None:
    assert set(results_page.BARS) <= set(names())


def test_the_time_of_a_stopped_stage_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("results.time.monotonic", lambda: now[0])

    def attempt(seconds: float, runs: bool = True) -> float:
        """A stage works so long; what the file says then."""
        clock = results.Clock(tmp_path / "seconds.json")
        lines = ["Running stage 'finetune@toy':", "step"] if runs else ["didn't change, skipping"]
        for line in clock.watched("finetune", lines):
            now[0] += seconds if line == "step" else 0
        return results.Clock(tmp_path / "seconds.json").seconds["finetune"]

    assert attempt(100) == 100
    assert attempt(40) == 140
    results.Clock(tmp_path / "seconds.json").done("finetune")
    assert attempt(7, runs=False) == 140
    assert attempt(30) == 30  # it was finished: this is another run


def test_copies_that_were_set_aside_count_in_the_uncut_scores(tmp_path: Path) -> None:
    import pandas as pd

    rows = [("a", "x"), ("a-2", "x"), ("b", "x"), ("c", "y")]  # the last was not answered
    frame = pd.DataFrame(rows, columns=["id", "label"]).assign(split="test", group="")
    answers = pd.DataFrame(
        [("a", "test", "x"), ("b", "test", "y"), ("c", "validation", "y")],
        columns=["id", "split", "answer"],
    )
    for stage, file, content in (
        ("ingest", "rows", frame),
        ("evaluate", "predictions", answers),
    ):
        (tmp_path / stage).mkdir()
        content.to_parquet(tmp_path / stage / f"{file}.parquet")
    found = results.uncut(tmp_path, "classification", ["x", "y"])
    assert found["rows"] == 3
    assert found["scores"]["accuracy"] == pytest.approx(2 / 3)


def test_another_value_is_another_result() -> None:
    block = ready("imdb").placed()
    before = results.digest(block)
    assert before == results.digest(ready("imdb").placed())
    block["finetune"]["epochs"] = 2
    assert results.digest(block) != before


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recipes that were run, in a folder where nothing runs in earnest."""
    for module, name in (
        (results, "KEPT"),
        (results, "WORK"),
        (results_page, "KEPT"),
        (results_page, "PAGE"),
    ):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    ran: list[str] = []
    monkeypatch.setattr(results, "copy_repository", lambda home: home.mkdir(parents=True))
    monkeypatch.setattr(results, "run", lambda home, name, block: ran.append(name))
    monkeypatch.setattr(
        results,
        "collected",
        lambda home, recipe, block: result(recipe.name) | {"digest": results.digest(block)},
    )
    return ran


def test_a_result_is_kept_until_a_value_changes(
    tmp_path: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    for name in ("train.parquet", "test.parquet"):
        (tmp_path / "imdb" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "imdb" / name).touch()
    recipe = ready("imdb")
    results.finish(recipe, tmp_path)
    results.finish(recipe, tmp_path)
    assert runs == ["imdb"]
    assert (tmp_path / "work/imdb/data/raw/imdb/train.parquet").exists()
    assert "| imdb | macro f1 |" in (tmp_path / "page").read_text()
    recipe.block["finetune"]["epochs"] = 2
    shutil.rmtree(tmp_path / "work")
    results.finish(recipe, tmp_path)
    assert runs == ["imdb", "imdb"]


def test_missing_data_stops_one_recipe_and_not_the_others(
    tmp_path: Path,
    runs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["results.py", "imdb", "news", "--data", str(tmp_path)])
    assert results.main() == 2
    assert runs == ["news"]
    assert f"error: {tmp_path}/imdb/train.parquet: no such file" in capsys.readouterr().err


def test_a_look_is_at_a_few_rows_of_each_source(
    tmp_path: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("train.tsv", 30), ("dev.tsv", 4)):
        lines = [f'a "text" {number}\tpositive' for number in range(count)]
        (tmp_path / "chnsenticorp").mkdir(exist_ok=True)
        (tmp_path / "chnsenticorp" / name).write_text("\n".join(lines))
    home = tmp_path / "home"
    block = results.sampled(ready("chnsenticorp"), tmp_path, home, lambda _, found: found[:10])
    read = {
        split: (home / source).read_text().splitlines()
        for split, source in block["ingest"]["source"].items()
    }
    assert {split: len(lines) for split, lines in read.items()} == {"train": 10, "test": 4}
    assert all('a \\"text\\" ' in line and "positive" in line for line in read["train"])
    write_params(tmp_path / "params.yaml", {"chnsenticorp": block})
    monkeypatch.chdir(tmp_path)
    assert recipes.load("chnsenticorp").ingest.header is None


def test_what_was_tried_stands_below_what_the_recipe_reaches() -> None:
    kept = result("mrpc", 0.8) | {"validation": {"metric": "accuracy", "value": 0.8114}}
    trial = {
        "changes": "finetune.epochs=8",
        "kept": {"validation": 2000},
        "validation": {"metric": "accuracy", "value": 0.8034},
        "training_seconds": 61,
    }
    page = results_page.page([kept], [{"recipe": "mrpc", "trials": [trial]}])
    first = page.index("| mrpc | as it is | 2,000 | 0.811 accuracy | 30 min |")
    assert page.index("| mrpc | `finetune.epochs=8` | 2,000 | 0.803 accuracy | 1 min |") > first
    assert "What was tried" not in results_page.page([kept])


def test_a_trial_is_kept_once_with_what_its_validation_rows_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, float, str]] = []

    def run(home: Path, name: str, block: Any, stages: tuple[str, ...]) -> None:
        ran.append((home.name, block["finetune"]["learning_rate"], stages[-1]))

    class Kept:
        best_metric, best_value, kept_by_split = "validation accuracy", 0.81, {"validation": 418}

        @classmethod
        def read(cls, file: Path) -> "Kept":
            return cls()

    monkeypatch.setattr(results_page, "KEPT", tmp_path)
    monkeypatch.setattr(results_page, "TRIALS", tmp_path / "trials")
    monkeypatch.setattr(results_page, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(trials, "TRIALS", tmp_path / "trials")
    monkeypatch.setattr(trials, "prepared", lambda home, recipe, folder: home)
    monkeypatch.setattr(trials, "run", run)
    monkeypatch.setattr(trials, "Fit", Kept)
    monkeypatch.setattr(trials, "Validation", Kept)
    monkeypatch.setattr(trials, "training_seconds", lambda home: 60)
    for values in (["5e-5"], ["5e-5"], ["2e-5"]):
        trials.attempt("mrpc", [f"finetune.learning_rate={value}" for value in values], tmp_path)
    assert [rate for _, rate, _ in ran] == [5e-5, 5e-5, 2e-5]
    assert len({home for home, _, _ in ran}) == 2
    assert {last for _, _, last in ran} == {"finetune"}
    text = (tmp_path / "page.md").read_text()
    assert text.count("| mrpc | `finetune.learning_rate=") == 2


def test_a_trial_of_what_no_recipe_has_is_refused() -> None:
    for value in (
        "finetune.lerning_rate=1",
        "nothing.key=1",
        "finetune=1.x",
        "finetune.seed.x=1",
        "finetune.seed",
    ):
        with pytest.raises(UserError, match="the recipe has no"):
            trials.changed(ready("mrpc").placed(), [value])
