"""The ledger under many hands: promotions at once, and kills between entry and alias."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.promotion import champion as promotion
from pipeline.registry.ledger import Ledger
from pipeline.registry.versions import Registry
from tests.conftest import ROOT

pytestmark = pytest.mark.prove

VERSIONS, PROCESSES, KILLS = 50, 5, 20
ROWS = 3000

# A process that promotes versions whose answers are made up: version k is right on k * 40 rows more
# than none, and everything else is the gate and the ledger as they are.
PROMOTER = f"""
import dataclasses, sys, time
from pathlib import Path
import numpy as np
from pipeline import tasks
from pipeline.registry.versions import Registry
from pipeline.registry.ledger import Ledger
from pipeline.core.config import parse, read_recipe
from pipeline.promotion import evidence
from pipeline.promotion.gate import GateParams, judge
from pipeline.promotion.question import Question, Side
from pipeline.promotion.champion import champion_of

tracking, slow, *numbers = sys.argv[1:]
params = read_recipe("news", Path({str(ROOT / "params.yaml")!r}))["gate"]
params |= {{"floors": {{"accuracy": 0.0}}}}
params["guardrails"] = dict.fromkeys(params["guardrails"])
params = parse(GateParams, params, "gate")
registry, task = Registry(tracking), tasks.get("classification")

def side(number):
    right = np.arange({ROWS}) < 800 + 40 * int(number)
    return Side(number, ["a", "b"], np.where(right, "a", "b").tolist(), np.ones({ROWS}))

def ask(bench, number):
    champion = champion_of(registry, "toy")
    old = side(champion) if champion and champion != number else None
    ids = [str(i) for i in range({ROWS})]
    question = Question("toy", task, ["a", "b"], ids, ["a"] * {ROWS}, side(number), old)
    entries = Ledger(registry, "toy").entries()
    return judge(params, dataclasses.replace(question, number=evidence._number(entries, question)))

evidence.ask, evidence.answers_page = ask, lambda *_: []
if slow == "slow":
    move = registry.move
    registry.move = lambda *given: (print("entry", flush=True), time.sleep(30), move(*given))
bench = evidence.Bench(registry, "toy", task, params, None, None)
for number in numbers:
    verdict, _ = evidence.ask_and_decide(bench, number, approved=True)
    print(number, verdict.decision, flush=True)
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.chdir(tmp_path)
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    registry.client.create_registered_model("toy")
    for number in range(1, VERSIONS + 1):
        registry.client.create_model_version("toy", source=f"file:///nowhere/{number}")
    return registry


def promoter(registry: Registry, *numbers: int, slow: bool = False) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROMOTER, registry.tracking, "slow" if slow else "quick"]
    return subprocess.Popen(
        [*command, *map(str, numbers)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_fifty_promotions_at_once_leave_one_champion_the_best(registry: Registry) -> None:
    order = list(range(1, VERSIONS + 1))
    random.Random(1).shuffle(order)
    running = [promoter(registry, *order[place::PROCESSES]) for place in range(PROCESSES)]
    told = [process.communicate(timeout=3000)[0] for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES, told
    ledger = Ledger(registry, "toy").written()
    assert all(written.settled for written in ledger)
    entries = [written.entry for written in ledger]
    assert len(entries) == VERSIONS
    assert [entry.number for entry in entries] == list(range(1, VERSIONS + 1))
    assert promotion.champion_of(registry, "toy") == str(VERSIONS)
    # each entry says which champion it found, and that is the one that the entries before it left
    champion = None
    for entry in entries:
        assert entry.previous == champion
        champion = entry.version if entry.moves else champion
    asked = [entry.question for entry in entries if entry.question]
    assert asked == sorted(set(asked))


def test_kills_between_entry_and_alias_are_always_repaired(registry: Registry) -> None:
    champion = None
    for turn in range(1, KILLS + 1):
        with promoter(registry, turn, slow=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "entry\n"
            time.sleep(random.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
        assert registry.champion("toy") == champion
        champion = promotion.champion_of(registry, "toy")
        assert champion == registry.champion("toy") == str(turn)
    ledger = Ledger(registry, "toy").written()
    assert [written.entry.event for written in ledger] == ["promote"] * KILLS
    assert all(written.settled for written in ledger)


def test_kills_at_any_moment_lose_nothing(registry: Registry) -> None:
    for turn in range(1, KILLS + 1):
        with promoter(registry, turn) as process:
            time.sleep(random.uniform(1, 5))
            process.send_signal(signal.SIGKILL)
        champion = promotion.champion_of(registry, "toy")
        entries = Ledger(registry, "toy").entries()
        moves = [entry.version for entry in entries if entry.moves]
        assert champion == (moves[-1] if moves else None)
        assert "by hand" not in {entry.event for entry in entries}
