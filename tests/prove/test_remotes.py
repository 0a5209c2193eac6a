"""A DVC remote, in a folder and in S3: a second clone trains nothing again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.lineage import lineage_key
from tests.conftest import Workspace

pytestmark = pytest.mark.prove
# what holds for one machine and one MLflow alone: these two run wherever they have not yet
HERE = ["benchmark@toy", "publish@toy"]


class Clone(Workspace):
    def __init__(self, of: Workspace, folder: Path) -> None:
        self.folder = folder
        of.call("git", "clone", "-q", str(of.folder), str(folder))


@pytest.fixture(params=["folder", "s3"])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, ...]]:
    """Arguments of `dvc remote add`."""
    if request.param == "folder":
        yield (str(tmp_path / "remote"),)
        return
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "toy",
        "AWS_SECRET_ACCESS_KEY": "toy",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="dvc")
    yield ("s3://dvc/toy",)
    server.stop()


def test_a_second_clone_runs_nothing_from_ingest_to_export(
    workspace: Workspace,
    tmp_path: Path,
    tiny_base: Path,
    remote: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    workspace.call(*workspace.dvc, "remote", "add", "-d", "store", *remote)
    workspace.call("git", "commit", "-qam", "a remote")
    unlocked = Clone(workspace, tmp_path / "unlocked")
    assert len(workspace.repro()) == 8
    workspace.call(*workspace.dvc, "push", "--run-cache")
    workspace.call("git", "add", "dvc.lock")
    workspace.call("git", "commit", "-qm", "what was made from what")
    locked = Clone(workspace, tmp_path / "locked")
    first = _publication(workspace)

    # without dvc.lock the run cache finds each stage's outputs; with it they are there at once
    for clone in (unlocked, locked):
        clone.call(*clone.dvc, "pull", "--run-cache", code=None)
        assert clone.repro() == HERE
        assert clone.repro() == []
        assert _key(clone) == _key(workspace)
        here = _publication(clone)
        assert here["lineage"] == first["lineage"]
        # timings of two machines may pick another runtime, which is another version
        assert (here["version"] == first["version"]) == (here["key"] == first["key"])


def _publication(work: Workspace) -> dict[str, str]:
    file = work.folder / "data" / "toy" / "publish" / "publication.json"
    return dict(json.loads(file.read_text()))


def _key(work: Workspace) -> str:
    return lineage_key(work.folder / "dvc.lock", "toy")
