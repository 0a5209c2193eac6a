"""The ladder: every runtime measured on this machine, and the one that will serve.

    python -m pipeline benchmark news

Each rung runs alone in its own process on the same number of threads. The fastest one whose
answers on *validation* stay within the recipe's budget is picked; the test scores are reported,
never chosen by. Writes ladder.json and pictures/ladder.png. To add a rung, give it a name and a
file in RUNGS, and have `export` write that file.
"""

import multiprocessing
import platform
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline import scoring
from pipeline.config import Settings
from pipeline.errors import UserError
from pipeline.files import size_of, whole
from pipeline.log import Log, no_log
from pipeline.records import Ladder, Lengths, Machine, Rung, Split, Timing

REFERENCE = "pytorch"
RUNGS: dict[str, str | None] = {
    REFERENCE: None,  # the fine-tuned folder itself
    "onnx-fp32": "fp32.onnx",
    "onnx-int8": "int8.onnx",
}
SCORED: tuple[Split, ...] = ("validation", "test")
MB = 1024 * 1024


class BenchmarkParams(Settings):
    threads: int = Field(ge=0)
    """Of every rung; 0 takes as many as the machine has cores."""
    batches: list[int] = Field(min_length=1)
    """Texts at once, in the grid of timings."""
    seconds: float = Field(gt=0, le=60)
    """Spent on each timing."""
    metric: Literal["accuracy", "macro_f1"]
    largest_drop: float = Field(ge=0, le=1)
    """Of that metric on validation, from the reference's."""
    largest_flips: float = Field(ge=0, le=1)
    """Share of validation answers that differ from the reference's."""


class Runtime(Protocol):
    provider: str

    def logits(
        self, tokens: Sequence[Sequence[int]], batch_size: int
    ) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class Measured:
    """What one rung's process found."""

    load_ms: float
    peak_memory_mb: float
    provider: str
    single: Timing
    grid: list[Timing]
    answers: dict[Split, npt.NDArray[np.int64]]


def benchmark(
    params: BenchmarkParams,
    tokenize: Path,
    finetune: Path,
    export: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Ladder:
    """Measure all rungs, one after the other, and pick one."""
    from pipeline.adapters import pictures
    from pipeline.adapters.tokens import read_tokens

    machine = this_machine()
    threads = params.threads or machine.cores
    quantiles = Lengths.read(tokenize / "lengths.json")
    lengths = sorted(
        {min(quantiles.quantiles[q], quantiles.maximum) for q in ("p25", "p50", "p95")}
    )
    measured: dict[str, Measured] = {}
    for name, file in RUNGS.items():
        log.say(f"measuring {name} on {threads} threads")
        work = (name, finetune, export, tokenize, threads, params.batches, lengths, params.seconds)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as alone:
            measured[name] = alone.submit(_measure, *work).result()
        single = measured[name].single
        log.say(f"{name}: {single.p50_ms:.1f} ms a text ({file or 'PyTorch'})")

    truth = {split: read_tokens(tokenize, split).labels for split in SCORED}
    rungs = [
        _rung(name, file, measured, truth, size_of(export / file if file else finetune / "model"))
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
        score = f"validation_{params.metric}"
        drop = getattr(reference, score) - getattr(rung, score)
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
    file: str | None,
    measured: dict[str, Measured],
    truth: dict[Split, npt.NDArray[np.int64]],
    size: int,
) -> Rung:
    own, reference = measured[name], measured[REFERENCE]
    values: dict[str, float] = {}
    for split in SCORED:
        classes = int(max(truth[split].max(), own.answers[split].max())) + 1
        confusion = scoring.confusion_matrix(truth[split], own.answers[split], classes)
        for metric, function in scoring.METRICS.items():
            values[f"{split}_{metric}"] = float(function(confusion))
        flipped = own.answers[split] != reference.answers[split]
        values[f"{split}_flips"] = float(flipped.mean())
    return Rung(
        name=name,
        file=file,
        bytes=size,
        load_ms=own.load_ms,
        peak_memory_mb=own.peak_memory_mb,
        provider=own.provider,
        single=own.single,
        grid=own.grid,
        speedup=reference.single.p50_ms / own.single.p50_ms,
        verdict="",
        **values,
    )


def _load(name: str, finetune: Path, export: Path, threads: int) -> Runtime:
    file = RUNGS[name]
    if file is None:
        from pipeline.adapters.pytorch import TorchClassifier

        return TorchClassifier(finetune / "model", threads)
    from pipeline.adapters.onnx_runtime import OnnxClassifier

    return OnnxClassifier(
        export / file, export / "tokenizer.json", export / "serving.json", threads
    )


def _measure(
    name: str,
    finetune: Path,
    export: Path,
    tokenize: Path,
    threads: int,
    batches: list[int],
    lengths: list[int],
    seconds: float,
) -> Measured:
    """Runs in a process of its own."""
    from pipeline.adapters.tokens import read_tokens

    rows = {split: read_tokens(tokenize, split).tokens for split in SCORED}
    started = time.perf_counter()
    runtime = _load(name, finetune, export, threads)
    load_ms = (time.perf_counter() - started) * 1e3
    texts = rows["validation"]
    for text in texts[:10]:
        runtime.logits([text], 1)

    singles = iter(int(i) for i in np.resize(np.arange(len(texts)), 10_000))
    median = int(np.median([len(text) for text in texts]))
    single = _time(lambda: runtime.logits([texts[next(singles)]], 1), 1, median, 2 * seconds)
    grid = []
    for length in lengths:
        full = [text[:length] for text in texts if len(text) >= length] or texts
        for batch in batches:
            same = [full[i % len(full)] for i in range(batch)]
            grid.append(
                _time(lambda same=same: runtime.logits(same, len(same)), batch, length, seconds)  # type: ignore[misc]
            )
    answers = {split: runtime.logits(rows[split], 8).argmax(1) for split in SCORED}
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
