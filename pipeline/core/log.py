"""How a stage tells what it is doing: sentences and progress, to whoever listens."""

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO


class Log(Protocol):
    def say(self, text: str) -> None:
        """One sentence for a person."""

    def progress(self, done: int, total: int, note: str = "") -> None:
        """How much of the work at hand is done."""


class Silence:
    """Listens to nothing: what tests and library users get by default."""

    def say(self, text: str) -> None:
        pass

    def progress(self, done: int, total: int, note: str = "") -> None:
        pass


no_log = Silence()


class Tells(Silence):
    """Hands sentences to a function."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.tell = tell

    def say(self, text: str) -> None:
        self.tell(text)


class Console:
    """A line a sentence; a bar that redraws itself on a terminal, else a line every ten seconds."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self.name = name
        self.stream = stream or sys.stderr
        self.started = self.last = time.monotonic()
        self.first, self.previous = 0, sys.maxsize
        self.drawn = False

    def say(self, text: str) -> None:
        if self.drawn:
            print(file=self.stream)
            self.drawn = False
        print(f"[{self.name}] {text}", file=self.stream, flush=True)

    def progress(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done <= self.previous:  # another piece of work has begun
            self.started, self.first = now, done  # resumed work begins where it was
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
            line = _drawn(self.stream, f"[{self.name}]", share, text)
            print(f"\r\033[K{line}", end="", file=self.stream, flush=True)
            self.drawn = True
            if done >= total:
                self.say("done")
        else:
            print(f"[{self.name}] {text}", file=self.stream, flush=True)


def _drawn(stream: TextIO, name: str, share: float, text: str) -> str:
    """A bar and what stands beside it, in one line of a terminal. It is drawn at each call: nothing
    is hidden or held that a kill would leave behind."""
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
