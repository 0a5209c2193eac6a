"""Benchmark of threads that wait: training steps and answers, alone and beside a busy program.

    python bench/neighbours.py                          # after `make demo`, on an idle machine
    python bench/neighbours.py --rounds 1 --seconds 2   # a quick look

The threads of PyTorch and of ONNX Runtime wait for each other many times in a step. By default they
spin meanwhile, and so keep a processor from the thread that they wait for if another program is
running. Each setting of that waiting works in a process of its own; they take turns, each once
alone and once beside a program that keeps one processor busy. A step of training is one of MiniLM's
size with 16 texts of 64 tokens; answers are those of the recipe's int8 model, to one text and to
eight. Writes neighbours.json and neighbours.md.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from report import RESULTS, ROOT, Others, machine_text, others_text, table, write

LENGTH, TEXTS = 64, 16  # tokens of a text, texts of a step of training
WARM_UP = 3  # calls
MODEL = ROOT / "data" / "news" / "export" / "onnx" / "model_quantized.onnx"
GOMP = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
TRAINING: dict[str, dict[str, str]] = {
    "default": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
SPINNING = "session.intra_op.allow_spinning"
DURATION = "session.intra_op.spin_duration_us"
ANSWERS: dict[str, dict[str, str]] = {
    "default": {},
    "spinning 50 µs": {DURATION: "50"},
    "spinning 500 µs": {DURATION: "500"},
    "no spinning": {SPINNING: "0"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each setting (5)")
    parser.add_argument("--seconds", type=float, default=4, help="of a turn (4)")
    parser.add_argument("--model", type=Path, default=MODEL, help="int8 model (of the demo)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if not args.model.is_file():
        print(f"error: {args.model}: no such file: run make demo first", file=sys.stderr)
        return 2
    works: dict[tuple[str, str], tuple[Callable[..., float], tuple[object, ...], dict[str, str]]]
    works = {("training", name): (train, (), own) for name, own in TRAINING.items()}
    for texts in (1, 8):
        for name, entries in ANSWERS.items():
            works[f"answers, batch {texts}", name] = (answer, (args.model, texts, entries), {})
    rates: dict[tuple[str, str], dict[bool, list[float]]]
    rates = {key: {False: [], True: []} for key in works}
    shares = []
    for number in range(args.rounds):
        for key, (work, given, variables) in works.items():
            for beside in (False, True):
                others = Others()
                with neighbour(beside):
                    rate = in_process(work, (*given, args.seconds), variables)
                if not beside:
                    shares.append(others.share())
                rates[key][beside].append(rate)
                told = "beside a busy program" if beside else "alone"
                print(f"{number + 1}: {', '.join(key)}, {told}: {rate:.1f} a second", flush=True)
    report(rates, shares, args.out)
    return 0


@contextmanager
def neighbour(there: bool) -> Iterator[None]:
    """Keep one processor busy during a block, if it is to be."""
    process = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    if there:
        process.start()
    try:
        yield
    finally:
        if there:
            process.kill()
            process.join()


def spin() -> None:
    while True:
        pass


def in_process(
    work: Callable[..., float], own: tuple[object, ...], variables: Mapping[str, str]
) -> float:
    """Return the result of a call in a new process with some environment variables."""
    before = {name: os.environ.pop(name, None) for name in GOMP}
    os.environ.update(variables)
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(work, *own).result()
    finally:
        for name in GOMP:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def train(seconds: float) -> float:
    """Return the steps of training in a second."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(1000, 20_000, (TEXTS, LENGTH))
    labels = torch.randint(2, (TEXTS,))

    def step() -> None:
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return rate(step, seconds)


def answer(path: Path, texts: int, entries: Mapping[str, str], seconds: float) -> float:
    """Return the batches of texts in a second that an ONNX model answers."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    ids = draw.integers(1000, 20_000, (texts, LENGTH))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if "token_type_ids" in {each.name for each in session.get_inputs()}:
        inputs["token_type_ids"] = np.zeros_like(ids)
    return rate(lambda: session.run(None, inputs), seconds)


def rate(call: Callable[[], object], seconds: float) -> float:
    """Return how often a function can be called in a second."""
    for _ in range(WARM_UP):
        call()
    calls, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        call()
        calls += 1
    return calls / spent


def report(
    rates: Mapping[tuple[str, str], Mapping[bool, list[float]]], shares: list[float], out: Path
) -> None:
    """Write the rates, and each setting's ratio to the default alone."""
    from pipeline.stages.benchmark.machine import this_machine

    lines, content = [], []
    for (work, setting), found in rates.items():
        base = median(rates[work, "default"][False])
        alone, beside = (median(found[key]) for key in (False, True))
        cells = (f"{alone:.1f}", f"{alone / base:.2f}", f"{beside:.1f}", f"{beside / alone:.2f}")
        lines.append((work, setting, *cells))
        content.append(
            {"work": work, "setting": setting, "alone": found[False], "beside": found[True]}
        )
    header = ("work", "waiting", "a second alone", "of default", "beside one", "of alone")
    machine = this_machine()
    markdown = "\n\n".join([table(header, lines), others_text(shares), machine_text(machine)])
    record = {"rates": content, "others": shares, "machine": machine.model_dump()}
    write(out, "neighbours", record, f"{markdown}\n")


if __name__ == "__main__":
    sys.exit(main())
