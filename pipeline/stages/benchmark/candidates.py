"""Runtime candidates, each measured in its own process.

To add one, give it a name and a file in CANDIDATES, and let `export` write that file.
"""

import json
import time
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

from pipeline import tasks
from pipeline.core.records import Fit, Split, Timing, Validation
from pipeline.stages import artifacts
from pipeline.stages.benchmark.latency import WARM_UP_TEXTS, milliseconds, timing
from pipeline.stages.benchmark.machine import Others, peak_memory_mb
from pipeline.stages.benchmark.turns import Turn
from pipeline.tasks.base import Answer, Task
from pipeline.tasks.base.answering import AT_ONCE, Answering
from pipeline.tasks.base.encoding import MOST_WINDOWS, Piece, Texts
from pipeline.tasks.base.runtime import Runtime

REFERENCE = "pytorch"
CANDIDATES: dict[str, str | None] = {
    REFERENCE: None,  # the folder of the fine-tuned model
    "onnx-fp32": "onnx/model.onnx",
    "onnx-int8": "onnx/model_quantized.onnx",
}
SCORED: tuple[Split, ...] = ("validation", "test")
MOST_TIMED = 1000  # texts that are used for timings


@dataclass(frozen=True)
class Measured:
    """Result of one candidate's process."""

    load_ms: float
    peak_memory_mb: float
    provider: str
    grid: list[Timing]
    smoke: list[Answer]


@dataclass(frozen=True)
class Work:
    """Input of one candidate's process."""

    name: str
    task: str
    validate: Path
    tokenize: Path
    finetune: Path
    export: Path
    threads: int
    batches: list[int]
    seconds: float
    """Duration of each timing."""
    lengths: list[int]
    smoke: list[Texts]

    def load(self, task: Task) -> Runtime:
        file = CANDIDATES[self.name]
        if file is None:
            from pipeline.runtimes.pytorch import TorchModel

            return TorchModel(self.finetune / "model", task, self.threads)
        from pipeline.runtimes.onnx_runtime import OnnxModel

        padding = json.loads((self.export / "serving.json").read_text(encoding="utf-8"))["padding"]
        return OnnxModel(self.export / file, padding, self.threads)


class Rig:
    """Candidate that is loaded and warmed up in its process."""

    def __init__(self, work: Work) -> None:
        self.work, self.task = work, tasks.get(work.task)
        self.encoder = artifacts.encoder(work.tokenize, self.task)
        self.texts = {
            split: artifacts.texts_of(artifacts.kept_rows(work.validate, split)) for split in SCORED
        }
        started = time.perf_counter()
        self.runtime = work.load(self.task)
        self.load_ms = (time.perf_counter() - started) * 1e3
        self.answering = Answering(
            self.task,
            self.encoder,
            self.runtime,
            Validation.read(work.validate / "validation.json").labels,
            Fit.read(work.finetune / "fit.json").decision,
        )
        timed = [self.encoder.pieces([text]) for text in self.texts["validation"][:MOST_TIMED]]
        self.singles = cycle(timed)
        self.length = int(np.median([sum(len(piece) for piece in pieces) for pieces in timed]))
        for pieces in timed[:WARM_UP_TEXTS]:
            self.run(pieces, len(pieces))

    def run(self, pieces: list[Piece], batch_size: int) -> None:
        self.task.run(self.runtime, pieces, batch_size, self.answering.decision)

    def turn(self, seconds: float) -> Turn:
        """Time real texts, one at a time, until `seconds` have passed."""
        others = Others()
        times = milliseconds(lambda: self.run(next(self.singles), MOST_WINDOWS), seconds)
        return Turn(times, others.share())

    def answers(self, split: Split, start: int) -> list[str]:
        """Return the answers to one batch of rows from `start` on."""
        texts = self.texts[split][start : start + AT_ONCE]
        return [answer.label for answer in self.answering(texts)]

    def measure(self) -> Measured:
        """Measure the grid of timings and answer the smoke texts."""
        work, runtime = self.work, self.runtime
        grid = []
        for length in work.lengths:
            shorter = artifacts.encoder(work.tokenize, self.task, max(8, length))
            cut = shorter.pieces(self.texts["validation"][:MOST_TIMED])
            full = [piece for piece in cut if len(piece) >= length] or cut
            for batch in work.batches:
                same = [full[i % len(full)] for i in range(batch)]
                times = milliseconds(partial(self.run, same, len(same)), work.seconds)
                grid.append(timing(times, batch, length))
        smoke = self.answering(work.smoke)
        return Measured(self.load_ms, peak_memory_mb(), runtime.provider, grid, smoke)


_rig: Rig  # of this process


def begin(work: Work) -> int:
    """Load the candidate; return the median length in tokens of the texts timed one by one."""
    global _rig
    _rig = Rig(work)
    return _rig.length


def turn(seconds: float) -> Turn:
    """Call `Rig.turn`."""
    return _rig.turn(seconds)


def answers(split: Split, start: int) -> list[str]:
    """Call `Rig.answers`."""
    return _rig.answers(split, start)


def measure() -> Measured:
    """Call `Rig.measure`."""
    return _rig.measure()
