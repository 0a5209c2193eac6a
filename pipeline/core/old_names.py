"""Names of earlier versions, and what they are called now.

Recipes, records, artifacts, tags and answers' settings were written under these names, and are read
under them for ever: by this table and nothing else.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

TASKS = {"masked_words": "masked_lm", "pair_score": "similarity"}
KEYS = {  # of a recipe: the place of an old key, and its name now; what lies inside comes first
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
FIELDS = {  # of records, by class
    "Benchmark": {"rungs": "candidates"},
    "Lengths": {"hide": "masking"},
    "Parity": {"largest_difference": "max_difference"},
    "Verdict": {"rails": "guardrails"},
}
SETTINGS = {"hide": "masking"}  # of serving.json
FILES = {"ladder.json": "benchmark.json", "ladder.png": "runtimes.png"}
TAGS = {"bertline.rung": "bertline.runtime"}
METRICS = {"ladder.": "runtime."}  # how a metric's name begins


def renamed(content: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A mapping whose old keys have the names of today."""
    return {names.get(key, key): value for key, value in content.items()}


def old_keys(block: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """The old keys of a recipe: the place of each, and its name now."""
    for key, name in KEYS.items():
        *above, last = key.split(".")
        place: object = block
        for part in above:
            place = place.get(part) if isinstance(place, Mapping) else None
        if isinstance(place, Mapping) and last in place:
            yield [*above, last], name


def section(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's section as it was once written, under the keys of today."""
    names = {key.removeprefix(f"{name}."): new for key, new in KEYS.items()}
    return renamed(content, {key: new for key, new in names.items() if "." not in key})


def earlier(path: PurePath) -> Iterator[PurePath]:
    """Earlier name of a file, in the same folder."""
    for old, new in FILES.items():
        if path.name == new:
            yield path.with_name(old)


def metric(name: str) -> str:
    """A metric of a run, by its name of today."""
    for old, new in METRICS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
