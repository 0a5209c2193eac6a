"""Threads that wait without spinning for long."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys
import pipeline.runtimes.pytorch
import pipeline.stages.finetune.stage
assert "torch" not in sys.modules
print(os.environ["GOMP_SPINCOUNT"])
"""


@pytest.mark.parametrize(("given", "expected"), [(None, "1000"), ("7", "7")])
def test_threads_of_pytorch_spin_briefly_unless_told_otherwise(
    given: str | None, expected: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    if given:
        environment["GOMP_SPINCOUNT"] = given
    found = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == expected
