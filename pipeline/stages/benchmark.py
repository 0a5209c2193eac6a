"""The ladder: every runtime measured on this machine, and the one that will serve.

    python -m pipeline benchmark news

Each rung works alone in its own process on the same number of threads. The time of one text is
taken in turns, so that a machine which others slow down for a while is slow for all rungs. The
fastest rung whose answers on *validation* stay within the recipe's budget is picked; the test
scores are reported, never chosen by. Writes ladder.json, pictures/ladder.png and smoke.json:
made-up texts with what the picked rung answers, by which a server can tell that it answers the
same. To add a rung, give it a name and a file in RUNGS, and have `export` write that file.
"""

import json
import multiprocessing
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import cycle
from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline import kept, scoring, tasks
from pipeline.config import Settings, nearest
from pipeline.errors import UserError
from pipeline.files import size_of, whole, write_json
from pipeline.log import Log, no_log
from pipeline.records import Fit, Ladder, Lengths, Machine, Rung, Split, Timing, Validation
from pipeline.tasks import Answer, Labelled, Task
from pipeline.tasks.answering import AT_ONCE, Answering, Runtime
from pipeline.tasks.encoding import MOST_WINDOWS, Piece, Texts

REFERENCE = "pytorch"
RUNGS: dict[str, str | None] = {
    REFERENCE: None,  # the fine-tuned folder itself
    "onnx-fp32": "fp32.onnx",
    "onnx-int8": "int8.onnx",
}
SCORED: tuple[Split, ...] = ("validation", "test")
MB = 1024 * 1024
MOST_TIMED = 1000  # texts that are asked for the time that they take
TURNS = 8  # in which the rungs are timed one text at a time
SMOKE = 16  # made-up texts


class BenchmarkParams(Settings):
    threads: int = Field(ge=0)
    """Of every rung; 0 takes as many as the machine has cores."""
    batches: list[int] = Field(min_length=1)
    """Texts at once, in the grid of timings."""
    seconds: float = Field(gt=0, le=60)
    """Spent on each timing."""
    metric: str
    """One of the task's."""
    largest_drop: float = Field(ge=0, le=1)
    """Of that metric on validation, from the reference's."""
    largest_flips: float = Field(ge=0, le=1)
    """Share of validation answers that differ from the reference's."""


def check(params: BenchmarkParams, task: Task) -> None:
    """Raises ValueError, beginning with the key, for what the task does not know."""
    if params.metric not in task.metrics:
        raise ValueError(
            f"metric: {task.name} has no {params.metric!r}{nearest(params.metric, task.metrics)}"
        )


@dataclass(frozen=True)
class Measured:
    """What one rung's process found."""

    load_ms: float
    peak_memory_mb: float
    provider: str
    grid: list[Timing]
    smoke: list[Answer]


def benchmark(
    params: BenchmarkParams,
    task: Task,
    validate: Path,
    tokenize: Path,
    finetune: Path,
    evaluate: Path,
    export: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Ladder:
    """Measure all rungs and pick one."""
    from pipeline.adapters import pictures

    machine = this_machine()
    threads = params.threads or machine.cores
    quantiles = Lengths.read(tokenize / "lengths.json")
    lengths = sorted(
        {min(quantiles.quantiles[q], quantiles.maximum) for q in ("p25", "p50", "p95")}
    )
    smoke = smoke_texts(tokenize / "tokenizer" / "tokenizer.json", lengths, task)
    rows = {split: kept.labelled(kept.kept_rows(validate, split)) for split in SCORED}
    answers = {REFERENCE: _evaluated(evaluate / "predictions.parquet")}
    measured: dict[str, Measured] = {}
    times: dict[str, list[float]] = {name: [] for name in RUNGS}
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        alone = {}
        for name in RUNGS:
            process = stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
            work = Work(
                name,
                task.name,
                validate,
                tokenize,
                finetune,
                export,
                threads,
                params,
                lengths,
                smoke,
            )
            length = process.submit(_open, work).result()
            alone[name] = process
        log.say(f"measuring {', '.join(RUNGS)} in turns on {threads} threads")
        for _ in range(TURNS):
            for name, process in alone.items():
                times[name] += process.submit(_turn).result()
        for name, process in alone.items():
            log.say(f"{name}: {np.median(times[name]):.1f} ms a text; now its answers and grid")
            if name != REFERENCE:
                answers[name] = _answers(process, rows, log)
            measured[name] = process.submit(_measure).result()
    timings = {name: _timing(found, 1, length) for name, found in times.items()}

    classes = Validation.read(validate / "validation.json").labels
    rungs = [
        _rung(
            name,
            measured[name],
            answers,
            timings,
            task,
            rows,
            classes,
            export / file if file else finetune / "model",
        )
        for name, file in RUNGS.items()
    ]
    picked, reasons = pick(rungs, params)
    said = [
        {"label": answer.label, "score": answer.confidence, "scores": dict(answer.scores)}
        for answer in measured[picked].smoke
    ]
    write_json(out / "smoke.json", {"texts": smoke, "answers": said})
    record = Ladder(
        reference=REFERENCE,
        picked=picked,
        threads=threads,
        rungs=[r.model_copy(update={"verdict": reasons[r.name]}) for r in rungs],
        machine=machine,
    )
    with whole(out / "pictures") as temporary:
        temporary.mkdir()
        pictures.ladder(record, temporary / "ladder.png")
    log.say(f"picked {picked}: {reasons[picked]}")
    return record.write(out / "ladder.json")


def _answers(
    process: ProcessPoolExecutor, rows: dict[Split, Labelled], log: Log
) -> dict[Split, list[str]]:
    """What the rung of a process answers."""
    said: dict[Split, list[str]] = {}
    for split, given in rows.items():
        said[split] = []
        while len(said[split]) < len(given.texts):
            said[split] += process.submit(_say, split, len(said[split])).result()
            log.progress(len(said[split]), len(given.texts), f"{split} rows")
    return said


def _evaluated(predictions: Path) -> dict[Split, list[str]]:
    """What the reference answers: `evaluate` has asked it."""
    import pandas as pd

    frame = pd.read_parquet(predictions, columns=["split", "answer"])
    return {split: frame.loc[frame["split"] == split, "answer"].tolist() for split in SCORED}


def pick(rungs: list[Rung], params: BenchmarkParams) -> tuple[str, dict[str, str]]:
    """The fastest rung within the budget on validation, and a sentence on every rung.

    The reference itself is not served: a registered version carries no PyTorch. Raises UserError
    where no other rung is within the budget.
    """
    reference = next(rung for rung in rungs if rung.name == REFERENCE)
    reasons = {REFERENCE: "the reference: a registered version carries no PyTorch"}
    fit = []
    for rung in rungs:
        if rung.name == REFERENCE:
            continue
        drop = reference.validation[params.metric] - rung.validation[params.metric]
        if drop - params.largest_drop > scoring.TIE:
            reasons[rung.name] = (
                f"validation {params.metric} drops by {drop:.4f}, the budget is"
                f" {params.largest_drop:.4f}"
            )
        elif rung.validation_flips > params.largest_flips:
            reasons[rung.name] = (
                f"{rung.validation_flips:.2%} of validation answers flip, the budget is"
                f" {params.largest_flips:.2%}"
            )
        else:
            fit.append(rung)
    if not fit:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UserError(f"benchmark: no runtime stays within the budget: {told}")
    best = min(fit, key=lambda rung: rung.single.p50_ms)
    for rung in fit:
        reasons[rung.name] = (
            "the fastest within the budget"
            if rung is best
            else f"within the budget, but slower than {best.name}"
        )
    return best.name, reasons


def _rung(
    name: str,
    own: Measured,
    answers: dict[str, dict[Split, list[str]]],
    timings: dict[str, Timing],
    task: Task,
    rows: dict[Split, Labelled],
    classes: list[str],
    file: Path,
) -> Rung:
    scores, flips = {}, {}
    for split, given in rows.items():
        tallied = scoring.tallies(task, given.labels, answers[name][split], classes, given.groups)
        scores[split] = scoring.metrics(task.measure, tallied)
        agreed = task.agreement(answers[name][split], answers[REFERENCE][split])
        flips[split] = float(1 - agreed.mean())
    return Rung(
        name=name,
        file=RUNGS[name],
        bytes=size_of(file),
        load_ms=own.load_ms,
        peak_memory_mb=own.peak_memory_mb,
        provider=own.provider,
        single=timings[name],
        grid=own.grid,
        speedup=timings[REFERENCE].p50_ms / timings[name].p50_ms,
        validation=scores["validation"],
        validation_flips=flips["validation"],
        test=scores["test"],
        test_flips=flips["test"],
        verdict="",
    )


@dataclass(frozen=True)
class Work:
    """What one rung's process is given."""

    name: str
    task: str
    validate: Path
    tokenize: Path
    finetune: Path
    export: Path
    threads: int
    params: BenchmarkParams
    lengths: list[int]
    smoke: list[Texts]

    def load(self, task: Task) -> Runtime:
        file = RUNGS[self.name]
        if file is None:
            from pipeline.adapters.pytorch import TorchModel

            return TorchModel(self.finetune / "model", task, self.threads)
        from pipeline.adapters.onnx_runtime import OnnxModel

        padding = json.loads((self.export / "serving.json").read_text())["padding"]
        return OnnxModel(self.export / file, padding, self.threads)


class Rig:
    """A rung in its process, ready to be measured."""

    def __init__(self, work: Work) -> None:
        self.work, self.task = work, tasks.get(work.task)
        self.encoder = kept.encoder(work.tokenize, self.task)
        self.texts = {
            split: kept.texts_of(kept.kept_rows(work.validate, split)) for split in SCORED
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
        for pieces in timed[:10]:
            self.run(pieces, len(pieces))

    def run(self, pieces: list[Piece], batch_size: int) -> None:
        self.task.run(self.runtime, pieces, batch_size, self.answering.decision)

    def turn(self) -> list[float]:
        """Milliseconds of texts of the recipe's own lengths, one at a time."""
        seconds = 4 * self.work.params.seconds / TURNS
        return _times(lambda: self.run(next(self.singles), MOST_WINDOWS), seconds)

    def said(self, split: Split, start: int) -> list[str]:
        """What the rung answers to as many rows from there as are answered at once."""
        texts = self.texts[split][start : start + AT_ONCE]
        return [answer.label for answer in self.answering(texts)]

    def measured(self) -> Measured:
        """The grid of timings, and what the rung answers to the made-up texts."""
        work, runtime = self.work, self.runtime
        grid = []
        for length in work.lengths:
            shorter = kept.encoder(work.tokenize, self.task, max(8, length))
            cut = shorter.pieces(self.texts["validation"][:MOST_TIMED])
            full = [piece for piece in cut if len(piece) >= length] or cut
            for batch in work.params.batches:
                same = [full[i % len(full)] for i in range(batch)]
                found = _times(partial(self.run, same, len(same)), work.params.seconds)
                grid.append(_timing(found, batch, length))
        smoke = self.answering(work.smoke)
        return Measured(self.load_ms, peak_memory_mb(), runtime.provider, grid, smoke)


_rig: Rig  # of this process


def _open(work: Work) -> int:
    """Returns the median length of what is timed one by one, in tokens."""
    global _rig
    _rig = Rig(work)
    return _rig.length


def _turn() -> list[float]:
    return _rig.turn()


def _say(split: Split, start: int) -> list[str]:
    return _rig.said(split, start)


def _measure() -> Measured:
    return _rig.measured()


def peak_memory_mb() -> float:
    """Of this process, as Linux counts it since the program began; `getrusage` would count what its
    parent held when it was started, too (proc_pid_status(5), getrusage(2))."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kilobytes = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert kilobytes
    return int(kilobytes[1]) * 1024 / MB


def _times(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of each call until the seconds are spent, of 5 at least, after one that is not
    counted."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 9_000):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def _timing(times: list[float], batch: int, length: int) -> Timing:
    p50, p95, p99 = (float(v) for v in np.percentile(times, (50, 95, 99)))
    return Timing(
        batch=batch,
        length=length,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        texts_per_second=batch / float(np.mean(times)) * 1e3,
    )


def smoke_texts(tokenizer: Path, lengths: list[int], task: Task) -> list[Texts]:
    """Made-up texts of the recipe's lengths, of tokens drawn by chance; the same each time."""
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer))
    random = np.random.default_rng(17)

    def text(length: int) -> str:
        drawn = random.integers(words.get_vocab_size(), size=length)
        return str(words.decode(drawn.tolist())) or "a"

    return [
        (text(length), text(length) if task.two_texts else "")
        for length in (lengths[i % len(lengths)] for i in range(SMOKE))
    ]


def this_machine() -> Machine:
    """What timings depend on."""
    import psutil
    import torch

    features = torch.cpu.get_capabilities()
    shown = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    packages = ("torch", "transformers", "onnxruntime-gpu", "onnx", "tokenizers", "numpy")
    return Machine(
        processor=str(features.get("cpu_name") or platform.processor()),
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1024**3, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        features=[name for name in shown if features.get(name)],
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        versions={name: version(name) for name in packages},
    )
