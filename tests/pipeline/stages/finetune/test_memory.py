"""Freed memory is reused until it is returned to the system."""

import subprocess
import sys

import pytest

from pipeline.stages.finetune import memory
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not memory.SUPPORTED, reason="the C library is not glibc")
FILL = """
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from pipeline.stages.finetune import memory
def fill():
    block = b"x" * 64_000_000
def cleared():
    return getrusage(RUSAGE_SELF).ru_minflt
def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
"""


def printed(code: str) -> int:
    """Return the output of a separate process."""
    told = subprocess.run(
        [sys.executable, "-c", FILL + code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(told.stdout)


@pytest.mark.parametrize(("first", "fewest", "most"), [("", 50_000, 1e6), ("memory.keep()", 0, 99)])
def test_a_block_that_was_freed_costs_no_new_pages(first: str, fewest: int, most: int) -> None:
    again = f"{first}\nfill()\nbefore = cleared()\nfor _ in range(5): fill()\n"
    assert fewest <= printed(again + "print(cleared() - before)") <= most


def test_what_is_free_is_given_back() -> None:
    kept = "memory.keep()\nbefore = pages()\nfill()\n"
    assert printed(kept + "print(pages() - before)") > 10_000
    assert printed(kept + "memory.trim()\nprint(pages() - before)") < 1_000
