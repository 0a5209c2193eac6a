"""Training of a gallery recipe with other values, scored on its validation rows alone.

    python bench/trials.py mrpc finetune.learning_rate=5e-5 finetune.epochs=8

The recipe is trained as results.py trains it, without a look at its test rows. The score of its
best checkpoint is stored in bench/results/trials/NAME.json and listed in docs/RESULTS.md. Values
are parsed as JSON if possible, else taken as text.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from results import (
    DATASETS,
    STAGES,
    WORK,
    digest,
    link,
    prepared,
    pretrained_by,
    run,
    training_seconds,
)
from results_page import TRIALS, write_page

from flows.cli.recipes import names, ready
from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.core.records import Fit, Validation
from pipeline.stages.benchmark.machine import this_machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", metavar="NAME", choices=names(), help="a recipe of the gallery")
    parser.add_argument("values", nargs="+", metavar="STAGE.KEY=VALUE", help="what is changed")
    parser.add_argument("--data", type=Path, default=DATASETS, help="holds a folder a data set")
    args = parser.parse_args()
    try:
        attempt(args.name, args.values, args.data)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


def attempt(name: str, values: list[str], data: Path) -> None:
    """Train a recipe with other values, and store its scores on validation rows."""
    recipe = ready(name)
    block = changed(recipe.placed(), values)
    home = prepared(WORK / f"{name}-{digest(block)[:8]}", recipe, data / recipe.folder)
    if pretrained := pretrained_by(block):
        link(home, pretrained, data)
    run(home, name, block, STAGES[: STAGES.index("finetune") + 1])
    folder = home / "data" / name
    fit = Fit.read(folder / "finetune" / "fit.json")
    found = {
        "changes": " ".join(sorted(values)),
        "kept": Validation.read(folder / "validate" / "validation.json").kept_by_split,
        "validation": {"metric": fit.best_metric, "value": fit.best_value},
        "training_seconds": training_seconds(home),
        "machine": this_machine().model_dump(),
    }
    file = TRIALS / f"{name}.json"
    before = json.loads(file.read_text())["trials"] if file.exists() else []
    others = [each for each in before if each["changes"] != found["changes"]]
    write_json(file, {"recipe": name, "trials": [*others, found]})
    write_page()
    print(f"{name}, {found['changes']}: {fit.best_value:.4f} {fit.best_metric}", flush=True)


def changed(block: Any, values: list[str]) -> Any:
    """Set values in a recipe and return it. Raises UserError for a key that it does not have."""
    for value in values:
        path, equals, text = value.partition("=")
        *stages, key = path.split(".")
        place = block
        for stage in stages:
            place = place.get(stage) if isinstance(place, dict) else None
        if not (equals and stages) or not isinstance(place, dict) or key not in place:
            raise UserError(f"{value}: the recipe has no {path}; write STAGE.KEY=VALUE")
        try:
            place[key] = json.loads(text)
        except ValueError:
            place[key] = text
    return block


if __name__ == "__main__":
    sys.exit(main())
