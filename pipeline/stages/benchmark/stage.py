"""Measurement of the runtime candidates on this machine, and choice of the one that serves.

    python -m pipeline benchmark news

Each candidate runs alone in its own process on the same number of threads. Single texts are timed
in turns (turns.py), so that other load on the machine slows all candidates alike. Of the candidates
whose answers on *validation* stay within the recipe's budget, the fastest is picked, or one that
changes fewer answers if the difference in speed is within the noise; test scores are reported only.
Writes benchmark.json, pictures/runtimes.png and smoke.json: made-up texts with the answers of the
picked candidate, by which a server checks that it answers the same.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, size_of, write_json
from pipeline.core.log import Log, no_log
from pipeline.core.records import Benchmark, Candidate, Lengths, Split, Timing, Validation
from pipeline.metrics import scoring
from pipeline.stages import artifacts
from pipeline.stages.benchmark import candidates
from pipeline.stages.benchmark.candidates import CANDIDATES, REFERENCE, SCORED, Measured, Work
from pipeline.stages.benchmark.latency import timing
from pipeline.stages.benchmark.machine import this_machine
from pipeline.stages.benchmark.params import BenchmarkParams
from pipeline.stages.benchmark.turns import ROUNDS, Turn, busy, faster, rounds
from pipeline.tasks.base import Answer, Labelled, Task
from pipeline.tasks.base.encoding import Texts

SMOKE = 16  # made-up texts in smoke.json
Answers = dict[Split, list[str]]  # labels, in the order of the rows


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
) -> Benchmark:
    """Measure all candidates and pick one."""
    from pipeline.stages.benchmark import figures

    machine = this_machine()
    threads = params.threads or machine.cores
    lengths = _timed_lengths(tokenize)
    smoke = smoke_texts(tokenize / "tokenizer" / "tokenizer.json", lengths, task)
    rows = {split: artifacts.labelled(artifacts.kept_rows(validate, split)) for split in SCORED}
    works = [
        Work(
            name=name,
            task=task.name,
            validate=validate,
            tokenize=tokenize,
            finetune=finetune,
            export=export,
            threads=threads,
            batches=params.batches,
            seconds=params.seconds,
            lengths=lengths,
            smoke=smoke,
        )
        for name in CANDIDATES
    ]
    reference = _reference_answers(evaluate / "predictions.parquet")
    runs, share = _measure(works, rows, reference, log)

    classes = Validation.read(validate / "validation.json").labels
    runtimes = [
        _candidate(name, runs, task, rows, classes, export / file if file else finetune / "model")
        for name, file in CANDIDATES.items()
    ]
    picked, reasons = pick(runtimes, params)
    _write_smoke(smoke, runs[picked].measured.smoke, out / "smoke.json")
    record = Benchmark(
        reference=REFERENCE,
        picked=picked,
        threads=threads,
        candidates=[r.model_copy(update={"verdict": reasons[r.name]}) for r in runtimes],
        machine=machine,
        neighbours=share,
    )
    with atomic_write(out / "pictures") as temporary:
        temporary.mkdir()
        figures.runtimes(record, temporary / "runtimes.png")
    log.info(f"picked {picked}: {reasons[picked]}")
    return record.write(out / "benchmark.json")


def _timed_lengths(tokenize: Path) -> list[int]:
    """Return the lengths of texts in the grid, in tokens: short, medium and long for the recipe."""
    lengths = Lengths.read(tokenize / "lengths.json")
    return sorted({min(lengths.quantiles[q], lengths.maximum) for q in ("p25", "p50", "p95")})


@dataclass(frozen=True)
class _CandidateRun:
    """Timing, answers and measurements of one candidate."""

    single: Timing
    """Timing of one text at a time."""
    turns: list[float]
    """Median of each turn in milliseconds."""
    answers: Answers
    measured: Measured


def _measure(
    works: Sequence[Work], rows: dict[Split, Labelled], reference: Answers, log: Log
) -> tuple[dict[str, _CandidateRun], float]:
    """Measure each candidate in its own process: first the time of single texts, in turns, then the
    answers (those of the `reference` are known) and the grid. Also return the share of the
    processors that other programs took during these turns."""
    runs: dict[str, _CandidateRun] = {}
    with ExitStack() as stack:
        processes, length = _start(works, stack)
        log.info(f"measuring {', '.join(processes)} in turns on {works[0].threads} threads")
        seconds = 4 * works[0].seconds / ROUNDS

        def turn(name: str) -> Turn:
            found: Turn = processes[name].submit(candidates.turn, seconds).result()
            return found

        found = rounds(turn, list(processes), log)
        for name, process in processes.items():
            own = [each[name] for each in found]
            times = [time for turn in own for time in turn.milliseconds]
            log.info(f"{name}: {np.median(times):.1f} ms a text; now its answers and grid")
            answers = reference if name == REFERENCE else _answers(process, rows, log)
            measured = process.submit(candidates.measure).result()
            medians = [turn.median for turn in own]
            runs[name] = _CandidateRun(timing(times, 1, length), medians, answers, measured)
    return runs, busy(found)


def _start(works: Sequence[Work], stack: ExitStack) -> tuple[dict[str, ProcessPoolExecutor], int]:
    """Start a process for each candidate, loaded and warmed up. Also return the median length in
    tokens of the texts timed one by one."""
    spawn = multiprocessing.get_context("spawn")
    processes, length = {}, 0
    for work in works:
        process = stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
        length = process.submit(candidates.begin, work).result()
        processes[work.name] = process
    return processes, length


def _answers(process: ProcessPoolExecutor, rows: dict[Split, Labelled], log: Log) -> Answers:
    """Return the answers of the candidate in a process."""
    answers: Answers = {}
    for split, labelled in rows.items():
        own: list[str] = []
        while len(own) < len(labelled.texts):
            own += process.submit(candidates.answers, split, len(own)).result()
            log.progress(len(own), len(labelled.texts), f"{split} rows")
        answers[split] = own
    return answers


def _reference_answers(predictions: Path) -> Answers:
    """Read the answers of the reference, which `evaluate` has written."""
    import pandas as pd

    frame = pd.read_parquet(predictions, columns=["split", "answer"])
    return {split: frame.loc[frame["split"] == split, "answer"].tolist() for split in SCORED}


def pick(measured: list[Candidate], params: BenchmarkParams) -> tuple[str, dict[str, str]]:
    """Return the candidate that serves, and a reason for each one: of those within the budget on
    validation the fastest, or one that changes fewer answers if the difference is noise.

    The reference itself is never picked: a registered version contains no PyTorch. Raises UserError
    if no other candidate is within the budget.
    """
    reference = next(candidate for candidate in measured if candidate.name == REFERENCE)
    reasons = {REFERENCE: "the reference: a registered version carries no PyTorch"}
    fit = []
    for candidate in measured:
        if candidate.name == REFERENCE:
            continue
        drop = reference.validation[params.metric] - candidate.validation[params.metric]
        if drop - params.max_metric_drop > scoring.TIE:
            reasons[candidate.name] = (
                f"validation {params.metric} drops by {drop:.4f}, the budget is"
                f" {params.max_metric_drop:.4f}"
            )
        elif candidate.validation_flips > params.max_flip_rate:
            reasons[candidate.name] = (
                f"{candidate.validation_flips:.2%} of validation answers flip, the budget is"
                f" {params.max_flip_rate:.2%}"
            )
        else:
            fit.append(candidate)
    if not fit:
        details = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UserError(f"benchmark: no runtime stays within the budget: {details}")
    safest, *others = sorted(fit, key=lambda each: _risk(each, params.metric))
    best = safest
    for candidate in others:
        best = candidate if faster(candidate.turns, best.turns) else best
    for candidate in fit:
        slower = candidate.single.p50_ms >= best.single.p50_ms
        reasons[candidate.name] = (
            "the fastest within the budget"
            if candidate is best
            else f"within the budget, but slower than {best.name}"
            if slower
            else f"within the budget, but not faster than {best.name} by more than the noise"
        )
    return best.name, reasons


def _risk(candidate: Candidate, metric: str) -> tuple[float, float]:
    """Return how much a candidate changes on validation rows: answers first, then the metric."""
    return candidate.validation_flips, -candidate.validation[metric]


def _candidate(
    name: str,
    runs: dict[str, _CandidateRun],
    task: Task,
    rows: dict[Split, Labelled],
    classes: list[str],
    file: Path,
) -> Candidate:
    """Return a candidate's record with an empty verdict."""
    own, reference = runs[name], runs[REFERENCE]
    scores, flips = {}, {}
    for split, labelled in rows.items():
        answers = own.answers[split]
        tallied = scoring.tallies(task, labelled.labels, answers, classes, labelled.groups)
        scores[split] = scoring.metrics(task.measure, tallied)
        agreed = task.agreement(answers, reference.answers[split])
        flips[split] = float(1 - agreed.mean())
    return Candidate(
        name=name,
        file=CANDIDATES[name],
        bytes=size_of(file),
        load_ms=own.measured.load_ms,
        peak_memory_mb=own.measured.peak_memory_mb,
        provider=own.measured.provider,
        single=own.single,
        turns=own.turns,
        grid=own.measured.grid,
        speedup=reference.single.p50_ms / own.single.p50_ms,
        validation=scores["validation"],
        validation_flips=flips["validation"],
        test=scores["test"],
        test_flips=flips["test"],
        verdict="",
    )


def smoke_texts(tokenizer: Path, lengths: list[int], task: Task) -> list[Texts]:
    """Return texts of random tokens in the recipe's lengths, the same each time."""
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(tokenizer))
    random = np.random.default_rng(17)

    def text(length: int) -> str:
        tokens = random.integers(vocabulary.get_vocab_size(), size=length)
        return str(vocabulary.decode(tokens.tolist())) or "a"

    return [
        (text(length), text(length) if task.two_texts else "")
        for length in (lengths[i % len(lengths)] for i in range(SMOKE))
    ]


def _write_smoke(texts: list[Texts], answers: list[Answer], path: Path) -> None:
    listed = [
        {"label": answer.label, "score": answer.confidence, "scores": dict(answer.scores)}
        for answer in answers
    ]
    write_json(path, {"texts": texts, "answers": listed})
