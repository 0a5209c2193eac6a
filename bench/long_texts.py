"""Comparison of the values of `tokenize.long_text` on the longest texts.

    python bench/long_texts.py                                 # imdb of the gallery, 5,000 rows
    python bench/long_texts.py imdb --train 20000 --data ~/datasets

A recipe with one text per row is trained with each value of `tokenize.long_text` on the same
training rows, drawn by hash, and tested on the quarter of the test rows with the most tokens. The
scores of each value come with the difference from truncation and its 95 % interval: a paired
bootstrap over rows (Efron and Tibshirani 1993), both answers to a row drawn together. Each value
runs by `dvc repro` in a copy of this repository under .bertline/results; a run that was stopped is
resumed. Writes long_texts.json and long_texts.md.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report import RESULTS, machine_text, table, write
from results import DATASETS, STAGES, WORK, run, sampled, training_seconds

from flows.cli.recipes import Ready, ready
from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.records import Lengths, Machine, Scores, Split, Validation
from pipeline.metrics import scoring
from pipeline.metrics.scoring import Tallies
from pipeline.models.bases import BaseParams, base_folder
from pipeline.promotion.paired import resampled
from pipeline.sources import Row
from pipeline.stages import artifacts
from pipeline.stages.benchmark.machine import this_machine
from pipeline.tasks.base import Task

CUT = "truncate"
OVERLAPS = {CUT: 0, "head_tail": 0, "windows": 64}  # tokens that neighbouring windows share
SEED = 17


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="imdb", help="of the gallery (imdb)")
    parser.add_argument("--train", type=int, default=5_000, help="training rows (5,000)")
    parser.add_argument("--data", type=Path, default=DATASETS, help="holds a folder a data set")
    args = parser.parse_args()
    try:
        recipe = ready(args.recipe)
        homes = {way: trained(recipe, way, args.data, args.train) for way in OVERLAPS}
        found = compared({way: home / "data" / recipe.name for way, home in homes.items()})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found["recipe"], found["machine"] = recipe.name, this_machine().model_dump()
    found["seconds"] = {way: training_seconds(home) for way, home in homes.items()}
    write(RESULTS, "long_texts", found, markdown(found))
    return 0


def trained(recipe: Ready, way: str, data: Path, rows: int) -> Path:
    """Train and evaluate a recipe with one value of long_text. Returns the repository's copy."""
    home = WORK / f"{recipe.name}-{way}"

    def choose(split: Split | None, found: list[Row]) -> list[Row]:
        text = recipe.block["ingest"]["text"]
        return (
            longest_quarter(found, text, recipe.block["base"]) if split == "test" else found[:rows]
        )

    block = sampled(recipe, data, home, choose)
    block["tokenize"].update({"long_text": way, "overlap": OVERLAPS[way]})
    run(home, recipe.name, block, STAGES[: STAGES.index("evaluate") + 1])
    return home


def longest_quarter(rows: list[Row], text: str, base: Mapping[str, Any]) -> list[Row]:
    """Return the quarter of the rows with the most tokens of a base, in their order."""
    from tokenizers import Tokenizer

    params = BaseParams.model_validate(base)
    tokenizer = Tokenizer.from_file(str(base_folder(params) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch_fast([row.fields[text] for row in rows])
    tokens = np.array([len(each.ids) for each in encoded])
    return [row for row, long in zip(rows, tokens > np.quantile(tokens, 0.75), strict=True) if long]


def compared(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return the scores of each value, from its folder, and their differences from truncation.

    Raises UserError if two of them have answered different rows.
    """
    rows = artifacts.kept_rows(folders[CUT] / "validate", "test")
    scores = Scores.read(folders[CUT] / "evaluate" / "scores.json")
    task = tasks.get(scores.task)
    tallied = {
        way: scoring.tallies(
            task,
            rows["label"].tolist(),
            _answers(folder, rows["id"]),
            scores.labels,
            rows["group"].tolist(),
        )
        for way, folder in folders.items()
    }
    values = {way: scoring.metrics(task.measure, each) for way, each in tallied.items()}
    return {
        "kept": Validation.read(folders[CUT] / "validate" / "validation.json").kept_by_split,
        "max_length": Lengths.read(folders[CUT] / "tokenize" / "lengths.json").maximum,
        "scores": values,
        "differences": {
            way: gained(task, tallied[way], tallied[CUT]) for way in folders if way != CUT
        },
    }


def gained(task: Task, new: Tallies, old: Tallies) -> dict[str, dict[str, float]]:
    """Return the differences of new and old scores of the same units, with 95 % intervals."""
    before, after = (scoring.metrics(task.measure, each) for each in (old, new))
    return {
        metric: {
            "value": after[metric] - before[metric],
            "low": float(np.quantile(drawn, 0.025)),
            "high": float(np.quantile(drawn, 0.975)),
        }
        for metric, drawn in resampled(task.measure, new, old, None, SEED).items()
    }


def _answers(folder: Path, ids: "pd.Series[str]") -> list[str]:
    """Return the answers in a folder to these rows, in their order."""
    frame = pd.read_parquet(folder / "evaluate" / "predictions.parquet", columns=["id", "answer"])
    answers = frame.set_index("id")["answer"].reindex(ids)
    if answers.isna().any():
        raise UserError(
            f"{folder}: has not answered {answers.index[answers.isna()][0]}: its rows differ"
        )
    return answers.tolist()


def markdown(found: dict[str, Any]) -> str:
    metrics = list(found["scores"][CUT])
    listed = []
    for way, values in found["scores"].items():
        own = [way.replace("_", " "), f"{found['seconds'][way] / 60:.0f} min"]
        for metric in metrics:
            gap = found["differences"].get(way, {}).get(metric)
            own += [f"{values[metric]:.4f}"]
            own += [f"{gap['value']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})" if gap else ""]
        listed.append(own)
    header = ["long texts", "training"]
    for metric in metrics:
        header += [metric.replace("_", " "), "less that of cutting (95 %)"]
    rows = found["kept"]
    return f"""{table(header, listed)}

`{found["recipe"]}` at {found["max_length"]} tokens, {rows["train"]:,} training rows, the
{rows["test"]:,} longest test rows.
{machine_text(Machine.model_validate(found["machine"]))}
"""


if __name__ == "__main__":
    sys.exit(main())
