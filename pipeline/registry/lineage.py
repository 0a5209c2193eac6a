"""The lineage key: one hash of everything that a model came from.

It is taken from what dvc.lock says of a recipe's stages from ingest to export: their commands,
parameters, the digests of the code, data and version files they depend on, and of what they hand
on. No clock, commit, run or path of a machine goes into it, so two clones that did the same work
agree on it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.workspace import ORDER

ALL_LABELS = "data/labels"  # of every recipe: what one takes from it stands in its rows.parquet
MADE_BY = ORDER[: ORDER.index("export") + 1]


def read_entries(lock: Path, recipe: str) -> dict[str, dict[str, Any]]:
    """What a lock file says of a recipe's stages, by stage; those that have not run are absent."""
    from ruamel.yaml import YAML

    content = YAML(typ="safe").load(lock) if lock.exists() else {}
    stages = (content or {}).get("stages", {})
    return {s: stages[f"{s}@{recipe}"] for s in ORDER if f"{s}@{recipe}" in stages}


def lineage_key(lock: Path, recipe: str) -> str:
    """SHA-256, as hex, of a recipe's lock entries from ingest to export.

    Of each stage's outputs only those count that a later one of these stages reads, and
    export's own: pages and pictures for people tell the time they were made.
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
