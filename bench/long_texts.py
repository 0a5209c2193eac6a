"""What windows give over cutting, on the texts that are cut most.

    python bench/results.py imdb imdb-windows
    python bench/long_texts.py

Two recipes of the gallery that differ in `tokenize.long_text` alone have answered the same test
rows. On the quarter of them with the most tokens, and on all, their scores and the difference with
its 95 % interval: a paired bootstrap over rows (Efron and Tibshirani 1993), both recipes' answers
to a row drawn together. Writes long_texts.json and long_texts.md.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report import RESULTS, machine_text, table, write
from results import WORK

from pipeline import kept, scoring, tasks
from pipeline.errors import UserError
from pipeline.promotion.paired import resampled
from pipeline.records import Ladder, Lengths, Machine, Scores

SEED = 17


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cut", nargs="?", default="imdb", help="recipe that cuts (imdb)")
    parser.add_argument("windows", nargs="?", default="imdb-windows", help="(imdb-windows)")
    given = parser.parse_args()
    try:
        found = compared(given.cut, given.windows)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write(RESULTS, "long_texts", found, markdown(found))
    return 0


def compared(cut: str, windows: str) -> dict[str, Any]:
    """Both recipes' scores on the longest quarter and on all test rows.

    Raises UserError where a recipe has not been run, or both have not answered the same rows.
    """
    homes = {name: WORK / name / "data" / name for name in (cut, windows)}
    for name, home in homes.items():
        if not (home / "evaluate" / "scores.json").exists():
            raise UserError(f"{home}: has no scores yet: python bench/results.py {name}")
    rows = kept.kept_rows(homes[cut] / "validate", "test")
    answers = {name: _answers(home, rows["id"]) for name, home in homes.items()}
    scores = Scores.read(homes[cut] / "evaluate" / "scores.json")
    task = tasks.get(scores.task)
    encoder = kept.encoder(homes[cut] / "tokenize", task)
    tokens = np.array([len(e.ids) for e in encoder.encodings(kept.texts_of(rows))])
    least = int(np.quantile(tokens, 0.75))
    parts = {"longest quarter": tokens > least, "all": np.ones(len(rows), dtype=bool)}
    found: dict[str, Any] = {
        "cut": cut,
        "windows": windows,
        "how": {name: _how(home) for name, home in homes.items()},
        "longest_from": least + 1,
        "machine": Ladder.read(homes[cut] / "benchmark" / "ladder.json").machine.model_dump(),
        "parts": {},
    }
    for part, own in parts.items():
        labels = rows["label"][own].tolist()
        groups = rows["group"][own].tolist()
        tallied = {
            name: scoring.tallies(task, labels, given[own].tolist(), scores.labels, groups)
            for name, given in answers.items()
        }
        differences = resampled(task.measure, tallied[windows], tallied[cut], None, SEED)
        values = {name: scoring.metrics(task.measure, each) for name, each in tallied.items()}
        found["parts"][part] = {
            "rows": int(own.sum()),
            "scores": values,
            "difference": {
                metric: {
                    "value": values[windows][metric] - values[cut][metric],
                    "low": float(np.quantile(drawn, 0.025)),
                    "high": float(np.quantile(drawn, 0.975)),
                }
                for metric, drawn in differences.items()
            },
        }
    return found


def _answers(home: Path, ids: "pd.Series[str]") -> "pd.Series[str]":
    """A recipe's answers to these rows, in their order."""
    frame = pd.read_parquet(home / "evaluate" / "predictions.parquet", columns=["id", "answer"])
    answers = frame.set_index("id")["answer"].reindex(ids)
    if answers.isna().any():
        raise UserError(f"{home}: has not answered {answers.index[answers.isna()][0]}: other rows")
    return answers.reset_index(drop=True)


def _how(home: Path) -> str:
    lengths = Lengths.read(home / "tokenize" / "lengths.json")
    return f"{lengths.long_text.replace('_', ' ')} at {lengths.maximum}"


def markdown(found: dict[str, Any]) -> str:
    cut, windows, how = found["cut"], found["windows"], found["how"]
    listed = []
    for part, of in found["parts"].items():
        for metric, difference in of["difference"].items():
            listed.append(
                (
                    part,
                    metric.replace("_", " "),
                    f"{of['rows']:,}",
                    f"{of['scores'][cut][metric]:.4f}",
                    f"{of['scores'][windows][metric]:.4f}",
                    f"{difference['value']:+.4f} ({difference['low']:+.4f} to"
                    f" {difference['high']:+.4f})",
                )
            )
    header = ("test rows", "score", "rows", f"`{cut}`: {how[cut]}", f"`{windows}`: {how[windows]}")
    return f"""{table((*header, "difference (95 %)"), listed)}

The longest quarter are the test rows of {found["longest_from"]:,} tokens and more.
{machine_text(Machine.model_validate(found["machine"]))}
"""


if __name__ == "__main__":
    sys.exit(main())
