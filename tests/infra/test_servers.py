"""Checks of make servers before it starts anything; tests/prove/test_servers.py starts them."""

import shutil
import stat
from pathlib import Path

import pytest

from infra import postgres, servers
from infra.postgres import Postgres
from infra.processes import Processes


def test_without_postgresql_one_line_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(postgres, "PACKAGED", tmp_path / "none")
    monkeypatch.setattr(servers, "_is_free", lambda port: True)
    assert servers.main(["--state", str(tmp_path / "state"), "up"]) == 2
    told = capsys.readouterr()
    assert told.err == "error: PostgreSQL is not installed: apt-get install postgresql\n"
    assert told.out == ""


def test_postgresql_is_that_which_made_the_data_else_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PACKAGED", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").touch()
    there = Postgres(Processes(tmp_path / "state"))
    assert there._tool("postgres") == str(tmp_path / "17" / "bin" / "postgres")
    there.data.mkdir(parents=True)
    (there.data / "PG_VERSION").write_text("15\n")
    assert there._tool("postgres") == str(tmp_path / "15" / "bin" / "postgres")


def test_a_secret_is_made_once_for_its_owners_eyes(tmp_path: Path) -> None:
    there = Processes(tmp_path)
    secret = there.secret("key")
    assert len(secret) == 48
    assert there.secret("key") == secret
    path = tmp_path / "secrets" / "key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_backup_is_not_written_over_nor_restored_over_servers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "running.json").write_text("{}")  # as after a failed start
    backup = tmp_path / "backup"
    backup.mkdir()
    for words, message in (
        (["backup", str(backup)], "exists already"),
        (["restore", str(backup)], "is not a backup"),
    ):
        assert servers.main(["--state", str(state), *words]) == 2
        assert message in capsys.readouterr().err
    (backup / "prefect.dump").touch()
    assert servers.main(["restore", str(backup), "--state", str(state)]) == 2
    assert "holds servers already" in capsys.readouterr().err
