"""Upkeep of a used folder: fsck names damage, gc loses nothing, forget leaves nothing."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Workspace, make_rows, toy_block, write_csv
from tests.pipeline.upkeep.conftest import damage, enter

pytestmark = pytest.mark.prove
FLIPS = 100
PERSON = "Marigold Featherstonehaugh asks about her team"
OTHER = "the coach of a team in the league"
RATES = (1e-2, 5e-3, 2e-3, 1e-3)


@dataclass(frozen=True)
class Lived:
    work: Workspace
    tracking: str


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Lived:
    """Four versions of a toy, of which the first and the third were promoted."""
    from pipeline.registry.versions import Registry

    work = Workspace(tmp_path_factory.mktemp("lived") / "work", tiny_base)
    rows = make_rows(300)
    for place, text in ((0, PERSON), (150, OTHER), (299, PERSON)):
        rows[place] = {"text": text, "label": "sport"}
    write_csv(work.folder / "data" / "raw" / "toy.csv", rows)
    block = toy_block("base", "data/raw/toy.csv")
    for rate in RATES:
        block["finetune"].update({"epochs": 2, "learning_rate": rate})
        block["benchmark"].update({"max_metric_drop": 1.0, "max_flip_rate": 1.0})
        work.write_recipe(block)
        work.repro()
    tracking = f"sqlite:///{work.folder / 'mlflow.db'}"
    registry = Registry(tracking)
    enter(registry, "promote", "1")
    enter(registry, "promote", "3", previous="1")
    return Lived(work, tracking)


@pytest.fixture(autouse=True)
def _there(lived: Lived, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(lived.work.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield


def test_a_flipped_bit_is_named_wherever_it_is_and_never_served(lived: Lived) -> None:
    from flows.cli.upkeep import findings
    from pipeline.core.errors import UserError
    from pipeline.registry import artifacts
    from pipeline.registry.versions import Registry, digests_of
    from pipeline.upkeep.cache import Cache

    cache, registry = Cache(lived.work.folder / ".dvc" / "cache"), Registry(lived.tracking)

    def told() -> list[str]:
        return [f.what for f in findings(cache, ["toy"], only=False) if f.damage]

    places: list[tuple[Path, str, str]] = []  # file, how it is named, the version that serves it
    places += [(path, str(path), "") for path in cache.objects().values()]
    runs = {run.identity: run for run in artifacts.runs(registry.client, "toy")}
    models = {one.identity: one for one in artifacts.models(registry.client, "toy")}
    for version in artifacts.versions(registry.client, "toy"):
        who = f"toy/{version.number}"
        for name in artifacts.listing(runs[version.run].uri):
            file = artifacts.fetch(runs[version.run].uri, name)
            places.append((file, f"{name} of {who}", ""))
        folder = artifacts.fetch(models[version.model_id].uri, "MLmodel").parent
        for name in digests_of(folder):
            places.append((folder / name, f"{name} of {who}", version.number))
    assert told() == []

    draw = random.Random(11)
    served: list[str] = []
    unnamed: list[str] = []
    for file, name, number in draw.choices(places, k=FLIPS):
        place = draw.randrange(file.stat().st_size)
        damage(file, place)
        if not any(name in line for line in told()):
            unnamed.append(name)
        if number:
            try:
                registry.load("toy", number)
                served.append(name)
            except UserError:
                pass
        damage(file, place)
    assert (unnamed, served) == ([], [])
    assert told() == []
    print(f"{FLIPS} flips in {len(places)} files: all named, none served")


def test_tidying_keeps_what_the_ledger_can_return_to(lived: Lived) -> None:
    work = lived.work
    said = work.call(*work.bertline, "gc", "--keep", "0").stdout
    assert "versions that never were in use       1" in said
    assert "nothing has been deleted: --yes deletes it" in said
    work.call(*work.bertline, "gc", "--keep", "0", "--yes")
    work.call(*work.bertline, "fsck")
    assert "no such version" in work.call(*work.bertline, "explain", "toy/2", code=2).stderr
    assert "toy/3, in use" in work.call(*work.bertline, "explain", "toy@champion").stdout
    assert "toy/1, not in use" in work.call(*work.bertline, "explain", "toy/1").stdout
    work.call(*work.dvc, "checkout")
    assert work.repro() == []
    small = work.call(*work.bertline, "gc", "--budget", "10B", code=1).stdout
    assert "10 B cannot be reached" in small
    rolled = work.call(*work.bertline, "rollback", "toy").stdout
    assert "toy/1 is the champion again" in rolled


def test_a_persons_rows_leave_everything(lived: Lived, tmp_path: Path) -> None:
    from pipeline.core.text import content_id

    work = lived.work
    ids = tmp_path / "ids.txt"
    ids.write_text(f"{content_id(PERSON)}\n")
    source = work.folder / "data" / "raw" / "toy.csv"
    before = source.read_bytes().splitlines(keepends=True)
    assert holders(work.folder, PERSON), "the search finds it while it is there"
    dry = work.call(*work.bertline, "forget", "toy", "--ids", str(ids)).stdout
    assert "rewrite data/raw/toy.csv without 2 rows" in dry
    assert source.read_bytes().splitlines(keepends=True) == before

    said = work.call(*work.bertline, "forget", "toy", "--ids", str(ids), "--yes").stdout
    assert "has learned from 1 of them" in said
    assert "git's history still holds data/raw/toy.csv" in said
    assert holders(work.folder, PERSON) == []
    left = [line for line in before if PERSON.encode() not in line]
    assert source.read_bytes() == b"".join(left)
    assert holders(work.folder, OTHER), "the other rows are still there"

    again = work.call(*work.bertline, "forget", "toy", "--ids", str(ids), "--yes", code=2)
    assert "no row of toy has that id" in again.stderr
    assert "ingest@toy" in work.repro()
    assert holders(work.folder, PERSON) == []
    work.call(*work.bertline, "fsck")


def holders(folder: Path, text: str) -> list[str]:
    """Files below a folder but git's, whose bytes or decoded tables hold a text or its id."""
    from pipeline.core.text import content_id

    needles = (text, content_id(text))
    found = []
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or ".git" in file.relative_to(folder).parts:
            continue
        content = file.read_bytes() + _decoded(file)
        if any(needle.encode() in content for needle in needles):
            found.append(str(file.relative_to(folder)))
    return found


def _decoded(file: Path) -> bytes:
    import pandas as pd
    import pyarrow as pa

    with file.open("rb") as opened:
        start = opened.read(4)
    if start == b"PAR1":
        return pd.read_parquet(file).to_csv().encode()
    if start == b"\xff\xff\xff\xff":
        with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
            return stream.read_pandas().to_csv().encode()
    return b""
