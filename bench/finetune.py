"""Benchmark of training throughput: a plain loop, transformers' Trainer, and bertline.

    python bench/finetune.py
    python bench/finetune.py --rows 200 --rounds 1 --out /tmp/bench    # a quick look

All three train the same base on the same 2,000 IMDB reviews, cut to 256 tokens, for one epoch:
batch 16, AdamW, learning rate 1e-4, a linear schedule, the same number of threads. Each runs alone
in a process of its own; they take turns, round by round. Only training steps are timed, from the
end of the second one to the end of the last: tokenizing, evaluation and checkpoints are left out.
Writes finetune.json and finetune.md.
"""

import argparse
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from report import RESULTS, ROOT, Others, machine_text, others_text, table, write

from pipeline import tasks
from pipeline.core.config import parse, read_recipe
from pipeline.core.log import NullLog
from pipeline.core.records import SPLITS, Machine
from pipeline.models.bases import BaseParams, base_folder
from pipeline.sources import Row, read_rows
from pipeline.stages.benchmark.machine import this_machine
from pipeline.stages.finetune.params import FinetuneParams

DATA = ROOT.parent / "shared" / "datasets" / "imdb" / "train.parquet"
RECIPE = "news"  # its base and settings are measured
MAX_LENGTH = 256  # tokens
BATCH = 16
LEARNING_RATE = 1e-4
WARMUP = 0.1  # share of the steps in which the learning rate rises
SEED = 17
UNCOUNTED = 2  # first steps, which still allocate memory
HELD_OUT = 32  # rows of bertline's one evaluation, after the last timed step


class Clock(NullLog):
    """Log of a training that records when the counted steps began and ended."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def progress(self, done: int, total: int, note: str = "") -> None:
        import torch

        if done not in (UNCOUNTED, total):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # steps run asynchronously: wait until they end
        now = time.perf_counter()
        if done == UNCOUNTED:
            self.began = now
        else:
            self.ended = now


def _classifier(base: Path, labels: list[str]) -> Any:
    """Return the base with a new head and the base's own dropout."""
    from pipeline.models.heads import sequence
    from pipeline.models.heads.base import Start

    return sequence.HEAD.build(Start(base, str(base), labels, {}, base))


def plain_loop(work: Path, base: Path, labels: list[str], clock: Clock) -> None:
    """Train as in tutorials: every text padded to the longest, shuffled, fp32, default dropout."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from transformers import get_linear_schedule_with_warmup

    from pipeline.models.encoders import load_tokenizer

    rows = _train_rows(work)
    padded = load_tokenizer(work / "tokenizer", str(base)).pad(
        {"input_ids": rows["input_ids"][:]},
        padding="max_length",
        max_length=MAX_LENGTH,
        return_tensors="pt",
    )
    targets = torch.tensor(rows["labels"][:])
    loader = DataLoader(
        TensorDataset(padded["input_ids"], padded["attention_mask"], targets),
        batch_size=BATCH,
        shuffle=True,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _classifier(base, labels).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = get_linear_schedule_with_warmup(optimizer, int(WARMUP * len(loader)), len(loader))
    model.train()
    for step, batch in enumerate(loader, 1):
        ids, mask, truth = (part.to(device) for part in batch)
        optimizer.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=truth).loss.backward()
        optimizer.step()
        schedule.step()
        clock.progress(step, len(loader))


def trainer_best_flags(work: Path, base: Path, labels: list[str], clock: Clock) -> None:
    """Train with transformers.Trainer and its flags for speed, without evaluation or logging."""
    import torch
    from transformers import (
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from pipeline.models.encoders import load_tokenizer
    from pipeline.stages.finetune.trainer import device_and_precision

    class Tick(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.progress(state.global_step, state.max_steps)

    tokenizer = load_tokenizer(work / "tokenizer", str(base))
    with TemporaryDirectory(dir=work) as out:
        trainer = Trainer(
            model=_classifier(base, labels),
            args=TrainingArguments(
                output_dir=out,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH,
                learning_rate=LEARNING_RATE,
                warmup_steps=WARMUP,
                lr_scheduler_type="linear",
                train_sampling_strategy="group_by_length",
                optim="adamw_torch_fused",
                bf16=device_and_precision("auto")[1] == "bf16",
                use_cpu=not torch.cuda.is_available(),
                eval_strategy="no",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                report_to="none",
                seed=SEED,
            ),
            train_dataset=_train_rows(work),
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            callbacks=[Tick()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def bertline(work: Path, base: Path, labels: list[str], clock: Clock) -> None:
    """Train as the stage `finetune` does, with the settings of the recipe.

    The one evaluation and checkpoint come after the last step, when the clock has stopped.
    """
    from pipeline.stages.finetune import trainer

    params, task = _finetune_params(), tasks.get("classification")
    precision = trainer.device_and_precision(params.precision)[1]
    tokenizer = work / "tokenizer" / "tokenizer.json"
    with TemporaryDirectory(dir=work) as state:
        validator: Any = SimpleNamespace(
            classes=labels,
            encoder=task.encoder(tokenizer, MAX_LENGTH, "truncate", 0, None),
            prepared={},
            metrics=lambda _: {"accuracy": 0.0, "macro_f1": 0.0},  # after the last step
        )
        job = trainer.Job(params, task, base, str(base), work, validator, Path(state), precision)
        trainer.train(job, clock, _no_point)


CONTESTANTS: dict[str, Callable[[Path, Path, list[str], Clock], None]] = {
    "plain loop": plain_loop,
    "Trainer, its own best flags": trainer_best_flags,
    "bertline": bertline,
}
REFERENCE = "plain loop"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=2000, help="texts of the epoch (2000)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contestant (2)")
    parser.add_argument("--data", type=Path, default=DATA, help="file with columns text and label")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if args.rows <= UNCOUNTED * BATCH:
        parser.error(f"--rows must be more than {UNCOUNTED * BATCH}: the first steps do not count")
    if args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if not args.data.exists():
        print(f"bench/finetune.py is skipped: {args.data} does not exist (give --data FILE)")
        return 0
    with TemporaryDirectory(prefix="bench-") as folder:
        content = compare(args.data, args.rows, args.rounds, Path(folder))
    write(args.out, "finetune", content, markdown(content))
    return 0


def compare(data: Path, rows: int, rounds: int, work: Path) -> dict[str, Any]:
    """Measure the contestants in turns. Returns the content of finetune.json."""
    from pipeline.stages.finetune import trainer

    block = read_recipe(RECIPE, ROOT / "params.yaml")
    base = base_folder(parse(BaseParams, block["base"], f"recipes.{RECIPE}.base"))
    labels, mean_tokens = prepare(data, rows, base, work)
    threads = trainer.threads()
    speeds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    shares: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(1, rounds + 1):
        for name in list(CONTESTANTS)[:: 1 if number % 2 else -1]:  # each is first as often as last
            print(f"round {number} of {rounds}: {name} ...", end=" ", flush=True)
            others = Others()
            seconds = _alone(measure, name, work, base, labels, threads)
            shares[name].append(others.share())
            speeds[name].append((rows - UNCOUNTED * BATCH) / seconds)
            print(
                f"{speeds[name][-1]:.1f} samples/s, {seconds:.0f} s"
                f" (others' share of the processors {shares[name][-1]:.0%})",
                flush=True,
            )
    fastest = trainer.device_and_precision("auto")[1]
    own = trainer.device_and_precision(_finetune_params().precision)[1]
    precisions = dict(zip(CONTESTANTS, ("fp32", fastest, own), strict=True))
    reference = median(speeds[REFERENCE])
    return {
        "base": block["base"]["model"],
        "data": f"{data.parent.name}/{data.name}",
        "rows": rows,
        "max_length": MAX_LENGTH,
        "mean_tokens": round(mean_tokens, 1),
        "batch_size": BATCH,
        "threads": threads,
        "rounds": rounds,
        "contestants": [
            {
                "name": name,
                "precision": precisions[name],
                "samples_per_second": [round(speed, 2) for speed in speeds[name]],
                "median": round(median(speeds[name]), 2),
                "ratio": round(median(speeds[name]) / reference, 3),
                "others_share": [round(share, 3) for share in shares[name]],
            }
            for name in CONTESTANTS
        ],
        "machine": this_machine().model_dump(),
    }


def prepare(data: Path, rows: int, base: Path, work: Path) -> tuple[list[str], float]:
    """Draw rows and write their tokens as the stage `tokenize` does.

    Returns the labels and the mean number of tokens.
    """
    import pyarrow as pa

    from pipeline.models.encoders import load_tokenizer

    everything = [row for row in read_rows(str(data), ("text", "label")) if isinstance(row, Row)]
    if len(everything) < rows + HELD_OUT:
        raise SystemExit(f"error: {data} has {len(everything)} rows, {rows + HELD_OUT} are needed")
    drawn = random.Random(SEED).sample(everything, rows + HELD_OUT)
    labels = sorted({row.fields["label"] for row in drawn})
    tokenizer = load_tokenizer(base, str(base))
    tokenizer.save_pretrained(work / "tokenizer")
    texts = [row.fields["text"] for row in drawn]
    ids = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    tokens = pa.table(
        {
            "id": [str(i) for i in range(len(drawn))],
            "input_ids": pa.array(ids, pa.list_(pa.int32())),
            "labels": pa.array([labels.index(row.fields["label"]) for row in drawn], pa.int64()),
        }
    )
    (work / "tokens").mkdir()
    for split in SPLITS:
        part = tokens.slice(0, rows) if split == "train" else tokens.slice(rows)
        with (
            pa.OSFile(str(work / "tokens" / f"{split}.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, part.schema) as writer,
        ):
            writer.write_table(part)
    return labels, sum(len(row) for row in ids[:rows]) / rows


def measure(name: str, work: Path, base: Path, labels: list[str], threads: int) -> float:
    """Return the seconds of the counted steps. Runs in a separate process."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.set_seed(SEED)
    clock = Clock()
    CONTESTANTS[name](work, base, labels, clock)
    return clock.ended - clock.began


def markdown(content: dict[str, Any]) -> str:
    rows = [
        (
            each["name"],
            each["precision"],
            f"{each['median']:.1f} ({_span(each['samples_per_second'])})",
            f"{each['ratio']:.2f} ×",
        )
        for each in content["contestants"]
    ]
    header = ("contestant", "precision", "samples/s", f"ratio to the {REFERENCE}")
    rounds = f"{content['rounds']} round{'s' if content['rounds'] > 1 else ''}"
    shares = [share for each in content["contestants"] for share in each["others_share"]]
    return f"""## Training throughput

{table(header, rows)}

{content["rows"]:,} texts of `{content["data"]}` cut to {content["max_length"]} tokens (mean
{content["mean_tokens"]:.0f}), batch {content["batch_size"]}, base `{content["base"]}`,
{content["threads"]} threads. Median over {rounds} (lowest–highest) of training steps alone, without
the first {UNCOUNTED}; the ratio is that of the medians. {others_text(shares)}

{machine_text(Machine.model_validate(content["machine"]))}
"""


def _span(values: list[float]) -> str:
    return f"{min(values):.1f}–{max(values):.1f}"


def _alone(function: Callable[..., float], *arguments: Any) -> float:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process:
        return process.submit(function, *arguments).result()


def _finetune_params() -> FinetuneParams:
    """Return the recipe's settings, with fixed values for those that all contestants share."""
    block = read_recipe(RECIPE, ROOT / "params.yaml")["finetune"]
    shared = {
        "epochs": 1,
        "batch_size": BATCH,
        "gradient_accumulation": 1,
        "learning_rate": LEARNING_RATE,
        "evaluations_per_epoch": 1,  # after the last step, which the clock does not count
    }
    return parse(FinetuneParams, block | shared, f"recipes.{RECIPE}.finetune")


def _train_rows(work: Path) -> Any:
    from datasets import Dataset

    return Dataset.from_file(str(work / "tokens" / "train.arrow")).remove_columns("id")


def _no_point(step: int, values: object) -> None:
    """Drop a point of the curve, which bertline would send to MLflow."""


if __name__ == "__main__":
    sys.exit(main())
