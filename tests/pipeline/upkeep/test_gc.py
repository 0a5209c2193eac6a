"""gc deletes what no version needs and keeps what the ledger can return to, also after a kill."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.upkeep import fsck, gc
from pipeline.upkeep.cache import named_in
from tests.pipeline.upkeep.conftest import Shop, damage

LATER = 8 * gc.DAY


def plan(
    shop: Shop,
    *,
    keep: int = 0,
    budget: int | None = None,
    named_now: set[str] | None = None,
    published: str | None = None,
    after: float = 0,
) -> gc.Plan:
    return gc.plan(
        shop.registry,
        {"toy": published},
        gc.Workspace(shop.cache, named_now or set(), shop.state),
        time.time() + after,
        keep=keep,
        budget=budget,
    )


def kinds(found: gc.Plan) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in found.items:
        counts[item.kind] = counts.get(item.kind, 0) + 1
    return counts


def numbers(shop: Shop) -> list[str]:
    found = shop.client.search_model_versions("name = 'toy'")
    return sorted(str(version.version) for version in found)


@pytest.fixture
def history(shop: Shop) -> dict[str, str]:
    """Register six versions with one file each; promote the second, then the fourth."""
    weights = {}
    for number in range(1, 7):
        weights[str(number)] = shop.keep(f"weights {number}".encode() * 1000)
        shop.version({"data/toy/export/onnx/model.onnx": weights[str(number)]})
    shop.enter("promote", "2")
    shop.enter("hold", "3", previous="2")
    shop.enter("promote", "4", previous="2")
    return weights


def test_every_champion_and_the_last_others_stay(shop: Shop, history: dict[str, str]) -> None:
    found = plan(shop, keep=1)
    assert kinds(found) == {
        "versions that never were in use": 3,
        "cache objects that nobody needs": 3,
    }
    before = {number: shop.files_of(number) for number in numbers(shop)}
    gc.collect(found.items)
    assert numbers(shop) == ["2", "4", "6"]
    assert [n for n in history if shop.cache.has(history[n])] == ["2", "4", "6"]
    assert [n for n in before if (before[n] / "model.onnx").exists()] == ["2", "4", "6"]
    assert not [f.what for f in fsck.check_registry(shop.registry, "toy", shop.cache, set())]
    assert kinds(plan(shop, keep=1)) == {}
    assert found.after == plan(shop, keep=1).before


def test_a_plan_alone_removes_nothing(shop: Shop, history: dict[str, str]) -> None:
    gc.table(plan(shop))
    assert len(numbers(shop)) == 6
    assert all(shop.cache.has(name) for name in history.values())


def test_what_is_aliased_published_or_awaits_a_person_stays(
    shop: Shop, history: dict[str, str]
) -> None:
    shop.client.set_registered_model_alias("toy", "mine", "1")
    shop.enter("await", "3", previous="4")
    gc.collect(plan(shop, published="5").items)
    assert numbers(shop) == ["1", "2", "3", "4", "5"]


def test_what_a_lock_names_stays_with_all_that_it_lists(shop: Shop) -> None:
    one, other = shop.keep(b"one"), shop.keep(b"other")
    folder = shop.keep_folder({"a": b"inner a", "b": b"inner b"})
    gone = shop.keep_folder({"c": b"inner c"})
    lock = f"stages:\n  a@toy:\n    outs:\n    - {{path: x, md5: {one}}}\n"
    own = f"outs:\n- {{path: y, md5: {folder}}}\n"
    named_now = named_in("dvc.lock", lock) | named_in("data/raw/y.dvc", own)
    stays = shop.remember(x=one)
    goes = shop.remember(x=other)
    found = plan(shop, named_now=named_now)
    assert kinds(found) == {
        "entries of DVC's run cache": 1,
        "cache objects that nobody needs": 3,
    }
    names = [item.name for item in found.items]
    assert names.index(str(goes)) < names.index(str(shop.cache.path(gone)))
    assert names[1] == str(shop.cache.path(gone))  # the folder before its files
    gc.collect(found.items)
    left = shop.cache.objects()
    assert set(left) == {one, folder, *shop.cache.entries(folder).values()}
    assert stays.exists() and not goes.exists()


def test_a_folder_that_cannot_be_read_stops_everything(shop: Shop) -> None:
    folder = shop.keep_folder({"a": b"inner"})
    damage(shop.cache.path(folder), 1)
    with pytest.raises(UserError, match="bertline fsck"):
        plan(shop, named_now={folder})


def test_a_budget_takes_the_oldest_first_and_no_more_than_it_must(
    shop: Shop, history: dict[str, str]
) -> None:
    whole = plan(shop, budget=10**9)
    assert kinds(whole) == {}
    tight = plan(shop, budget=whole.before - 1)
    assert [i.name for i in tight.items if i.kind.startswith("versions")] == ["toy/1"]
    assert tight.after < whole.before
    impossible = plan(shop, budget=10)
    assert [i.name for i in impossible.items if i.kind.startswith("versions")] == [
        "toy/1",
        "toy/3",
        "toy/5",
        "toy/6",
    ]
    assert impossible.after > 10


@pytest.mark.parametrize("step", ["delete_model_version", "drop", "delete_logged_model", "set_tag"])
def test_a_kill_leaves_nothing_that_is_named_and_gone(
    shop: Shop, history: dict[str, str], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from pipeline.registry import artifacts

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    found = plan(shop)
    monkeypatch.setattr(artifacts if step == "drop" else shop.client, step, kill)
    with pytest.raises(KeyboardInterrupt):
        gc.collect(found.items)
    monkeypatch.undo()
    monkeypatch.chdir(shop.folder)
    assert not [f.what for f in fsck.check_registry(shop.registry, "toy", shop.cache, set())]
    gc.collect(plan(shop).items)
    assert numbers(shop) == ["2", "4"]
    assert kinds(plan(shop)) == {}
    files = list((shop.folder / "mlartifacts" / "toy").rglob("model.onnx"))
    assert len(files) == 2


def test_a_version_promoted_meanwhile_stays(shop: Shop, history: dict[str, str]) -> None:
    found = plan(shop)
    shop.enter("promote", "1", previous="4")
    gc.collect(found.items)
    assert numbers(shop) == ["1", "2", "4"]


def test_runs_in_the_bin_go_unless_a_version_is_theirs(shop: Shop) -> None:
    number = shop.version({})
    shop.enter("promote", number)
    shop.client.delete_run(shop.run_of(number).identity)
    other = shop.client.create_run(shop.experiment)
    shop.client.log_text(other.info.run_id, "words", "a.txt")
    shop.client.delete_run(other.info.run_id)
    found = plan(shop)
    assert kinds(found) == {"runs in MLflow's bin": 1}
    gc.collect(found.items)
    assert kinds(plan(shop)) == {}
    assert not list((shop.folder / "mlartifacts").rglob("a.txt"))
    shop.client.get_run(shop.client.get_model_version("toy", number).run_id)


def test_a_live_run_of_last_week_is_closed(shop: Shop) -> None:
    run = shop.client.create_run(shop.experiment, tags={"bertline.fit": "key"})
    assert kinds(plan(shop)) == {}
    found = plan(shop, after=LATER)
    assert kinds(found) == {"runs that stopped a week ago (closed)": 1}
    gc.collect(found.items)
    assert shop.client.get_run(run.info.run_id).info.status == "KILLED"


def test_resume_state_goes_once_its_training_has_ended(shop: Shop) -> None:
    run = shop.client.create_run(shop.experiment, tags={"bertline.fit": "ended"})
    shop.client.set_terminated(run.info.run_id, "FINISHED")
    for key in ("ended", "stopped"):
        (shop.state / "toy" / key).mkdir(parents=True)
        (shop.state / "toy" / key / "optimizer.pt").write_bytes(b"x" * 100)
    found = plan(shop)
    assert [item.name for item in found.items] == [str(shop.state / "toy" / "ended")]
    assert kinds(plan(shop, after=LATER)) == {"resume state of trainings that ended": 2}
    gc.collect(found.items)
    assert [path.name for path in (shop.state / "toy").iterdir()] == ["stopped"]


def test_half_written_files_go_after_a_day(shop: Shop) -> None:
    shop.keep(b"one")
    half = next(iter(shop.cache.objects().values())).parent / ".aBcD.tmp"
    half.write_bytes(b"half")
    one = set(shop.cache.objects())
    assert kinds(plan(shop, named_now=one)) == {}
    gc.collect(plan(shop, named_now=one, after=2 * gc.DAY).items)
    assert not half.exists()


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5KB", 1500), ("7B", 7)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert gc.read_size(text) == size


def test_a_size_that_is_none_is_told() -> None:
    with pytest.raises(UserError, match="500MB or 2GB"):
        gc.read_size("lots")


def test_branches_tags_and_head_keep_what_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    from pipeline.upkeep import history

    monkeypatch.chdir(tmp_path)
    assert list(history.lock_files(tmp_path)) == []
    git: Callable[..., object] = lambda *a: subprocess.run(  # noqa: E731
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *a], check=True, capture_output=True
    )
    git("init", "-q", "-b", "main")
    for word, name in (("old", "dvc.lock"), ("side", "dvc.lock"), ("new", "dvc.lock")):
        Path(name).write_text(word)
        git("add", "-A")
        git("commit", "-qm", word)
        if word == "side":
            git("tag", "-a", "-m", "x", "v1")
    Path("rows.csv.dvc").write_text("its own")
    git("add", "-A")
    git("commit", "-qm", "rows")
    assert {text for _, text in history.lock_files(tmp_path)} == {"side", "new", "its own"}
    assert history.remembers(tmp_path, "rows.csv.dvc")
    assert not history.remembers(tmp_path, "rows.csv")
