"""Benchmark of contrastive training against the embeddings of the untrained base.

    python bench/retrieval.py                          # banking77-search of the gallery
    python bench/retrieval.py NAME --data ~/datasets

A retrieval recipe is trained by `dvc repro` in a copy of this repository under .bertline/results,
or reused if `bench/results.py` has run it. Then its untrained base embeds the same training and
test rows, with each class at the centroid of its training rows. Both scores come with their
difference and its 95 % interval: a paired bootstrap over test rows (Efron and Tibshirani 1993).
Writes retrieval.json and retrieval.md.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from long_texts import gained
from report import RESULTS, machine_text, table, write
from results import DATASETS, STAGES, WORK, prepared, run

from flows.cli.recipes import Ready, ready
from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.records import Machine, Validation
from pipeline.metrics import scoring
from pipeline.models.bases import BaseParams, base_folder
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.benchmark.machine import this_machine
from pipeline.tasks.base.answering import Answering


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="banking77-search", help="of the gallery")
    parser.add_argument("--data", type=Path, default=DATASETS, help="holds a folder a data set")
    args = parser.parse_args()
    try:
        recipe = ready(args.recipe)
        block = recipe.placed()
        home = prepared(WORK / recipe.name, recipe, args.data / recipe.folder)
        run(home, recipe.name, block, STAGES[: STAGES.index("evaluate") + 1])
        found = compared(home / "data" / recipe.name, recipe, block)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write(RESULTS, "retrieval", found, markdown(found))
    return 0


def compared(folder: Path, recipe: Ready, block: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of base and trained model and their difference, from a recipe's folder."""
    validate, tokenize = folder / "validate", folder / "tokenize"
    task, classes = tasks.get(block["task"]), Validation.read(validate / "validation.json").labels
    train, test = (artifacts.kept_rows(validate, split) for split in ("train", "test"))
    encoder = artifacts.encoder(tokenize, task)
    base = TorchModel(base_folder(BaseParams.model_validate(block["base"])), task)
    pieces = encoder.pieces(artifacts.texts_of(train))
    places = [classes.index(train["label"][piece.row]) for piece in pieces]
    decision = task.remember(base.logits(pieces, 32), places, classes)
    untrained = Answering(task, encoder, base, classes, decision)(artifacts.texts_of(test), 32)
    predictions = pd.read_parquet(folder / "evaluate" / "predictions.parquet").set_index("id")
    answers = {
        "base": [answer.label for answer in untrained],
        "trained": predictions["answer"].reindex(test["id"]).tolist(),
    }
    tallied = {
        name: scoring.tallies(task, test["label"].tolist(), each, classes)
        for name, each in answers.items()
    }
    return {
        "recipe": recipe.name,
        "rows": {"train": len(train), "test": len(test)},
        "classes": len(classes),
        "scores": {
            name: {
                metric: value.model_dump()
                for metric, value in scoring.intervals(task.measure, each).items()
            }
            for name, each in tallied.items()
        },
        "difference": gained(task, tallied["trained"], tallied["base"]),
        "machine": this_machine().model_dump(),
    }


def markdown(found: dict[str, Any]) -> str:
    def shown(each: dict[str, float], sign: str = "") -> str:
        value, low, high = (f"{each[name]:{sign}.4f}" for name in ("value", "low", "high"))
        return f"{value} ({low} to {high})"

    listed = [
        [
            metric.replace("_", " "),
            shown(found["scores"]["base"][metric]),
            shown(found["scores"]["trained"][metric]),
            shown(gain, "+"),
        ]
        for metric, gain in found["difference"].items()
    ]
    header = ["of the nearest classes", "base as it is", "trained", "difference (95 %)"]
    return f"""{table(header, listed)}

`{found["recipe"]}`: {found["rows"]["test"]:,} test rows, {found["classes"]} classes, each at the
centroid of its rows among {found["rows"]["train"]:,} of training.
{machine_text(Machine.model_validate(found["machine"]))}
"""


if __name__ == "__main__":
    sys.exit(main())
