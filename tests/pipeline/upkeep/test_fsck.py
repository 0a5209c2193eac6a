"""fsck names damaged files and no intact ones."""

import sqlite3
from pathlib import Path
from typing import Any

from pipeline.core.files import write_text
from pipeline.registry.ledger import Ledger
from pipeline.upkeep import fsck
from pipeline.upkeep.fsck import Finding
from tests.pipeline.upkeep.conftest import Shop, damage


def told(findings: Any) -> list[str]:
    return [finding.what for finding in findings]


def test_a_sound_cache_has_no_findings(shop: Shop) -> None:
    shop.keep(b"one")
    shop.keep_folder({"a": b"two", "b": b"three"})
    assert told(fsck.check_cache(shop.cache, {})) == []


def test_a_flipped_bit_is_named_with_what_it_is_and_the_way_on(shop: Shop) -> None:
    name = shop.keep(b"weights")
    folder = shop.keep_folder({"train.arrow": b"rows"})
    damage(shop.cache.path(name))
    [line] = told(fsck.check_cache(shop.cache, {name: "data/toy/export/onnx/model.onnx"}))
    assert f"{shop.cache.path(name)} (data/toy/export/onnx/model.onnx)" in line
    assert line.endswith(f"rm -f {shop.cache.path(name)}, then dvc pull, or dvc repro")
    write_text(Path("data/toy/export/onnx/model.onnx"), "weights")
    [line] = told(fsck.check_cache(shop.cache, {name: "data/toy/export/onnx/model.onnx"}))
    assert line.endswith("then dvc commit, which takes it from the working file")
    damage(shop.cache.path(folder), 5)
    assert len(told(fsck.check_cache(shop.cache, {folder: "data/toy/tokenize/tokens"}))) == 2


def test_a_recipe_is_checked_alone(shop: Shop) -> None:
    own, other = shop.keep(b"own"), shop.keep(b"other")
    damage(shop.cache.path(other))
    assert told(fsck.check_cache(shop.cache, {own: "data/toy/x"}, only=True)) == []
    assert len(told(fsck.check_cache(shop.cache, {own: "data/toy/x"}))) == 1


def test_a_missing_object_is_damage_unless_its_file_is_there(shop: Shop) -> None:
    name, inner = shop.keep(b"one"), shop.keep(b"inner")
    folder = shop.keep_folder({"f": b"inner"})
    for gone in (name, inner):
        shop.cache.path(gone).unlink()
    wanted = {name: "data/toy/one", folder: "data/toy/folder"}
    [first, second] = fsck.check_cache(shop.cache, wanted)
    assert first.damage and "data/toy/one: its object" in first.what
    assert second.damage and "data/toy/folder/f: its object" in second.what
    write_text(Path("data/toy/one"), "one")
    [first, second] = fsck.check_cache(shop.cache, wanted)
    assert first == Finding(
        "data/toy/one: is not in the cache: dvc commit puts it there", damage=False
    )


def test_what_only_history_needs_is_a_note(shop: Shop) -> None:
    name = shop.keep(b"one")
    shop.cache.path(name).unlink()
    [finding] = fsck.check_history(shop.cache, "toy/1", {name: "data/toy/one"})
    assert not finding.damage
    assert finding.what.startswith("toy/1: 1 of the objects that it was made of")


def test_a_working_file_that_changed_is_told(shop: Shop) -> None:
    one, two = Path("data/toy/one"), Path("data/toy/two/three")
    write_text(one, "one")
    write_text(two, "three")
    stages = {
        "export@toy": {
            "outs": [
                {"path": "data/toy/one", "md5": fsck.md5_of(one)},
                {"path": "data/toy/two", "md5": fsck.md5_of(two.parent)},
            ]
        }
    }
    assert told(fsck.check_work(stages, Path())) == []
    damage(two)
    [line] = told(fsck.check_work(stages, Path()))
    assert line == (
        "data/toy/two: changed since its stage ran: dvc checkout -f data/toy/two,"
        " or dvc repro export@toy"
    )
    one.unlink()
    assert [finding.damage for finding in fsck.check_work(stages, Path())] == [False, True]


def test_a_record_that_cannot_be_read_is_told(shop: Shop) -> None:
    write_text(Path("data/toy/ingest/intake.json"), "{}")
    [line] = told(fsck.check_records(Path("data/toy")))
    assert line.startswith("data/toy/ingest/intake.json: Field required")


def test_a_version_its_artifacts_and_the_ledger_are_checked(shop: Shop) -> None:
    number = shop.version({}, {"records/scores.json": b"{}"})
    shop.enter("promote", number)
    check = lambda: told(fsck.check_registry(shop.registry, "toy", shop.cache, set()))  # noqa: E731
    assert check() == []
    damage(shop.files_of(number) / "model.onnx")
    [line] = check()
    assert line == (
        "model.onnx of toy/1 has changed: it is not served: restore it from a copy,"
        " or bertline rollback toy"
    )
    damage(shop.files_of(number) / "model.onnx")
    scores = shop.folder / shop.run_of(number).uri.removeprefix("file://") / "records/scores.json"
    damage(scores)
    [line] = check()
    assert line.startswith("records/scores.json of toy/1 has changed")
    scores.unlink()
    [line] = check()
    assert line.startswith("records/scores.json of toy/1 is missing")


def test_a_ledger_that_cannot_be_read_is_told(shop: Shop) -> None:
    shop.enter("promote", shop.version({}))
    [(identity, _, _)] = Ledger(shop.registry, "toy").written()
    shop.client.set_tag(identity, "bertline.entry", '{"event": "promote"')
    [line] = told(fsck.check_registry(shop.registry, "toy", shop.cache, set()))
    assert line.startswith(f"ledger of toy, run {identity}: cannot be read")


def test_a_version_whose_files_are_gone_is_told(shop: Shop) -> None:
    number = shop.version({})
    (shop.files_of(number) / "model.onnx").unlink()
    shop.files_of(number).rmdir()
    [line] = told(fsck.check_registry(shop.registry, "toy", shop.cache, set()))
    assert "toy/1" in line
    assert "it is not served" in line


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x TEXT)")
        database.executemany("INSERT INTO t VALUES (?)", [("x" * 500,) for _ in range(200)])
    assert told(fsck.check_database(path)) == []
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)
    [line] = told(fsck.check_database(path))
    assert line.startswith(f"{path}: is damaged (")
