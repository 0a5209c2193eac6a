"""Report of `bertline check` on a recipe before it is run."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flows.cli.examined_rows import STOP, ExaminedRows
from pipeline import recipe as recipes
from pipeline import tasks
from pipeline.core.config import PARAMS_FILE
from pipeline.core.errors import UserError
from pipeline.core.files import size_of
from pipeline.core.locations import is_local
from pipeline.core.log import Log, no_log
from pipeline.models import encoders
from pipeline.models.bases import base_folder
from pipeline.models.families import family_of
from pipeline.models.heads import head_of
from pipeline.sources.remote import check_watched
from pipeline.stages.evaluate import behaviour
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import Texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

COPIES = 7  # of the weights: checkpoints with optimizer state, model, ONNX files, cache


def outlook(name: str, *, log: Log = no_log) -> list[tuple[str, str]]:
    """Return pairs of a name and a fact: data, rules that flag rows, base, stages that would run,
    time and disk. `stops` tells from them whether validate would stop the run.

    Raises UserError for what would stop the other stages: an invalid recipe, a source without rows,
    a behaviour test of unknown labels, a base that is no encoder.
    """
    recipe = recipes.load(name)
    started = time.monotonic()
    if is_local(recipe.watch) and not Path(recipe.watch).exists():
        raise UserError(f"{PARAMS_FILE}: recipes.{name}.watch: {recipe.watch}: no such file")
    check_watched(recipe.watch)
    task = tasks.get(recipe.task)
    rows = ExaminedRows(name, recipe, task, log)
    found = rows.facts()
    ends = ", but its run would stop at validate" if stops(found) else ""
    facts = [("recipe", f"{name} is well formed{ends}"), *found]
    suites = map(behaviour.read_suite, recipe.evaluate.behaviour)
    if not ends:
        behaviour.check_labels(suites, sorted(rows.classes))
    weights, layers, tokenizer = _base(recipe, task, rows.sample, log)
    texts = [text for pair in rows.sample for text in pair if text]
    unknown = encoders.unknown_share(tokenizer.backend_tokenizer, texts)
    known = f"knows {1 - unknown:.1%} of the tokens of the texts"
    facts.append(("base", f"{recipe.base.model}: {weights / 1e6:.0f} MB, {known}"))
    from flows.steps import stale_stages
    from pipeline.core.workspace import ORDER

    log.info("asking DVC which stages would run")
    stale = stale_stages(name)
    first = next((place for place, stage in enumerate(ORDER) if stage in stale), len(ORDER))
    would = ORDER[first:]
    facts.append(("run", ", ".join(would) or "nothing: all stages are fresh"))
    if "finetune" in would:
        finetune = recipe.finetune
        passes = finetune.epochs * rows.intake.by_split["train"]
        if finetune.max_steps:
            batch = finetune.gradient_accumulation * finetune.batch_size
            passes = min(passes, finetune.max_steps * batch)
        tokens = passes * _tokens(tokenizer, recipe, task, rows.sample)
        seconds = _training_seconds(layers, tokens)
        minutes = max(1, round(seconds / 60))
        facts.append(("time", f"about {minutes:,} min to train, on this processor"))
    facts.append(("disk", f"about {COPIES * weights / 1e9:.1f} GB, of {_free() / 1e9:.1f} GB free"))
    return [*facts, ("", f"(looked at in {time.monotonic() - started:.0f} s)")]


def stops(facts: Sequence[tuple[str, str]]) -> bool:
    """True if one of the facts is that validate would stop the run."""
    return any(fact.endswith(STOP) for _, fact in facts)


def _base(
    recipe: recipes.Recipe, task: Task, sample: Sequence[Texts], log: Log
) -> tuple[float, int, "PreTrainedTokenizerFast"]:
    """Return the size of the base's weights in bytes, the number of weights in the matrices of its
    layers, and its tokenizer.

    For a base from scratch, the tokenizer is learned from the sample.
    """
    from transformers import AutoModel

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
        layers = _weights(network["num_hidden_layers"], width, inner)
        weights = vocabulary.size * width + layers
        return 4 * weights, layers, wordpiece.saved(learned, vocabulary.lower_case)
    folder = base_folder(base, log=log)
    head_of(task).check_base(folder, base.model, task)
    encoders.most_tokens(folder, settings.max_length, base.model)
    # damaged weights, and those of another configuration, are found here
    config = encoders.load(AutoModel, folder, base.model).config
    inner = getattr(config, family_of(config).inner_size)
    layers = _weights(config.num_hidden_layers, config.hidden_size, inner)
    tokenizer = encoders.load_tokenizer(folder, base.model)
    return size_of(folder / "model.safetensors"), layers, tokenizer


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


def _training_seconds(weights: int, tokens: float) -> float:
    """Estimate the time of 6 operations per weight and token (Kaplan et al. 2020).

    The speed of a processor is measured with a matrix product.
    """
    import torch

    work = 6 * weights * tokens
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
