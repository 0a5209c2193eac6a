"""Report of `bertline check` on a recipe before it is run."""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline import recipe as recipes
from pipeline import tasks
from pipeline.core.config import PARAMS_FILE
from pipeline.core.errors import UserError
from pipeline.core.files import size_of
from pipeline.core.log import Log, no_log
from pipeline.core.records import SPLITS
from pipeline.core.text import excerpt
from pipeline.core.workspace import LABELS
from pipeline.models.bases import base_folder
from pipeline.models.heads import head_of
from pipeline.stages.evaluate import behaviour
from pipeline.stages.ingest.stage import BATCH, Reader
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import Texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

COPIES = 7  # of the weights: checkpoints with optimizer state, model, ONNX files, cache
SAMPLE = 500  # training rows whose tokens are counted
SHOWN = 3  # rejects that are printed


def outlook(name: str, *, log: Log = no_log) -> list[tuple[str, str]]:
    """Return pairs of a name and a fact: data, base, stages that would run, time and disk.

    Raises UserError for what would stop the pipeline: an invalid recipe, a source without rows, a
    behaviour test of unknown labels, a base that is no encoder.
    """
    recipe = recipes.load(name)
    started = time.monotonic()
    if not Path(recipe.watch).exists():
        raise UserError(f"{PARAMS_FILE}: recipes.{name}.watch: {recipe.watch}: no such file")
    task = tasks.get(recipe.task)
    rows = _Rows(name, recipe, task, log)
    facts = [("recipe", f"{name} is well formed"), *rows.facts()]
    suites = map(behaviour.read_suite, recipe.evaluate.behaviour)
    behaviour.check_labels(suites, sorted(rows.classes))
    weights, config, tokenizer = _base(recipe, task, rows.sample)
    facts.append(("base", f"{recipe.base.model}: {weights / 1e6:.0f} MB"))
    from flows.steps import stale_stages
    from pipeline.core.workspace import ORDER

    log.info("asking DVC which stages would run")
    stale = stale_stages(name)
    first = next((place for place, stage in enumerate(ORDER) if stage in stale), len(ORDER))
    would = ORDER[first:]
    facts.append(("run", ", ".join(would) or "nothing: all stages are fresh"))
    if "finetune" in would:
        finetune = recipe.finetune
        passes = finetune.epochs * rows.by_split["train"]
        if finetune.max_steps:
            batch = finetune.gradient_accumulation * finetune.batch_size
            passes = min(passes, finetune.max_steps * batch)
        tokens = passes * _tokens(tokenizer, recipe, task, rows.sample)
        seconds = _training_seconds(config, tokens)
        minutes = max(1, round(seconds / 60))
        facts.append(("time", f"about {minutes:,} min to train, on this processor"))
    facts.append(("disk", f"about {COPIES * weights / 1e9:.1f} GB, of {_free() / 1e9:.1f} GB free"))
    return [*facts, ("", f"(looked at in {time.monotonic() - started:.0f} s)")]


class _Rows:
    """Counts, classes and a sample of a recipe's rows, read once."""

    def __init__(self, name: str, recipe: recipes.Recipe, task: Task, log: Log) -> None:
        self.sources = recipe.ingest.sources()
        log.info(f"reading {', '.join(self.sources)}")
        self.by_split: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.sample: list[Texts] = []
        draw = random.Random(0)
        labels = LABELS / f"{name}.jsonl"
        self.sources += [str(labels)] if labels.exists() else []
        reader = Reader(recipe.ingest, task, labels)
        for row in reader.rows():
            self.by_split[row["split"]] += 1
            if self.by_split.total() % BATCH == 0:
                log.info(f"{self.by_split.total():,} rows read")
            self.classes.update(task.classes(row["label"]) if row["label"] else ())
            if row["split"] == "train":  # reservoir sampling (Vitter 1985)
                texts = (row["text"], row["second"])
                place = draw.randrange(self.by_split["train"])
                if len(self.sample) < SAMPLE:
                    self.sample.append(texts)
                elif place < SAMPLE:
                    self.sample[place] = texts
        reader.require(self.by_split.total())
        self.rejects, self.limits = reader.rejects, recipe.validate_

    def facts(self) -> Iterator[tuple[str, str]]:
        splits = ", ".join(f"{self.by_split[split]:,} {split}" for split in SPLITS)
        yield "data", f"{', '.join(self.sources)}: {self.by_split.total():,} rows ({splits})"
        for reject in self.rejects[:SHOWN]:
            yield "", f"{reject.file}, line {reject.number}: {reject.reason}"
        if more := len(self.rejects[SHOWN:]):
            yield "", f"and {more:,} more that cannot be used"
        percent = 100 * len(self.rejects) / (len(self.rejects) + self.by_split.total())
        if self.rejects and self.limits.rules.undecodable == "fail":
            yield "", "validate.rules.undecodable is fail: the run would stop there"
        elif percent > self.limits.max_quarantine_percent:
            limit = "validate.max_quarantine_percent"
            yield "", f"{percent:.0f} % of all rows, more than {limit}: the run would stop there"
        if self.classes:
            named = ", ".join(f"{name} {rows:,}" for name, rows in self.classes.most_common())
            yield "label", f"{len(self.classes):,} classes: {excerpt(named, 160)}"


def _base(
    recipe: recipes.Recipe, task: Task, sample: Sequence[Texts]
) -> tuple[float, dict[str, Any], "PreTrainedTokenizerFast"]:
    """Return the size of the base's weights in bytes, its configuration and its tokenizer.

    For a base from scratch, the tokenizer is learned from the sample.
    """
    from pipeline.models import encoders
    from pipeline.stages.tokenize import wordpiece

    base, settings = recipe.base, recipe.tokenize
    if base.network and settings.vocabulary:
        vocabulary = settings.vocabulary
        learned = wordpiece.trained(
            lambda: (text for text, _ in sample),
            vocabulary.size,
            vocabulary.lower_case,
            vocabulary.min_frequency,
        )
        network = base.network.model_dump()
        width, inner = network["hidden_size"], network["intermediate_size"]
        weights = vocabulary.size * width + _weights(network["num_hidden_layers"], width, inner)
        return 4 * weights, network, wordpiece.saved(learned, vocabulary.lower_case)
    folder = base_folder(base)
    head_of(task).check_base(folder, base.model, task)
    encoders.most_tokens(folder, settings.max_length, base.model)
    config = encoders.read_config(folder, base.model)
    tokenizer = encoders.load_tokenizer(folder, base.model)
    return size_of(folder / "model.safetensors"), config, tokenizer


def _tokens(
    tokenizer: "PreTrainedTokenizerFast",
    recipe: recipes.Recipe,
    task: Task,
    sample: Sequence[Texts],
) -> float:
    """Return the mean number of tokens that the model reads of a training row."""
    settings = recipe.tokenize
    with TemporaryDirectory(prefix="bertline-") as saved:
        tokenizer.save_pretrained(saved)
        encoder = task.encoder(
            Path(saved) / "tokenizer.json",
            settings.max_length,
            settings.long_text,
            settings.overlap,
            settings.masked,
        )
        return sum(map(len, encoder.pieces(sample))) / max(len(sample), 1)


def _training_seconds(config: dict[str, Any], tokens: float) -> float:
    """Estimate the time of 6 operations per weight and token (Kaplan et al. 2020).

    The speed of a processor is measured with a matrix product.
    """
    import torch

    width = config.get("hidden_size") or config["dim"]
    inner = config.get("intermediate_size") or config["hidden_dim"]
    layers = config.get("num_hidden_layers") or config["n_layers"]
    work = 6 * _weights(layers, width, inner) * tokens
    if torch.cuda.is_available():
        return float(work / 5e13)
    matrix = torch.randn(1536, 1536)
    best = 1e9
    for _ in range(4):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return float(work / (2 * 1536**3 / best))


def _weights(layers: int, width: int, inner: int) -> int:
    return layers * (4 * width**2 + 2 * width * inner)


def _free() -> int:
    status = os.statvfs(".")
    return status.f_bavail * status.f_frsize
