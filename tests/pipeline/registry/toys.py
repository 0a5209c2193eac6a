"""A published toy recipe, and a registry of empty versions."""

from pathlib import Path
from typing import Any

from pipeline.core.records import Publication
from pipeline.core.workspace import ORDER
from pipeline.registry.versions import Registry
from pipeline.stages.publish import stage as publish
from pipeline.stages.publish.params import PublishParams
from tests.pipeline.conftest import Home


def write_lock(folder: Path, salt: str = "") -> Path:
    """A dvc.lock as if the toy's stages had run."""
    from ruamel.yaml import YAML

    stages = {
        f"{stage}@toy": {
            "cmd": f"python -m pipeline {stage} toy",
            "deps": [{"path": f"pipeline/stages/{stage}.py", "md5": f"{stage}{salt}"}],
            "params": {"params.yaml": {}},
            "outs": [{"path": f"data/toy/{stage}", "md5": "0"}],
        }
        for stage in ORDER
    }
    path = folder / "dvc.lock"
    with path.open("w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)
    return path


def publish_toy(
    home: Home, tracking: str, folder: Path, salt: str = "", **gate: object
) -> Publication:
    return publish.publish(
        PublishParams(description="A toy."),
        home.task,
        "toy",
        {"finetune": {"learning_rate": 0.1}, "ingest": {"source": "x" * 9000}, "gate": gate},
        write_lock(folder, salt),
        tracking,
        *(home.folder / stage for stage in ORDER[:-1]),
        folder / "publish",
    )


def runs(registry: Registry) -> list[Any]:
    experiment = registry.client.get_experiment_by_name("toy").experiment_id
    return list(registry.client.search_runs([experiment]))


class Versions(Registry):
    """A registry of four empty versions, without MLflow's slow model logging."""

    def __init__(self, tracking: str) -> None:
        super().__init__(tracking)
        self.client.create_registered_model("toy")
        for number in range(1, 5):
            self.client.create_model_version("toy", source=f"file:///nowhere/{number}")
