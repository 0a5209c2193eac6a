"""Bytes that are not UTF-8 and terminals of another encoding end in no stack trace."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LATIN = b"caf\xe9"  # Latin-1, which is not UTF-8
# runs the command with a champion that answers each text with a label of three scripts
TOY = """
import sys
from types import SimpleNamespace
from flows.cli.main import main
from pipeline.registry import versions

class Champion:
    model_config = {"two_texts": False}
    def predict(self, texts):
        import pandas as pd
        label = "caf\\xe9 \\u4e2d \\U0001f600"
        return pd.DataFrame([{"label": label, "score": 0.5} for _ in texts])
    def unwrap_python_model(self):
        shown = lambda label, text, second: label
        return SimpleNamespace(answering=SimpleNamespace(task=SimpleNamespace(shown=shown)))

versions.Registry = lambda tracking: SimpleNamespace(
    champion=lambda name: "3", load=lambda name, number: Champion()
)
sys.exit(main())
"""


def call(
    *arguments: str | bytes, cwd: Path, code: str = "", **variables: str
) -> "subprocess.CompletedProcess[bytes]":
    start = ["-c", code] if code else ["-m", "flows.cli"]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(cwd)} | variables,
        capture_output=True,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "news", LATIN),
        ("predict", LATIN, "a text"),
        ("predict", "news", "--file", LATIN),
        ("recipes", LATIN),
        ("check", LATIN),
        ("add", LATIN, "--data", LATIN),
        ("new", "reviews", LATIN),
        ("new", "reviews", "rows.csv", "--text", LATIN),
        ("run", LATIN),
        ("retrain", LATIN),
        ("take", LATIN),
        ("embed", LATIN, "--out", "a.npy"),
        ("embed", "rows.csv", "--text", LATIN, "--out", "a.npy"),
        ("search", LATIN, "a text"),
        ("search", "rows.csv", LATIN),
        ("search", "rows.csv", "--show", LATIN, "a text"),
        ("serve", "news", "--host", LATIN),
        ("labels", LATIN),
        ("promote", LATIN, "--reason", LATIN),
        ("rollback", LATIN, "--reason", LATIN),
        ("history", LATIN),
        ("explain", LATIN),
        ("judge", LATIN),
        ("report", LATIN),
        ("forget", "news", "--ids", LATIN),
        ("gc", "--budget", LATIN),
        ("fsck", LATIN),
        (LATIN,),
    ],
)
def test_an_argument_that_is_not_utf8_is_told_in_one_line(
    tmp_path: Path, arguments: tuple[str | bytes, ...]
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na text,good\n")
    done = call(*arguments, cwd=tmp_path)
    told = done.stderr.decode()
    assert done.returncode in (1, 2), told
    assert told.startswith("error: ")
    assert told.count("\n") <= 2  # the second says where help is
    assert "Traceback" not in told
    assert done.stdout == b""


def test_a_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    told = call("predict", "news", "fine", LATIN, cwd=tmp_path).stderr.decode()
    assert told == r"error: text 2: 'caf\udce9' is not UTF-8: set your terminal to it" + "\n"


LOCALES = [
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("variables", LOCALES)
def test_a_terminal_of_another_encoding_gets_what_it_can_show(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    text = "naïve 文 👩\u200d💻"
    plain = call("predict", "toy", text, cwd=tmp_path, code=TOY, **variables)
    assert (plain.returncode, plain.stderr) == (0, b"")
    assert plain.stdout.count(b"\n") == 1
    assert b"\t0.500\t" in plain.stdout
    whole = call("predict", "toy", text, "--json", cwd=tmp_path, code=TOY, **variables)
    assert (whole.returncode, whole.stderr) == (0, b"")
    answer = json.loads(whole.stdout)  # nothing is lost in JSON
    assert (answer["text"], answer["label"]) == (text, "café 中 😀")


@pytest.mark.parametrize("variables", LOCALES)
@pytest.mark.parametrize("arguments", [("--help",), ("recipes",), ("predict", "--help")])
def test_help_and_lists_are_shown_in_every_encoding(
    tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    done = call(*arguments, cwd=tmp_path, **variables)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_option_may_stand_anywhere(tmp_path: Path, place: int) -> None:
    words = ["predict", "toy", "a text"]
    done = call(*words[:place], "--json", *words[place:], cwd=tmp_path, code=TOY)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == "a text"
