"""The door of a stage."""

import subprocess
import sys

from tests.conftest import ROOT


def test_a_python_without_bertline_is_told_in_one_line() -> None:
    command = [sys.executable, "-S", "-m", "pipeline", "ingest", "news"]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True)
    assert done.returncode
    assert done.stderr == (
        f"error: {sys.executable} has no bertline: run `source .venv/bin/activate` first\n"
    )
