"""The lineage key: it holds all inputs of a model and nothing else."""

import json
from pathlib import Path
from typing import Any

from pipeline.registry.lineage import MADE_BY, lineage_key


def key_of(folder: Path, **digests: str) -> str:
    def files(*paths: str) -> list[dict[str, str]]:
        return [{"path": path, "md5": digests.get(Path(path).stem, "0")} for path in paths]

    stages: dict[str, Any] = {
        f"{stage}@toy": {"cmd": stage, "params": {}, "deps": files("code"), "outs": []}
        for stage in MADE_BY
    }
    stages["ingest@toy"]["deps"] += files("data/labels", "data/raw/source.csv")
    stages["ingest@toy"]["outs"] = files("data/toy/ingest/rows.parquet")
    stages["validate@toy"]["deps"] += files("data/toy/ingest/rows.parquet")
    (folder / "dvc.lock").write_text(json.dumps({"stages": stages}))
    return lineage_key(folder / "dvc.lock", "toy")


def test_labels_of_another_recipe_make_no_new_version(tmp_path: Path) -> None:
    before = key_of(tmp_path)
    assert key_of(tmp_path, labels="1") == before
    assert key_of(tmp_path, labels="1", rows="1") != before
    assert key_of(tmp_path, source="1") != before
    assert key_of(tmp_path, code="1") != before
