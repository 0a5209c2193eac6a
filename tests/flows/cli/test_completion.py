"""Completions that a shell offers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import completion, main
from pipeline import tasks
from tests.conftest import ROOT

PARAMS = """# recipes, and no more
recipes:
  # the demo
  news:
    task: classification
    run:
      recipes: not here
  my-reviews:
    task: regression
other:
  nowhere: 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> list[str]:
    """Return the completions of the last word in bash."""
    monkeypatch.setenv("_BERTLINE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["bertline", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit) as ended:
        main.main([])
    told = capsys.readouterr()
    assert (ended.value.code, told.err) == (0, "")
    return told.out.split()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["predi"], ["predict"]),
        (["check", ""], ["my-reviews", "news"]),
        (["predict", "n"], ["news"]),
        (["fsck", "my"], ["my-reviews"]),
        (["explain", "n"], ["news"]),
        (["new", "x", "x.csv", "--like", "n"], ["news"]),
        (["new", "x", "x.csv", "--task", "re"], ["regression", "retrieval"]),
        (["recipes", "imdb"], ["imdb", "imdb-domain", "imdb-lora", "imdb-rating"]),
        (["add", "zh"], ["zh-base"]),
        (["embed", "x.csv", "--pooling", "m"], ["max", "mean"]),
        (["gc", "--bud"], ["--budget"]),
    ],
)
def test_names_are_completed_where_they_are_asked(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    names: list[str],
) -> None:
    assert sorted(offered(monkeypatch, capsys, *words)) == names


@pytest.mark.parametrize("content", [None, b"", b"recipes: [\n", b"\xff\xfe", b"recipes:\n"])
def test_without_recipes_nothing_is_offered_and_nothing_said(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    (folder / "params.yaml").unlink()
    if content is not None:
        (folder / "params.yaml").write_bytes(content)
    assert offered(monkeypatch, capsys, "check", "") == []


def test_all_tasks_are_offered() -> None:
    assert completion.tasks("") == tasks.known()


def test_completion_imports_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys; from flows.cli.main import main\n"
        "try: main([])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'rich', 'ruamel', 'mlflow', 'pipeline.core.config'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    asked = {"_BERTLINE_COMPLETE": "complete_bash", "COMP_WORDS": "bertline run n"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "COMP_CWORD": "2", **asked},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "news\n", "")


def test_bash_completes_after_the_installation(folder: Path) -> None:
    command = folder / "bin" / "bertline"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flows.cli "$@"\n')
    command.chmod(0o755)
    script = (
        "bertline --install-completion && source ~/.bashrc\n"
        "COMP_WORDS=(bertline check my); COMP_CWORD=2\n"
        "_bertline_completion bertline && echo offered: ${COMPREPLY[@]}\n"
    )
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={"PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.endswith("offered: my-reviews\n")
