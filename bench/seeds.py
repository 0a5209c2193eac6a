"""How alike the mistakes of equal models are: the same training under several seeds.

    python bench/seeds.py
    python bench/seeds.py --seeds 3 --only news

Trains the recipe `news` on its own rows (run `make demo` first), and with the same settings for one
epoch on 2,000 IMDB reviews cut to 256 tokens, once a seed. Every model answers the same test rows
(BBC News: the recipe's; IMDB: 1,000 reviews of the published test set). What matters to a paired
test is on how many rows two such models differ in being right: it is told as the correlation of
their being right, the mean over all pairs. Writes bench/seeds.json, from which
`python bench/gate.py` draws its worlds.
"""

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from report import ROOT

from pipeline import recipe as recipes
from pipeline.adapters.tokens import read_tokens
from pipeline.log import Console, no_log
from pipeline.records import Validation
from pipeline.sources import base_folder

HERE = Path(__file__).with_name("seeds.json")
IMDB = ROOT.parent / "shared" / "datasets" / "imdb"
TRAINED, ASKED = 2000, 1000  # IMDB reviews


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each (2)")
    parser.add_argument("--only", choices=("news", "imdb"), help="measure one of them")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds must be 2 or more: mistakes are compared between two models")
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    with TemporaryDirectory(prefix="bench-") as folder:
        for name in (given.only,) if given.only else ("news", "imdb"):
            work = ROOT / "data" / "news" / "tokenize"
            if name == "imdb":
                work = imdb(Path(folder))
            elif not work.exists():
                parser.error(f"{work} is not there: run make demo first")
            found[name] = alike(name, work, given.seeds)
            given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            print(json.dumps(found[name]))
    return 0


def alike(name: str, tokenize: Path, seeds: int) -> dict[str, Any]:
    """Accuracies, and the correlation of being right, of equal trainings."""
    rows = read_tokens(tokenize, "test")
    right = np.array([answers(name, tokenize, seed) == rows.labels for seed in range(1, seeds + 1)])
    pairs = list(combinations(range(seeds), 2))
    return {
        "test_rows": right.shape[1],
        "accuracies": [round(float(each.mean()), 4) for each in right],
        "discordant": [round(float((right[i] != right[j]).mean()), 4) for i, j in pairs],
        "correlation": round(
            float(np.mean([np.corrcoef(right[i], right[j])[0, 1] for i, j in pairs])), 3
        ),
    }


def answers(name: str, tokenize: Path, seed: int) -> Any:
    """What a training under one seed answers the test rows, (rows,)."""
    from pipeline.adapters import trainer
    from pipeline.adapters.pytorch import TorchClassifier

    settings = recipes.load("news")
    params = settings.finetune.model_copy(update={"seed": seed})
    base = base_folder(settings.base)
    labels = ["negative", "positive"]
    if name == "imdb":
        params = params.model_copy(update={"epochs": 1})
    else:
        labels = Validation.read(tokenize.parent / "validate" / "validation.json").labels
    with TemporaryDirectory(prefix="bench-") as folder:
        precision = trainer.where_and_how(params.precision)[1]
        result = trainer.train(
            params,
            base,
            str(base),
            labels,
            tokenize,
            Path(folder) / "state",
            precision,
            Console(f"{name} seed {seed}"),
            lambda *_: None,
        )
        result.model.save_pretrained(Path(folder) / "model")
        model = TorchClassifier(Path(folder) / "model")
        return model.logits(read_tokens(tokenize, "test").tokens).argmax(1)


def imdb(folder: Path) -> Path:
    """IMDB reviews as the line's own stages hand them on: the folder of `tokenize`."""
    import pyarrow.parquet as pq

    from pipeline.config import parse, read_recipe
    from pipeline.stages.ingest import ingest
    from pipeline.stages.tokenize import tokenize
    from pipeline.stages.validate import validate

    if not IMDB.exists():
        raise SystemExit(f"error: {IMDB} is not there: give --only news")
    random = np.random.default_rng(17)
    for split, count in (("train", TRAINED), ("test", ASKED)):
        table = pq.read_table(IMDB / f"{split}.parquet")
        picked = random.choice(table.num_rows, count, replace=False)
        pq.write_table(table.take(picked), folder / f"{split}.parquet")
    block = read_recipe("news", ROOT / "params.yaml")
    block["ingest"]["source"] = {s: str(folder / f"{s}.parquet") for s in ("train", "test")}
    block["watch"] = str(folder)
    block["tokenize"]["max_length"] = 256
    settings = parse(recipes.Recipe, block, "recipes.imdb")
    ingest(settings.ingest, folder / "ingest")
    validate(settings.validate_, folder / "ingest", folder / "validate")
    tokenize(settings.tokenize, settings.base, folder / "validate", folder / "tokenize", log=no_log)
    return folder / "tokenize"


if __name__ == "__main__":
    sys.exit(main())
