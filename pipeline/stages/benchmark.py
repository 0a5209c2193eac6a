"""The ladder: every runtime measured on this machine, and the one that will serve.

    python -m pipeline benchmark news

Each rung runs alone in its own process on the same number of threads. The fastest one whose
answers on *validation* stay within the recipe's budget is picked; the test scores are reported,
never chosen by. Writes ladder.json and pictures/ladder.png. To add a rung, give it a name and a
file in RUNGS, and have `export` write that file.
"""

import json
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import cycle
from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline import kept, scoring, tasks
from pipeline.config import Settings, nearest
from pipeline.errors import UserError
from pipeline.files import size_of, whole
from pipeline.log import Log, no_log
from pipeline.records import Fit, Ladder, Lengths, Machine, Rung, Split, Timing, Validation
from pipeline.tasks import Labelled, Task
from pipeline.tasks.answering import Answering, Runtime
from pipeline.tasks.encoding import MOST_WINDOWS

REFERENCE = "pytorch"
RUNGS: dict[str, str | None] = {
    REFERENCE: None,  # the fine-tuned folder itself
    "onnx-fp32": "fp32.onnx",
    "onnx-int8": "int8.onnx",
}
SCORED: tuple[Split, ...] = ("validation", "test")
MB = 1024 * 1024
MOST_TIMED = 1000  # texts that are asked for the time that they take


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
    single: Timing
    grid: list[Timing]
    answers: dict[Split, list[str]]


def benchmark(
    params: BenchmarkParams,
    task: Task,
    validate: Path,
    tokenize: Path,
    finetune: Path,
    export: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Ladder:
    """Measure all rungs, one after the other, and pick one."""
    from pipeline.adapters import pictures

    machine = this_machine()
    threads = params.threads or machine.cores
    quantiles = Lengths.read(tokenize / "lengths.json")
    lengths = sorted(
        {min(quantiles.quantiles[q], quantiles.maximum) for q in ("p25", "p50", "p95")}
    )
    measured: dict[str, Measured] = {}
    for name, file in RUNGS.items():
        log.say(f"measuring {name} on {threads} threads")
        work = Work(name, task.name, validate, tokenize, finetune, export, threads, params, lengths)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as alone:
            measured[name] = alone.submit(_measure, work).result()
        single = measured[name].single
        log.say(f"{name}: {single.p50_ms:.1f} ms a text ({file or 'PyTorch'})")

    rows = {split: kept.labelled(kept.kept_rows(validate, split)) for split in SCORED}
    classes = Validation.read(validate / "validation.json").labels
    rungs = [
        _rung(name, measured, task, rows, classes, export / file if file else finetune / "model")
        for name, file in RUNGS.items()
    ]
    picked, reasons = pick(rungs, params)
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
        if drop > params.largest_drop:
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
    measured: dict[str, Measured],
    task: Task,
    rows: dict[Split, Labelled],
    classes: list[str],
    file: Path,
) -> Rung:
    own, reference = measured[name], measured[REFERENCE]
    scores, flips = {}, {}
    for split, given in rows.items():
        tallied = scoring.tallies(task, given.labels, own.answers[split], classes, given.groups)
        scores[split] = scoring.metrics(task.measure, tallied)
        flips[split] = float(1 - task.same(own.answers[split], reference.answers[split]).mean())
    return Rung(
        name=name,
        file=RUNGS[name],
        bytes=size_of(file),
        load_ms=own.load_ms,
        peak_memory_mb=own.peak_memory_mb,
        provider=own.provider,
        single=own.single,
        grid=own.grid,
        speedup=reference.single.p50_ms / own.single.p50_ms,
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

    def load(self, task: Task) -> Runtime:
        file = RUNGS[self.name]
        if file is None:
            from pipeline.adapters.pytorch import TorchModel

            return TorchModel(self.finetune / "model", task, self.threads)
        from pipeline.adapters.onnx_runtime import OnnxModel

        padding = json.loads((self.export / "serving.json").read_text())["padding"]
        return OnnxModel(self.export / file, padding, self.threads)


def _measure(work: Work) -> Measured:
    """Runs in a process of its own."""
    task = tasks.get(work.task)
    encoder = kept.encoder(work.tokenize, task)
    texts = {split: kept.texts_of(kept.kept_rows(work.validate, split)) for split in SCORED}
    started = time.perf_counter()
    runtime = work.load(task)
    load_ms = (time.perf_counter() - started) * 1e3
    rows = [encoder.pieces([text]) for text in texts["validation"][:MOST_TIMED]]
    for pieces in rows[:10]:
        runtime.logits(pieces, len(pieces))

    singles = cycle(rows)
    median = int(np.median([sum(len(piece) for piece in pieces) for pieces in rows]))
    seconds = work.params.seconds
    single = _time(lambda: runtime.logits(next(singles), MOST_WINDOWS), 1, median, 2 * seconds)
    grid = []
    for length in work.lengths:
        shorter = kept.encoder(work.tokenize, task, max(8, length))
        cut = shorter.pieces(texts["validation"][:MOST_TIMED])
        full = [piece for piece in cut if len(piece) >= length] or cut
        for batch in work.params.batches:
            same = [full[i % len(full)] for i in range(batch)]
            grid.append(
                _time(lambda same=same: runtime.logits(same, len(same)), batch, length, seconds)  # type: ignore[misc]
            )
    classes = Validation.read(work.validate / "validation.json").labels
    decision = Fit.read(work.finetune / "fit.json").decision
    answering = Answering(task, encoder, runtime, classes, decision)
    answers = {split: [answer.label for answer in answering(texts[split])] for split in SCORED}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    return Measured(load_ms, peak, runtime.provider, single, grid, answers)


def _time(call: Callable[[], object], batch: int, length: int, seconds: float) -> Timing:
    """Call until the seconds are spent, 5 times at least, after one call that is not counted."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 9_000):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    p50, p95, p99 = (float(v) for v in np.percentile(times, (50, 95, 99)))
    return Timing(
        batch=batch,
        length=length,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        texts_per_second=batch / float(np.mean(times)) * 1e3,
    )


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
