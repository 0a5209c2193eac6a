"""Progress: what is printed of it, and how long it says that work will take."""

import io
from itertools import count

import pytest

from pipeline.core import log


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a console prints, of which each look at the clock finds it 20 seconds later."""
    clock = count(step=20)
    monkeypatch.setattr(log.time, "monotonic", lambda: float(next(clock)))
    return io.StringIO()


def test_what_is_left_is_told_from_the_work_of_this_run(told: io.StringIO) -> None:
    console = log.Console("line", told)
    for done in (500, 600, 700):  # 100 in 20 seconds, resumed at 500
        console.progress(done, 1000)
    assert told.getvalue().splitlines() == [
        "[line]  50%  500 of 1,000",
        "[line]  60%  600 of 1,000  80 s left",
        "[line]  70%  700 of 1,000  60 s left",
    ]


def test_another_piece_of_work_has_its_own_pace(told: io.StringIO) -> None:
    console = log.Console("line", told)
    for done, total in ((0, 10), (10, 10), (0, 400), (100, 400)):
        console.progress(done, total, "loss 0.100")
    assert told.getvalue().splitlines()[2:] == [
        "[line]   0%  0 of 400  loss 0.100",
        "[line]  25%  100 of 400  60 s left  loss 0.100",
    ]
