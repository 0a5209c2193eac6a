"""Arguments, error messages and exit codes of the command."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from flows.cli import main
from tests.conftest import ROOT

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;5;\d+)")
PANELS = ["Options:", "Recipes:", "Training:", "Answers:", "Versions:", "Upkeep:", "examples:"]


def read(name: str, *arguments: str) -> dict[str, Any]:
    """Return the parsed arguments of a command."""
    commands: Any = get_command(main._app())
    return dict(commands.commands[name].make_context(name, list(arguments)).params)


@pytest.mark.parametrize(
    ("name", "words", "options", "meant"),
    [
        ("run", ["news"], ["--no-wait", "--stage-timeout", "2"], {"stage_timeout": 2.0}),
        ("retrain", ["news"], ["--ref", "main", "--force"], {"ref": "main", "force": True}),
        ("take", ["news/4"], ["--patch", "a.patch"], {"patch": Path("a.patch"), "branch": None}),
        ("add", ["imdb"], ["--as", "films", "--data", "x"], {"other": "films"}),
        ("new", ["mine", "a.csv"], ["--second", "b", "--no-quotes"], {"no_quotes": True}),
        ("predict", ["news", "a text", "another"], ["--json"], {"as_json": True}),
        ("embed", ["a.csv"], ["--out", "v.npy", "--layers", "-1"], {"layers": "-1"}),
        ("search", ["a.csv", "one", "two"], ["-k", "3", "--layers=-4:"], {"layers": "-4:"}),
        ("search", ["a.csv", "one"], ["--no-normalize"], {"normalize": False, "no_quotes": None}),
        ("serve", ["news"], ["--port", "0", "--allow-host", "a"], {"at_port": 0}),
        ("labels", ["news"], ["--most", "7", "--dry-run"], {"most": 7, "dry_run": True}),
        ("promote", ["news/3"], ["--reason", "why", "--override"], {"reason": "why"}),
        ("rollback", ["news"], ["--reason", "why"], {"reason": "why"}),
        ("judge", ["news/3"], ["--json"], {"as_json": True}),
        ("forget", ["news"], ["--ids", "ids.txt", "--yes"], {"yes": True}),
    ],
)
def test_options_stand_anywhere_among_the_arguments(
    name: str, words: list[str], options: list[str], meant: dict[str, Any]
) -> None:
    first = read(name, *options, *words)
    assert meant.items() <= first.items()
    assert read(name, *words, *options) == first
    assert read(name, words[0], *options, *words[1:]) == first
    assert read(name, *options, "--", *words) == first


def test_a_text_that_begins_with_a_dash_stands_behind_two_dashes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = read("predict", "news", "--json", "a text", "--", "-5 degrees", "--file")
    assert list(asked["texts"]) == ["a text", "-5 degrees", "--file"]
    assert (asked["as_json"], asked["file"]) == (True, None)
    assert list(read("search", "a.csv", "x", "--", "-x")["queries"]) == ["x", "-x"]
    assert main.main(["predict", "news", "-5 degrees"]) == 2
    assert capsys.readouterr().err == (
        "error: no such option: -5; put a text that begins with a dash behind --\n"
        "Try 'bertline predict --help'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        ([], "missing command", ""),
        (["prdict"], "no such command 'prdict'. Did you mean 'predict'?", ""),
        (["--foo"], "no such option: --foo", ""),
        (["check"], "missing argument 'RECIPE'", " check"),
        (["check", "news", "more"], "got unexpected extra argument(s) (more)", " check"),
        (["embed", "a.csv"], "missing option '--out'", " embed"),
        (["run", "news", "--no-wiat"], "no such option: --no-wiat (Possible options:", " run"),
        (["serve", "news", "--port"], "option '--port' requires an argument", " serve"),
        (["gc", "--yes=1"], "option '--yes' does not take a value", " gc"),
        (
            ["search", "a.csv", "-k", "x"],
            "invalid value for '-k': 'x' is no whole number",
            " search",
        ),
        (
            ["embed", "a.csv", "--out", "v.npy", "--pooling", "sum"],
            "invalid value for '--pooling': 'sum' is not one of 'own', 'cls', 'mean', 'max'",
            " embed",
        ),
        (
            ["promote", "news/3", "--reason", "--override"],
            "invalid value for '--reason': --override is an option:"
            " write --reason=--override if it is the value",
            " promote",
        ),
    ],
)
def test_a_usage_error_names_what_is_wrong_and_where_help_is(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, command: str
) -> None:
    assert main.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, second = told.err.splitlines()
    assert first.startswith(f"error: {message}")
    assert second == f"Try 'bertline{command} --help'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "a/3", "--override", "--rebaseline"], "--rebaseline: not with --override"),
        (["take", "a/3", "--branch", "b", "--patch", "p"], "--patch: not with --branch"),
        (["gc", "--yes", "--dry-run"], "--dry-run: not with --yes"),
        (["forget", "a", "--ids", "i", "--dry-run", "--yes"], "--dry-run: not with --yes"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}: give one of them\n"


def test_the_help_groups_commands_and_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^\w+:", told, re.MULTILINE)[1:] == PANELS
    assert re.findall(r"^  ([a-z]+) +[A-Z]", told.partition("Recipes:")[2], re.MULTILINE) == list(
        get_command(main._app()).commands  # type: ignore[attr-defined]
    )
    assert main.main(["serve", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Usage: bertline serve [OPTIONS] RECIPE\n")
    for default in ("127.0.0.1", "8000", "2.0", "(all)", "10.0"):
        assert f"[default: {default}]" in told


def end(*arguments: str, **variables: str) -> tuple[int, str]:
    """Return the exit code and the output of the command on a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments],
        stdout=theirs,
        stderr=theirs,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "90", "TERM": "xterm-256color", **variables},
        cwd=ROOT,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux raises it when the other end is closed
            part = b""
        if not part:
            break
        shown += part
    os.close(ours)
    return done.wait(), shown.decode()


def test_a_terminal_shows_panels_and_tables_in_colours_unless_they_are_unwanted() -> None:
    code, told = end("--help")
    assert code == 0
    assert "─ Recipes ─" in re.sub(r"\x1b\[[0-9;]*m", "", told)
    assert COLOUR.search(told)
    code, told = end("--help", NO_COLOR="1")
    assert code == 0
    assert "─ Recipes ─" in re.sub(r"\x1b\[[0-9;]*m", "", told)
    assert not COLOUR.search(told)
    code, told = end("recipes")
    assert code == 0
    assert "────" in told
    code, plain = end("recipes", TERM="dumb")
    assert code == 0
    assert "────" not in plain
    assert "\x1b" not in plain


def test_a_terminal_shows_a_usage_error_in_plain_lines() -> None:
    told = "error: missing argument 'RECIPE'\r\nTry 'bertline check --help'\r\n"
    assert end("check") == (2, told)


def test_an_interrupted_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.cli.recipes.listing", interrupted)
    assert main.main(["recipes"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize("arguments", [["recipes"], ["--help"]])
def test_a_reader_that_leaves_ends_the_command_without_a_word(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command,
        stdout=writing,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
