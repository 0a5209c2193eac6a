"""A DVC remote, in a folder and in S3: a second clone trains nothing again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.registry.lineage import lineage_key
from tests.conftest import Workspace

pytestmark = pytest.mark.prove
# what holds for one machine and one MLflow alone: these two run wherever they have not yet
HERE = ["benchmark@toy", "publish@toy"]


class Clone(Workspace):
    def __init__(self, of: Workspace, folder: Path) -> None:
        self.folder, self.variables = folder, dict(of.variables)
        of.call("git", "clone", "-q", str(of.folder), str(folder))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An address in an S3 store on this machine."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    known = {
        "AWS_ACCESS_KEY_ID": "toy",
        "AWS_SECRET_ACCESS_KEY": "toy",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="dvc")
        yield "s3://dvc/toy"
    server.stop()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, bucket: str) -> Workspace:
    """A line that has run, and was pushed to a folder and to the bucket."""
    home = tmp_path_factory.mktemp("trained")
    work = Workspace(home / "work", tiny_base)
    work.call(*work.dvc, "remote", "add", "folder", str(home / "remote"))
    work.call(*work.dvc, "remote", "add", "s3", bucket)
    work.variables["MLFLOW_TRACKING_URI"] = f"sqlite:///{home / 'mlflow.db'}"
    assert len(work.repro()) == 8
    for remote in ("folder", "s3"):
        work.call(*work.dvc, "push", "--run-cache", "--remote", remote)
    work.call("git", "add", "-A")
    work.call("git", "commit", "-qm", "what was made from what, and where it is")
    return work


@pytest.mark.parametrize("remote", ["folder", "s3"])
@pytest.mark.parametrize("lock", [True, False])
def test_another_clone_runs_nothing_from_ingest_to_export(
    trained: Workspace, tmp_path: Path, remote: str, lock: bool
) -> None:
    """Outputs are restored at once with dvc.lock, and stage by stage without it."""
    clone = Clone(trained, tmp_path / "clone")
    clone.call(*clone.dvc, "remote", "default", remote)
    if not lock:
        (clone.folder / "dvc.lock").unlink()
    clone.call(*clone.dvc, "pull", "--run-cache", code=0 if lock else 1)
    assert clone.repro("export@toy", *([] if lock else ["--pull"])) == []
    if lock and remote == "s3":  # both take a while
        assert clone.repro() == HERE
        assert clone.repro() == []
        assert _key(clone) == _key(trained)
        here, there = _publication(clone), _publication(trained)
        assert here["lineage"] == there["lineage"]
        # timings of another machine may pick another runtime, which is another version
        assert (here["version"] == there["version"]) == (here["key"] == there["key"])


def _publication(work: Workspace) -> dict[str, str]:
    file = work.folder / "data" / "toy" / "publish" / "publication.json"
    return dict(json.loads(file.read_text()))


def _key(work: Workspace) -> str:
    return lineage_key(work.folder / "dvc.lock", "toy")
