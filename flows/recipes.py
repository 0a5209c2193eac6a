"""Recipes as people handle them: adding one for their own rows, and looking before they leap."""

import io
import os
import time
from pathlib import Path
from typing import Any

from pipeline import behaviour
from pipeline import recipe as recipes
from pipeline.config import PARAMS_FILE, check_name, nearest, read_recipes
from pipeline.errors import UserError
from pipeline.files import size_of, write_text
from pipeline.sources import Reject, base_folder, read_rows

COPIES = 7  # of the weights: checkpoints with optimizer state, the model, its ONNX files, the cache


def add_recipe(name: str, file: str, text: str, label: str, like: str) -> None:
    """Write a whole block for `file` into params.yaml, its other values copied from `like`.

    Raises UserError where the name is taken, or the file or a column is missing.
    """
    from ruamel.yaml import YAML

    check_name(name)
    known = read_recipes()
    if name in known:
        raise UserError(f"{PARAMS_FILE}: recipes.{name} is there already: edit it, or take another")
    if like not in known:
        raise UserError(f"{PARAMS_FILE}: no recipe {like!r} to copy from{nearest(like, known)}")
    if Path(file).is_dir():
        text, label = "text", "label"
    next(read_rows(file, (text, label)), None)
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.indent(mapping=2, sequence=4, offset=2)
    with PARAMS_FILE.open(encoding="utf-8") as opened:
        content = yaml.load(opened)
    block = yaml.load(_dumped(yaml, content["recipes"][like]))
    block["watch"] = file
    block["ingest"].update(
        {"source": file, "text": text, "label": label, "group": None, "split": None, "carry": []}
    )
    block["validate"]["labels"] = None
    block["evaluate"].update({"slices": [], "behaviour": []})
    block["publish"]["description"] = f"Classifies the texts of {Path(file).name} by {label}."
    block["gate"].update({"floor_accuracy": 0.5, "floor_macro_f1": 0.3})
    block["retrain"]["schedule"] = None
    content["recipes"][name] = block
    write_text(PARAMS_FILE, _dumped(yaml, content))


def _dumped(yaml: Any, content: Any) -> str:
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def outlook(name: str) -> str:
    """What `bertline check` says: data, base, stages that would run, time and disk."""
    recipe = recipes.load(name)
    started = time.monotonic()
    columns = tuple(
        column
        for column in (
            recipe.ingest.text,
            recipe.ingest.label,
            recipe.ingest.group,
            recipe.ingest.split,
            *recipe.ingest.carry,
        )
        if column
    )
    lines, rows, characters = [f"recipe {name} is well formed"], 0, 0
    rejects: list[Reject] = []
    labels: set[str] = set()
    for source in recipe.ingest.sources().values():
        read = 0
        for row in read_rows(source, columns):
            read += 1
            if isinstance(row, Reject):
                rejects.append(row)
            else:
                characters += len(row.fields.get(recipe.ingest.text, ""))
                labels.add(row.fields.get(recipe.ingest.label, ""))
        if not read:
            raise UserError(f"{source}: no rows")
        lines.append(f"data   {source}: {read:,} rows")
        rows += read
    if not Path(recipe.watch).exists():
        raise UserError(f"{PARAMS_FILE}: recipes.{name}.watch: {recipe.watch}: no such file")
    for reject in rejects[:3]:
        lines.append(f"       {reject.file}, line {reject.number}: {reject.reason}")
    behaviour.check_labels(map(behaviour.read_suite, recipe.evaluate.behaviour), sorted(labels))
    folder = base_folder(recipe.base)
    from pipeline.adapters.transformers import most_tokens, read_config

    most_tokens(folder, recipe.tokenize.max_length, recipe.base.model)
    weights = size_of(folder / "model.safetensors")
    lines.append(f"base   {recipe.base.model}: {weights / 1e6:.0f} MB")
    from flows.steps import stale_stages
    from pipeline.stages import ORDER

    stale = stale_stages(name)
    first = next((place for place, stage in enumerate(ORDER) if stage in stale), len(ORDER))
    would = ORDER[first:]
    lines.append(f"run    {', '.join(would) or 'nothing: all stages are fresh'}")
    if "finetune" in would:
        tokens = min(recipe.tokenize.max_length, max(8, characters / max(rows, 1) / 4))
        seconds = _training_seconds(read_config(folder, recipe.base.model), recipe, rows, tokens)
        lines.append(
            f"time   about {max(1, round(seconds / 60)):,} min to train, on this processor"
        )
    lines.append(f"disk   about {COPIES * weights / 1e9:.1f} GB, of {_free() / 1e9:.1f} GB free")
    lines.append(f"       (looked at in {time.monotonic() - started:.0f} s)")
    return "\n".join(lines)


def _training_seconds(
    config: dict[str, Any], recipe: recipes.Recipe, rows: int, tokens: float
) -> float:
    """6 operations a weight and token (Kaplan et al. 2020), at the speed of a matrix product."""
    import torch

    width = config.get("hidden_size") or config["dim"]
    inner = config.get("intermediate_size") or config["hidden_dim"]
    layers = config.get("num_hidden_layers") or config["n_layers"]
    weights = layers * (4 * width * width + 2 * width * inner)
    share = 1 - (recipe.ingest.test_percent + recipe.ingest.validation_percent) / 100
    work = 6 * weights * tokens * rows * share * recipe.finetune.epochs
    if torch.cuda.is_available():
        return float(work / 5e13)
    matrix = torch.randn(1536, 1536)
    best = 1e9
    for _ in range(4):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return float(work / (2 * 1536**3 / best))


def _free() -> int:
    status = os.statvfs(".")
    return status.f_bavail * status.f_frsize
