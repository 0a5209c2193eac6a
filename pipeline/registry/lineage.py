"""The lineage key: one hash of all inputs of a model.

It hashes the dvc.lock entries of a recipe's stages from ingest to export: commands, parameters,
digests of their dependencies (code, data, pins) and of the outputs that later stages read. It
contains no time, commit, run or local path, so two clones that did the same work get the same key.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.workspace import ORDER

# shared by all recipes, so no part of a key: the rows that a recipe took are in its rows.parquet
ALL_LABELS = "data/labels"
MADE_BY = ORDER[: ORDER.index("export") + 1]


def read_entries(lock: Path, recipe: str) -> dict[str, dict[str, Any]]:
    """Lock entries of a recipe's stages, by stage, without those that have not run."""
    from ruamel.yaml import YAML

    content = YAML(typ="safe").load(lock) if lock.exists() else {}
    stages = (content or {}).get("stages", {})
    return {s: stages[f"{s}@{recipe}"] for s in ORDER if f"{s}@{recipe}" in stages}


def lineage_key(lock: Path, recipe: str) -> str:
    """SHA-256 of a recipe's lock entries from ingest to export, as hex.

    It includes the outputs of export, and of earlier stages only those that a later stage reads:
    pages and pictures for people differ with the time of the run. Raises UserError if a stage has
    not run.
    """
    entries = read_entries(lock, recipe)
    missing = [stage for stage in MADE_BY if stage not in entries]
    if missing:
        raise UserError(
            f"{lock}: {missing[0]}@{recipe} has not run: dvc repro {missing[0]}@{recipe}"
        )
    used = {dep["path"] for stage in MADE_BY for dep in entries[stage].get("deps", [])}
    made = []
    for stage in MADE_BY:
        entry = entries[stage]
        outs = [o for o in entry.get("outs", []) if o["path"] in used or stage == MADE_BY[-1]]
        made.append(
            [stage, entry["cmd"], _digests(entry.get("deps", [])), entry["params"], _digests(outs)]
        )
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def _digests(files: list[dict[str, Any]]) -> list[list[str]]:
    return sorted([f["path"], f["md5"]] for f in files if f["path"] != ALL_LABELS)
