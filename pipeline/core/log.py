"""Log lines and progress of stages and commands."""

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO


class Log(Protocol):
    def info(self, text: str) -> None:
        """Write one line."""

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Report how much of the current work is done."""


class NullLog:
    """Log that drops everything: the default for tests and library users."""

    def info(self, text: str) -> None:
        pass

    def progress(self, done: int, total: int, note: str = "") -> None:
        pass


no_log = NullLog()


class FunctionLog(NullLog):
    """Log that passes each line to a function and drops progress."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write

    def info(self, text: str) -> None:
        self.write(text)


class Console:
    """Log to a stream, with a progress bar on a terminal, else a progress line every 10 seconds."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self.name = name
        self.stream = stream or sys.stderr
        self.started = self.last = time.monotonic()
        self.first, self.previous = 0, sys.maxsize
        self.bar_shown = False

    def info(self, text: str) -> None:
        if self.bar_shown:
            print(file=self.stream)
            self.bar_shown = False
        print(f"[{self.name}] {text}", file=self.stream, flush=True)

    def progress(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done <= self.previous:  # new work has begun
            self.started, self.first = now, done  # resumed work does not begin at 0
        self.previous = done
        live = self.stream.isatty()
        if now - self.last < (0.2 if live else 10) and done < total:
            return
        if done >= total and now - self.started < 2:
            return
        self.last = now
        share = done / max(total, 1)
        left = ""
        if done > self.first:
            seconds = (now - self.started) * (total - done) / (done - self.first)
            left = f"  {_duration(seconds)} left"
        text = f"{share:4.0%}  {done:,} of {total:,}{left}  {note}".rstrip()
        if live:
            line = _bar(self.stream, f"[{self.name}]", share, text)
            print(f"\r\033[K{line}", end="", file=self.stream, flush=True)
            self.bar_shown = True
            if done >= total:
                self.info("done")
        else:
            print(f"[{self.name}] {text}", file=self.stream, flush=True)


def _bar(stream: TextIO, name: str, share: float, text: str) -> str:
    """Return one terminal line with a progress bar and its text.

    A live display of rich would leave the cursor hidden after a kill.
    """
    from rich.console import Console as Terminal
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=share, width=24)
    line.add_row(Text(name), bar, Text(text, no_wrap=True, overflow="ellipsis"))
    terminal = Terminal(file=stream)
    with terminal.capture() as captured:
        terminal.print(line)
    return captured.get().rstrip()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
