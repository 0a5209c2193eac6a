"""Memory that was freed is there for the next who asks, without the system's help."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

COUNT = """
import ctypes
from resource import RUSAGE_SELF, getrusage
from pipeline.adapters import memory
{first}
def fill():
    block = b"x" * 64_000_000
fill()
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(hasattr(ctypes.CDLL(None), "mallopt"), getrusage(RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    """Pages that the system hands to a process that fills and frees the same block, again."""
    told = subprocess.run(
        [sys.executable, "-c", COUNT.format(first=first)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if told[0] == "False":
        pytest.skip("the C library is not glibc")
    return int(told[1])


def test_a_block_that_was_freed_costs_no_new_pages() -> None:
    assert faults("memory.keep()") < 100 < 10_000 < faults("")
