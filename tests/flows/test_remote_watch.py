"""DVC watches a URL: a changed object is new data, for `dvc repro` and `retrain`."""

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from flows import line, retrain, steps
from flows.cli import preflight
from pipeline import recipe as recipes
from pipeline.core.errors import Unavailable
from tests.conftest import Workspace, toy_block, write_params
from tests.servers import Site, Store


def csv_of(rows: int) -> bytes:
    return b"text,label\n" + b"".join(b"a text of number %d,x\n" % n for n in range(rows))


class Watch:
    """Source on the web, in S3, or a prefix there; `put` writes its rows."""

    def __init__(self, url: str, put: Any) -> None:
        self.url, self.put = url, put


@pytest.fixture(params=["web", pytest.param("object", marks=pytest.mark.prove), "prefix"])
def watch(request: pytest.FixtureRequest) -> Watch:
    if request.param == "web":
        site: Site = request.getfixturevalue("site")
        return Watch(f"{site.url}/rows.csv", lambda c: site.pages.update({"/rows.csv": c}))
    bucket: Store = request.getfixturevalue("bucket")
    url = "s3://rows/watched/a.csv" if request.param == "object" else "s3://rows/watched"
    return Watch(url, lambda content: bucket.put("watched/a.csv", content))


def test_a_changed_object_is_new_data(
    watch: Watch, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workspace(tmp_path / "work", tiny_base)
    work.write_recipe(toy_block("base", watch.url))
    monkeypatch.chdir(work.folder)
    settings = recipes.load("toy")
    made = work.folder / "data/toy/ingest/intake.json"

    watch.put(csv_of(30))
    assert work.repro("ingest@toy") == ["ingest@toy"]
    assert json.loads(made.read_text())["rows"] == 30
    assert steps.changed_inputs("toy", ("ingest",)) == set()
    watch.put(csv_of(40))
    changed = steps.changed_inputs("toy", ("ingest",))
    assert retrain._by_kind("toy", changed, settings) == {"data": [watch.url]}
    assert work.repro("ingest@toy") == ["ingest@toy"]
    assert json.loads(made.read_text())["rows"] == 40


def test_a_server_that_is_away_has_deleted_no_rows(
    site: Site, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{site.url}/rows.csv"
    site.server.shutdown()
    site.server.server_close()
    write_params(tmp_path / "params.yaml", {"toy": toy_block(str(tiny_base), url)})
    monkeypatch.chdir(tmp_path)
    settings = recipes.load("toy")
    with disable_run_logger():
        for work in (
            lambda: line.line.fn("toy"),
            lambda: retrain.decide.fn("toy", tmp_path, settings, False, None),
            lambda: preflight.outlook("toy"),
        ):
            with pytest.raises(Unavailable, match=f"{url}: cannot be read now"):
                work()
    assert not (tmp_path / "data").exists()
