"""Checks of the champion alias, on a fake registry."""

import threading
from pathlib import Path

import pytest

from pipeline.serving.spec import Champion, Look, Spec
from tests.pipeline.serving.toys import Registry, make_version


def looking(tmp_path: Path) -> Champion:
    return Champion("toy", "sqlite://", tmp_path / "copies", 0.01, lambda look: None, set)


def test_a_version_of_a_local_store_is_used_where_it_lies(
    registry: Registry, tmp_path: Path
) -> None:
    registry.add(tmp_path / "1", "1")
    champion = looking(tmp_path)
    for _ in range(2):
        look = champion.look()
        assert look.spec == Spec("1", str(tmp_path / "1"), registry.listed["1"])
    assert registry.fetches == 1


def test_a_servers_version_is_copied_once_and_mended_when_the_copy_is_damaged(
    registry: Registry, tmp_path: Path
) -> None:
    class Copies:
        name = str(tmp_path / "fetched")

    registry.copies = Copies()
    for number in "1234":
        registry.add(tmp_path / "fetched" / number, number)
        look = looking(tmp_path).look()
        assert look.spec
        assert look.spec.folder == str(tmp_path / "copies" / number)
    assert not (tmp_path / "fetched" / "4").exists()
    assert looking(tmp_path).look() == look
    assert registry.fetches == 4
    (tmp_path / "copies" / "4" / "MLmodel").write_text("damaged")
    make_version(tmp_path / "fetched" / "4")
    assert looking(tmp_path).look() == look
    assert registry.fetches == 5
    assert sorted(copy.name for copy in (tmp_path / "copies").iterdir()) == ["2", "3", "4"]


def test_a_copy_in_hand_is_kept_however_old(registry: Registry, tmp_path: Path) -> None:
    class Copies:
        name = str(tmp_path / "fetched")

    registry.copies = Copies()
    champion = Champion(
        "toy", "sqlite://", tmp_path / "copies", 0.01, lambda look: None, lambda: {"2"}
    )
    (tmp_path / "copies" / ".5.77.partial").mkdir(parents=True)
    for number in "12345":
        registry.add(tmp_path / "fetched" / number, number)
        assert champion.look().spec
    kept = sorted(copy.name for copy in (tmp_path / "copies").iterdir())
    assert kept == [".5.77.partial", "2", "3", "4", "5"]


def test_no_champion_and_no_answer_are_told_apart(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    champion = looking(tmp_path)
    assert champion.look() == Look(None, "toy: has no champion yet: bertline run toy")
    registry.away = True
    assert champion.look() == Look(None, "MLflow does not answer")


def test_a_misspelt_recipe_is_told(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("recipes: {toys: {}}\n")
    assert "no recipe 'toy'" in looking(tmp_path).look().problem


def test_looks_go_on_until_they_are_stopped(registry: Registry, tmp_path: Path) -> None:
    enough = threading.Event()
    looks: list[Look] = []

    def tell(look: Look) -> None:
        looks.append(look)
        if len(looks) == 3:
            enough.set()

    registry.add(tmp_path / "1", "1")
    champion = Champion("toy", "sqlite://", tmp_path / "copies", 0.01, tell, set)
    champion.start()
    assert enough.wait(10)
    champion.stopped.set()
    champion.join(10)
    assert not champion.is_alive()
