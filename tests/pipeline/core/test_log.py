"""Printed progress and the estimate of the remaining time."""

import io
import re
from itertools import count

import pytest

from pipeline.core import log


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Output of a console whose clock advances 20 seconds at each reading."""
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(told: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Narrow terminal with the same clock as `told`."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_a_terminal_shows_one_line_that_redraws_itself(screen: Terminal) -> None:
    console = log.Console("line", screen)
    console.progress(500, 1000)
    console.progress(600, 1000, "a note that is longer than the line")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    first, second = shown.split("\r\033[K")[1:]
    assert re.fullmatch(r"\[line\] [━╸╺]{24}  50%  500 of 1,000", first)
    assert re.fullmatch(r"\[line\] [━╸╺]{24}  60%  600 of 1,000  .*…", second)
    assert len(second) == 60
    console.info("a sentence")
    assert screen.getvalue().endswith("\n[line] a sentence\n")


def test_a_bar_has_no_colours_where_they_are_unwanted(
    screen: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.Console("line", screen).progress(500, 1000)
    assert "\x1b[38;5;" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    log.Console("line", plain).progress(500, 1000)
    assert "━" in plain.getvalue()
    assert "\x1b[3" not in plain.getvalue()
