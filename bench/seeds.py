"""Correlation of the mistakes of equal models: the same training under several seeds.

    python bench/seeds.py
    python bench/seeds.py --seeds 3 --only news

Trains the recipe `news` on its own rows (run `make demo` first), and with the same settings for one
epoch on 2,000 IMDB reviews cut to 256 tokens, once for each seed. Every model answers the same test
rows (BBC News: the recipe's; IMDB: 1,000 reviews of the published test set). A paired test depends
on the number of rows on which only one of two models is right; it is reported as the correlation of
being right, the mean over all pairs. Writes bench/seeds.json, which `python bench/gate.py` reads.
"""

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
from report import ROOT

from pipeline import recipe as recipes
from pipeline.core.config import read_task
from pipeline.core.log import Console, no_log
from pipeline.core.records import Validation
from pipeline.models.bases import base_folder
from pipeline.stages import artifacts
from pipeline.tasks.base.answering import Answering

HERE = Path(__file__).with_name("seeds.json")
IMDB = ROOT.parent / "shared" / "datasets" / "imdb"
TRAIN, TEST = 2000, 1000  # IMDB reviews


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each (2)")
    parser.add_argument("--only", choices=("news", "imdb"), help="measure one of them")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("--seeds must be 2 or more: mistakes are compared between two models")
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    with TemporaryDirectory(prefix="bench-") as folder:
        for name in (args.only,) if args.only else ("news", "imdb"):
            work = ROOT / "data" / "news" / "tokenize"
            if name == "imdb":
                work = imdb(Path(folder))
            elif not work.exists():
                parser.error(f"{work} is not there: run make demo first")
            found[name] = measure(name, work, args.seeds)
            args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            print(json.dumps(found[name]))
    return 0


def measure(name: str, tokenize: Path, seeds: int) -> dict[str, Any]:
    """Return the accuracies of equal trainings, and their correlation of being right."""
    truth = artifacts.kept_rows(tokenize.parent / "validate", "test")["label"].to_numpy()
    right = np.array([answers(name, tokenize, seed) == truth for seed in range(1, seeds + 1)])
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
    """Train under one seed and return the predicted class of each test row, (rows,)."""
    from pipeline.runtimes.pytorch import TorchModel
    from pipeline.stages.finetune import trainer

    settings = recipes.load("news")
    task = read_task(settings.task, "recipes.news.task")
    params = settings.finetune.model_copy(update={"seed": seed})
    base = base_folder(settings.base)
    if name == "imdb":
        params = params.model_copy(update={"epochs": 1})
    validate = tokenize.parent / "validate"
    labels = Validation.read(validate / "validation.json").labels
    with TemporaryDirectory(prefix="bench-") as folder:
        precision = trainer.device_and_precision(params.precision)[1]
        encoder = artifacts.encoder(tokenize, task)
        validator: Any = SimpleNamespace(
            classes=labels,
            encoder=encoder,
            prepared={},
            metrics=lambda _: dict.fromkeys(task.metrics, 0.0),  # the loss picks the checkpoint
        )
        state = Path(folder) / "state"
        job = trainer.Job(params, task, base, str(base), tokenize, validator, state, precision)
        result = trainer.train(job, Console(f"{name} seed {seed}"), lambda *_: None)
        result.model.save_pretrained(Path(folder) / "model")
        model = TorchModel(Path(folder) / "model", task)
        answering = Answering(task, encoder, model, labels, {})
        texts = artifacts.texts_of(artifacts.kept_rows(validate, "test"))
        return np.array([answer.label for answer in answering(texts, batch_size=32)])


def imdb(folder: Path) -> Path:
    """Run IMDB reviews through the stages up to `tokenize`, and return the folder of `tokenize`."""
    import pyarrow.parquet as pq

    from pipeline.core.config import parse, read_recipe
    from pipeline.stages.ingest.stage import ingest
    from pipeline.stages.tokenize.stage import tokenize
    from pipeline.stages.validate.stage import validate

    if not IMDB.exists():
        raise SystemExit(f"error: {IMDB} is not there: give --only news")
    random = np.random.default_rng(17)
    for split, count in (("train", TRAIN), ("test", TEST)):
        table = pq.read_table(IMDB / f"{split}.parquet")
        picked = random.choice(table.num_rows, count, replace=False)
        pq.write_table(table.take(picked), folder / f"{split}.parquet")
    block = read_recipe("news", ROOT / "params.yaml")
    block["ingest"]["source"] = {s: str(folder / f"{s}.parquet") for s in ("train", "test")}
    block["watch"] = str(folder)
    block["tokenize"]["max_length"] = 256
    settings = parse(recipes.Recipe, block, "recipes.imdb")
    task = read_task(settings.task, "recipes.imdb.task")
    ingest(settings.ingest, task, folder / "ingest")
    validate(settings.validate_, task, folder / "ingest", folder / "validate")
    base, kept_rows, out = settings.base, folder / "validate", folder / "tokenize"
    tokenize(settings.tokenize, task, base, kept_rows, out, log=no_log)
    return folder / "tokenize"


if __name__ == "__main__":
    sys.exit(main())
