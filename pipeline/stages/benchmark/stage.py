"""The ladder: every runtime measured on this machine, and the one that will serve.

    python -m pipeline benchmark news

Each rung works alone in its own process on the same number of threads. The time of one text is
taken in turns, so that a machine which others slow down for a while is slow for all rungs. The
fastest rung whose answers on *validation* stay within the recipe's budget is picked; the test
scores are reported, never chosen by. Writes ladder.json, pictures/ladder.png and smoke.json:
made-up texts with what the picked rung answers, by which a server can tell that it answers the
same.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import size_of, whole, write_json
from pipeline.core.log import Log, no_log
from pipeline.core.records import Ladder, Lengths, Rung, Split, Timing, Validation
from pipeline.metrics import scoring
from pipeline.stages import artifacts
from pipeline.stages.benchmark import candidates
from pipeline.stages.benchmark.candidates import REFERENCE, RUNGS, SCORED, Measured
from pipeline.stages.benchmark.machine import this_machine
from pipeline.stages.benchmark.params import BenchmarkParams
from pipeline.tasks.base import Labelled, Task
from pipeline.tasks.base.encoding import Texts

TURNS = 8  # in which the rungs are timed one text at a time
SMOKE = 16  # made-up texts


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
    from pipeline.stages.benchmark import figures

    machine = this_machine()
    threads = params.threads or machine.cores
    quantiles = Lengths.read(tokenize / "lengths.json")
    lengths = sorted(
        {min(quantiles.quantiles[q], quantiles.maximum) for q in ("p25", "p50", "p95")}
    )
    smoke = smoke_texts(tokenize / "tokenizer" / "tokenizer.json", lengths, task)
    rows = {split: artifacts.labelled(artifacts.kept_rows(validate, split)) for split in SCORED}
    answers = {REFERENCE: _evaluated(evaluate / "predictions.parquet")}
    measured: dict[str, Measured] = {}
    times: dict[str, list[float]] = {name: [] for name in RUNGS}
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        alone = {}
        for name in RUNGS:
            process = stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
            work = candidates.Work(
                name,
                task.name,
                validate,
                tokenize,
                finetune,
                export,
                threads,
                params.batches,
                params.seconds,
                lengths,
                smoke,
            )
            length = process.submit(candidates.begin, work).result()
            alone[name] = process
        log.say(f"measuring {', '.join(RUNGS)} in turns on {threads} threads")
        for _ in range(TURNS):
            for name, process in alone.items():
                times[name] += process.submit(candidates.turn, 4 * params.seconds / TURNS).result()
        for name, process in alone.items():
            log.say(f"{name}: {np.median(times[name]):.1f} ms a text; now its answers and grid")
            if name != REFERENCE:
                answers[name] = _answers(process, rows, log)
            measured[name] = process.submit(candidates.measure).result()
    timings = {name: candidates.timing(found, 1, length) for name, found in times.items()}

    classes = Validation.read(validate / "validation.json").labels
    ladder = [
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
    picked, reasons = pick(ladder, params)
    said = [
        {"label": answer.label, "score": answer.confidence, "scores": dict(answer.scores)}
        for answer in measured[picked].smoke
    ]
    write_json(out / "smoke.json", {"texts": smoke, "answers": said})
    record = Ladder(
        reference=REFERENCE,
        picked=picked,
        threads=threads,
        rungs=[r.model_copy(update={"verdict": reasons[r.name]}) for r in ladder],
        machine=machine,
    )
    with whole(out / "pictures") as temporary:
        temporary.mkdir()
        figures.ladder(record, temporary / "ladder.png")
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
            said[split] += process.submit(candidates.say, split, len(said[split])).result()
            log.progress(len(said[split]), len(given.texts), f"{split} rows")
    return said


def _evaluated(predictions: Path) -> dict[Split, list[str]]:
    """What the reference answers: `evaluate` has asked it."""
    import pandas as pd

    frame = pd.read_parquet(predictions, columns=["split", "answer"])
    return {split: frame.loc[frame["split"] == split, "answer"].tolist() for split in SCORED}


def pick(measured: list[Rung], params: BenchmarkParams) -> tuple[str, dict[str, str]]:
    """The fastest rung within the budget on validation, and a sentence on every rung.

    The reference itself is not served: a registered version carries no PyTorch. Raises UserError
    where no other rung is within the budget.
    """
    reference = next(rung for rung in measured if rung.name == REFERENCE)
    reasons = {REFERENCE: "the reference: a registered version carries no PyTorch"}
    fit = []
    for rung in measured:
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
