r"""Benchmark of pretraining: scores of the recipe that starts from it, with and without it.

    python bench/pretraining.py chnsenticorp-zh                        # 3 seeds of all its rows
    python bench/pretraining.py imdb --by imdb-domain --metric macro_f1 \
        --seeds 1 --train 5000 --test 10000

A recipe of the gallery is trained from the weights that another recipe has pretrained, and from the
weights with which the pretraining began: its base, or the same network with random weights by seed.
Vocabulary, rows and values are the same. The difference is that of the means over seeds, with its
95 % interval: a paired bootstrap over test rows, each with the answers of all seeds (Efron and
Tibshirani 1993). Each training runs by `dvc repro` in a copy of this repository under
.bertline/results; one that was stopped is resumed. Writes pretraining-RECIPE.json and .md.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from long_texts import gained
from report import RESULTS, machine_text, table, write
from results import DATASETS, STAGES, WORK, link, prepared, pretrained_by, run, sampled

from flows.cli.recipes import Ready, ready
from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.records import Machine, Scores, Split
from pipeline.metrics import scoring
from pipeline.metrics.scoring import Tallies
from pipeline.models.bases import BaseParams, base_folder, new_bert
from pipeline.models.encoders import pooling_of
from pipeline.sources import Row
from pipeline.stages import artifacts
from pipeline.stages.benchmark.machine import this_machine

WITHOUT, WITH = "without", "with"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", help="of the gallery")
    parser.add_argument("--by", metavar="NAME", help="recipe that pretrains (that of its base)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind (3)")
    parser.add_argument("--train", type=int, help="training rows (all)")
    parser.add_argument("--test", type=int, help="test rows, where they are published (all)")
    parser.add_argument("--metric", help="that is compared (the recipe's own)")
    parser.add_argument("--data", type=Path, default=DATASETS, help="holds a folder a data set")
    args = parser.parse_args()
    try:
        recipe = ready(args.recipe)
        by = args.by or pretrained_by(recipe.block)
        if by is None:
            raise UserError(f"--by: {recipe.name} starts from no recipe: name one that pretrains")
        if args.metric and args.metric not in (known := tasks.get(recipe.block["task"]).metrics):
            raise UserError(f"--metric {args.metric}: {recipe.name} has {', '.join(known)}")
        homes = {
            start: [
                trained(recipe, by, start, seed, args.data, args.train, args.test)
                for seed in range(args.seeds)
            ]
            for start in (WITHOUT, WITH)
        }
        found = compared(recipe.name, homes, args.metric)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found |= {"by": by, "machine": this_machine().model_dump()}
    write(RESULTS, f"pretraining-{recipe.name}", found, markdown(found))
    return 0


def trained(
    recipe: Ready,
    by: str,
    start: str,
    seed: int,
    data: Path,
    train: int | None = None,
    test: int | None = None,
) -> Path:
    """Train and evaluate the recipe; None takes all rows. Returns the repository's copy."""
    home = WORK / f"{recipe.name}-{start}-{by}-{seed}"

    def choose(split: Split | None, found: list[Row]) -> list[Row]:
        return found[: test if split == "test" else train]

    if train or test:
        block = sampled(recipe, data, home, choose)
    else:
        block = recipe.placed()
        prepared(home, recipe, data / recipe.folder)
    weights = link(home, by, data)
    if start == WITHOUT:
        weights = initial_weights(by, weights, home / "data" / "begun", seed)
    block["base"].update(
        {"model": str(weights), "sha256": None, "watch": str(weights), "network": None}
    )
    block["finetune"]["seed"] = seed
    run(home, recipe.name, block, STAGES[: STAGES.index("evaluate") + 1])
    return home


def initial_weights(by: str, learned: Path, folder: Path, seed: int) -> Path:
    """Return the folder of the weights with which a pretraining began."""
    base = BaseParams.model_validate(ready(by).placed()["base"])
    if base.network is None:
        return base_folder(base)
    if not folder.exists():
        new_bert(folder, base.network, learned, seed, pooling=pooling_of(learned))
        for file in learned.glob("*token*"):
            shutil.copyfile(file, folder / file.name)
    return folder


def compared(name: str, homes: dict[str, list[Path]], metric: str | None = None) -> dict[str, Any]:
    """Return scores by start and seed, and the difference of their means; None: main metric."""
    tallied: dict[str, list[Tallies]] = {}
    for start, copies in homes.items():
        tallied[start] = [_tallies(home / "data" / name) for home in copies]
    first = homes[WITH][0] / "data" / name
    scores = Scores.read(first / "evaluate" / "scores.json")
    task, metric = tasks.get(scores.task), metric or scores.main
    pooled = {start: _pooled(each) for start, each in tallied.items()}
    return {
        "recipe": name,
        "metric": metric,
        "rows": scores.test.rows,
        "scores": {
            start: [scoring.metrics(task.measure, each)[metric] for each in every]
            for start, every in tallied.items()
        },
        "difference": gained(task, pooled[WITH], pooled[WITHOUT])[metric],
        "baselines": {each.name: each.scores[metric].value for each in scores.baselines},
    }


def _tallies(folder: Path) -> Tallies:
    rows = artifacts.kept_rows(folder / "validate", "test")
    scores = Scores.read(folder / "evaluate" / "scores.json")
    predictions = pd.read_parquet(folder / "evaluate" / "predictions.parquet").set_index("id")
    answers = predictions["answer"].reindex(rows["id"]).tolist()
    labels, groups = rows["label"].tolist(), rows["group"].tolist()
    return scoring.tallies(tasks.get(scores.task), labels, answers, scores.labels, groups)


def _pooled(seeds: Sequence[Tallies]) -> Tallies:
    """Return tallies that sum the answers of all seeds to each row."""
    return Tallies(*scoring.distinct(np.sum([each.rows for each in seeds], axis=0)))


def markdown(found: dict[str, Any]) -> str:
    listed = [
        [name, f"{sum(each) / len(each):.4f}", ", ".join(f"{value:.4f}" for value in each)]
        for name, each in found["scores"].items()
    ]
    listed += [[name, f"{value:.4f}", ""] for name, value in found["baselines"].items()]
    gap = found["difference"]
    return f"""{table(["pretraining", found["metric"].replace("_", " "), "of each seed"], listed)}

`{found["recipe"]}` on {found["rows"]:,} test rows; `{found["by"]}` pretrains. With less without:
{gap["value"]:+.4f} ({gap["low"]:+.4f} to {gap["high"]:+.4f}).
{machine_text(Machine.model_validate(found["machine"]))}
"""


if __name__ == "__main__":
    sys.exit(main())
