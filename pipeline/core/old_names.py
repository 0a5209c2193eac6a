"""Names that earlier versions of bertline wrote, and their current names.

Recipes, records, artifacts, tags and serving settings with these names stay readable for ever.
This table is the only place that maps them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

TASKS = {"masked_words": "masked_lm", "pair_score": "similarity"}
KEYS = {  # of a recipe: dotted path of an old key, and its current name; nested keys first
    "validate.longest_text": "max_characters",
    "validate.fewest_rows": "min_rows",
    "validate.largest_quarantine_percent": "max_quarantine_percent",
    "tokenize.both_orders": "symmetric",
    "tokenize.vocabulary.fewest": "min_frequency",
    "tokenize.hide.share": "probability",
    "tokenize.hide": "masking",
    "finetune.steps": "max_steps",
    "finetune.accumulate": "gradient_accumulation",
    "finetune.warmup": "warmup_ratio",
    "finetune.clip": "max_grad_norm",
    "finetune.decoder.longest": "max_length",
    "finetune.decoder.beams": "num_beams",
    "export.largest_difference": "max_difference",
    "benchmark.largest_drop": "max_metric_drop",
    "benchmark.largest_flips": "max_flip_rate",
    "gate.fewest_rows": "min_rows",
    "gate.fewest_discordant": "min_discordant",
    "gate.rails": "guardrails",
    "retrain.fewest_new_rows": "min_new_rows",
}
ADDED: dict[str, tuple[Any, str]] = {
    # keys that earlier recipes lack: the value that changes nothing, and the key that follows
    "base.languages": (None, "network"),
    "base.han_characters": (False, "network"),
    "ingest.encoding": ("utf-8", "text"),
    "ingest.delimiter": (None, "text"),
    "ingest.separator": (None, "label_names"),
    "ingest.offsets": ("characters", "label_names"),
}
FIELDS = {  # of records, by class
    "Benchmark": {"rungs": "candidates"},
    "Lengths": {"hide": "masking"},
    "Parity": {"largest_difference": "max_difference"},
    "Verdict": {"rails": "guardrails"},
}
SETTINGS = {"hide": "masking"}  # of serving.json
FILES = {"ladder.json": "benchmark.json", "ladder.png": "runtimes.png"}
TAGS = {"bertline.rung": "bertline.runtime"}
METRICS = {"ladder.": "runtime."}  # prefixes of metric names


def renamed(content: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a mapping with its old keys renamed."""
    return {names.get(key, key): value for key, value in content.items()}


def old_keys(block: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """Yield the path and the current name of each old key of a recipe."""
    for key, name in KEYS.items():
        *parents, last = key.split(".")
        mapping: object = block
        for part in parents:
            mapping = mapping.get(part) if isinstance(mapping, Mapping) else None
        if isinstance(mapping, Mapping) and last in mapping:
            yield [*parents, last], name


def missing_keys(block: Mapping[str, Any]) -> Iterator[tuple[list[str], str, str]]:
    """Yield the path of each missing key of a recipe, its value as YAML, and the key that follows
    it."""
    for key, (value, following) in ADDED.items():
        part, last = key.split(".")
        content = block.get(part)
        if isinstance(content, Mapping) and following in content and last not in content:
            yield [part, last], value if isinstance(value, str) else json.dumps(value), following


def without_added(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe without the added keys that have the value that changes nothing."""
    plain = {
        part: dict(each) if isinstance(each, Mapping) else each for part, each in block.items()
    }
    for key, (value, _) in ADDED.items():
        part, last = key.split(".")
        if last in (plain.get(part) or ()) and plain[part][last] == value:
            del plain[part][last]
    return plain


def section(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of an old recipe with its old keys renamed."""
    names = {key.removeprefix(f"{name}."): new for key, new in KEYS.items()}
    return renamed(content, {key: new for key, new in names.items() if "." not in key})


def earlier(path: PurePath) -> Iterator[PurePath]:
    """Yield the earlier paths of a file, in the same folder."""
    for old, new in FILES.items():
        if path.name == new:
            yield path.with_name(old)


def metric(name: str) -> str:
    """Return the current name of a metric."""
    for old, new in METRICS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
