"""The runtimes: every runtime measured on this machine, and the one that will serve.

    python -m pipeline benchmark news

Each candidate works alone in its own process on the same number of threads. The time of one text is
taken in turns, so that a machine which others slow down for a while is slow for all candidates. The
fastest candidate whose answers on *validation* stay within the recipe's budget is picked; the test
scores are reported, never chosen by. Writes benchmark.json, pictures/runtimes.png and smoke.json:
made-up texts with what the picked candidate answers, by which a server can tell that it answers the
same.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import size_of, whole, write_json
from pipeline.core.log import Log, no_log
from pipeline.core.records import Benchmark, Candidate, Lengths, Split, Timing, Validation
from pipeline.metrics import scoring
from pipeline.stages import artifacts
from pipeline.stages.benchmark import candidates
from pipeline.stages.benchmark.candidates import CANDIDATES, REFERENCE, SCORED, Measured, Work
from pipeline.stages.benchmark.latency import timing
from pipeline.stages.benchmark.machine import this_machine
from pipeline.stages.benchmark.params import BenchmarkParams
from pipeline.tasks.base import Answer, Labelled, Task
from pipeline.tasks.base.encoding import Texts

TURNS = 8  # in which the candidates are timed one text at a time
SMOKE = 16  # made-up texts
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
    found = _measured(works, rows, {REFERENCE: _evaluated(evaluate / "predictions.parquet")}, log)

    classes = Validation.read(validate / "validation.json").labels
    runtimes = [
        _candidate(name, found, task, rows, classes, export / file if file else finetune / "model")
        for name, file in CANDIDATES.items()
    ]
    picked, reasons = pick(runtimes, params)
    _write_smoke(smoke, found[picked].measured.smoke, out / "smoke.json")
    record = Benchmark(
        reference=REFERENCE,
        picked=picked,
        threads=threads,
        candidates=[r.model_copy(update={"verdict": reasons[r.name]}) for r in runtimes],
        machine=machine,
    )
    with whole(out / "pictures") as temporary:
        temporary.mkdir()
        figures.runtimes(record, temporary / "runtimes.png")
    log.say(f"picked {picked}: {reasons[picked]}")
    return record.write(out / "benchmark.json")


def _timed_lengths(tokenize: Path) -> list[int]:
    """Tokens of the texts in the grid: short, middling and long ones of the recipe."""
    lengths = Lengths.read(tokenize / "lengths.json")
    return sorted({min(lengths.quantiles[q], lengths.maximum) for q in ("p25", "p50", "p95")})


@dataclass(frozen=True)
class _Found:
    """Findings on one candidate."""

    single: Timing
    """Timing of one text at a time."""
    answers: Answers
    measured: Measured


def _measured(
    works: Sequence[Work], rows: dict[Split, Labelled], known: dict[str, Answers], log: Log
) -> dict[str, _Found]:
    """Measure each candidate in a process of its own: first the time of one text, in turns, then
    its answers, but for those that are `known`, and its grid."""
    found: dict[str, _Found] = {}
    with ExitStack() as stack:
        processes, length = _begun(works, stack)
        log.say(f"measuring {', '.join(processes)} in turns on {works[0].threads} threads")
        times: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(TURNS):
            for name, process in processes.items():
                turn = process.submit(candidates.turn, 4 * works[0].seconds / TURNS)
                times[name] += turn.result()
        for name, process in processes.items():
            log.say(f"{name}: {np.median(times[name]):.1f} ms a text; now its answers and grid")
            answers = known.get(name) or _answers(process, rows, log)
            measured = process.submit(candidates.measure).result()
            found[name] = _Found(timing(times[name], 1, length), answers, measured)
    return found


def _begun(works: Sequence[Work], stack: ExitStack) -> tuple[dict[str, ProcessPoolExecutor], int]:
    """A process for each candidate, which has loaded it and warmed it up; and the median length, in
    tokens, of the texts that are timed one by one."""
    spawn = multiprocessing.get_context("spawn")
    processes, length = {}, 0
    for work in works:
        process = stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
        length = process.submit(candidates.begin, work).result()
        processes[work.name] = process
    return processes, length


def _answers(process: ProcessPoolExecutor, rows: dict[Split, Labelled], log: Log) -> Answers:
    """What the candidate of a process answers."""
    said: Answers = {}
    for split, given in rows.items():
        said[split] = []
        while len(said[split]) < len(given.texts):
            said[split] += process.submit(candidates.say, split, len(said[split])).result()
            log.progress(len(said[split]), len(given.texts), f"{split} rows")
    return said


def _evaluated(predictions: Path) -> Answers:
    """What the reference answers: `evaluate` has asked it."""
    import pandas as pd

    frame = pd.read_parquet(predictions, columns=["split", "answer"])
    return {split: frame.loc[frame["split"] == split, "answer"].tolist() for split in SCORED}


def pick(measured: list[Candidate], params: BenchmarkParams) -> tuple[str, dict[str, str]]:
    """The fastest candidate within the budget on validation, and a sentence on every candidate.

    The reference itself is not served: a registered version carries no PyTorch. Raises UserError
    where no other candidate is within the budget.
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
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UserError(f"benchmark: no runtime stays within the budget: {told}")
    best = min(fit, key=lambda candidate: candidate.single.p50_ms)
    for candidate in fit:
        reasons[candidate.name] = (
            "the fastest within the budget"
            if candidate is best
            else f"within the budget, but slower than {best.name}"
        )
    return best.name, reasons


def _candidate(
    name: str,
    found: dict[str, _Found],
    task: Task,
    rows: dict[Split, Labelled],
    classes: list[str],
    file: Path,
) -> Candidate:
    """A candidate's record, its verdict still empty."""
    own, reference = found[name], found[REFERENCE]
    scores, flips = {}, {}
    for split, given in rows.items():
        answers = own.answers[split]
        tallied = scoring.tallies(task, given.labels, answers, classes, given.groups)
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
        grid=own.measured.grid,
        speedup=reference.single.p50_ms / own.single.p50_ms,
        validation=scores["validation"],
        validation_flips=flips["validation"],
        test=scores["test"],
        test_flips=flips["test"],
        verdict="",
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


def _write_smoke(texts: list[Texts], answers: list[Answer], path: Path) -> None:
    said = [
        {"label": answer.label, "score": answer.confidence, "scores": dict(answer.scores)}
        for answer in answers
    ]
    write_json(path, {"texts": texts, "answers": said})
