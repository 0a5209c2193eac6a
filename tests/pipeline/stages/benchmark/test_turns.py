"""Turns of candidates on machines that others use too."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np

from pipeline.core.log import FunctionLog
from pipeline.stages.benchmark.machine import Others
from pipeline.stages.benchmark.turns import (
    MOST_ROUNDS,
    QUIET,
    ROUNDS,
    Turn,
    busy,
    faster,
    rounds,
)

NAMES = ("pytorch", "int8")


def turns(shares: Iterator[float]) -> Callable[[str], Turn]:
    """Turns with these shares of neighbours, whose time says the round."""
    count = dict.fromkeys(NAMES, 0)

    def turn(name: str) -> Turn:
        count[name] += 1
        return Turn([float(count[name])], next(shares) if name == "int8" else 0.0)

    return turn


def test_a_quiet_machine_needs_no_more_rounds() -> None:
    found = rounds(turns(cycle([QUIET])), NAMES)
    assert [each["int8"].median for each in found] == [*range(1, ROUNDS + 1)]


def test_rounds_beside_neighbours_are_repeated_and_left_out() -> None:
    told: list[str] = []
    found = rounds(turns(cycle([0.8, 0.0, 0.8])), NAMES, FunctionLog(told.append))
    assert [each["int8"].median for each in found] == [*range(2, 3 * ROUNDS, 3)]
    assert busy(found) == 0.0
    assert told == ["other programs take 80% of the processors: measuring for longer"]


def test_on_a_machine_that_is_never_quiet_the_calmest_rounds_count() -> None:
    shares = np.linspace(0.9, 0.3, MOST_ROUNDS).tolist()
    found = rounds(turns(iter(shares)), NAMES)
    assert [each["int8"].neighbours for each in found] == shares[-ROUNDS:]


def test_one_is_faster_if_it_is_so_in_the_same_rounds() -> None:
    draw = np.random.default_rng(0)
    speed = draw.lognormal(0, 1, ROUNDS)  # of the machine in each round
    assert faster(list(0.95 * speed), list(speed))
    assert not faster(list(speed), list(0.95 * speed))
    assert not faster(list(speed), list(speed))


def test_a_difference_within_the_noise_is_none() -> None:
    draw = np.random.default_rng(0)
    wrong = sum(
        faster(list(draw.lognormal(0, 0.2, ROUNDS)), list(draw.lognormal(0, 0.2, ROUNDS)))
        for _ in range(400)
    )
    assert wrong <= 0.08 * 400  # 5 % are expected


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_neighbour_is_seen_and_own_work_is_none() -> None:
    process = multiprocessing.get_context("spawn").Process(target=spin, args=(60,))
    process.start()
    try:
        time.sleep(0.5)
        others = Others()
        time.sleep(0.5)
        cores = multiprocessing.cpu_count()
        assert others.share() > 0.4 / cores
    finally:
        process.kill()
        process.join()
    others = Others()
    spin(0.5)
    assert others.share() <= 1 - 0.5 / cores + 0.1
