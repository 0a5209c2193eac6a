"""Benchmark of embedding against SentenceTransformer, in texts per second, and of a search.

    python bench/embeddings.py
    python bench/embeddings.py --rows 200 --chunk 50 --asked 20 --out /tmp/bench    # a quick look

The same texts go through `SentenceTransformer.encode` and bertline's ONNX graphs (fp32, int8),
chunk by chunk in turns, in one process, on the same number of threads. Each sorts a chunk by length
and makes its own batches. The base is that of the recipe `news`, at its own 256 tokens. Similarity
is the cosine of the two embeddings of each text. Memory is the peak of the command `bertline
embed`, over half of the rows and over all: with 25,000 rows, both are more than it holds at once.
The time of a search is that of one query with everything loaded. Writes embeddings.json and
embeddings.md.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from report import RESULTS, ROOT, Others, machine_text, others_text, table, write

from flows.cli.embeddings import MODEL
from pipeline.core.locations import locate
from pipeline.core.log import Console
from pipeline.core.records import Machine
from pipeline.embeddings.embedder import Embedder, Extraction, Options, Runtime, settled
from pipeline.embeddings.extract import Rows
from pipeline.embeddings.search import answers_of_rows
from pipeline.stages.benchmark.machine import this_machine

DATA = ROOT.parent / "shared" / "datasets"
REFERENCE = "SentenceTransformer"
OURS: dict[str, Runtime] = {"bertline fp32": "onnx-fp32", "bertline int8": "onnx-int8"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=25_000, help="texts to embed (25,000)")
    parser.add_argument("--chunk", type=int, default=5_000, help="texts of a turn (5,000)")
    parser.add_argument("--asked", type=int, default=1_000, help="queries of the search (1,000)")
    parser.add_argument("--data", type=Path, default=DATA / "imdb" / "train.parquet")
    parser.add_argument(
        "--answers", type=Path, default=DATA / "banking77" / "train.csv", help="rows to search"
    )
    parser.add_argument(
        "--queries", type=Path, default=DATA / "banking77" / "test.csv", help="queries to search"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    for file in (args.data, args.answers, args.queries):
        if not file.exists():
            print(f"bench/embeddings.py is skipped: {file} does not exist (name another file)")
            return 0
    with TemporaryDirectory(prefix="bench-") as folder:
        content = measure(args, Path(folder))
    write(args.out, "embeddings", content, markdown(content))
    return 0


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Return the content of embeddings.json."""
    import torch

    folder, threads = locate(MODEL), torch.get_num_threads()
    embedders = {
        name: Embedder(extraction(folder, runtime), folder, work, threads=threads)
        for name, runtime in OURS.items()
    }
    texts = texts_of(args.data)[: args.rows]
    machine = this_machine()
    more = {name: version(name) for name in ("sentence-transformers", "usearch")}
    return {
        "model": MODEL,
        "data": f"{args.data.parent.name}/{args.data.name}",
        "max_length": extraction(folder, "onnx-fp32").max_length,
        "rows": len(texts),
        "chunk": args.chunk,
        "threads": threads,
        **rates(texts, args.chunk, folder, embedders),
        "memory_mb": {name: memory(texts, runtime, work) for name, runtime in OURS.items()},
        "answers": f"{args.answers.parent.name}/{args.answers.name}",
        "search_ms": {
            name: latencies(args, embedder, work) for name, embedder in embedders.items()
        },
        "machine": machine.model_copy(update={"versions": machine.versions | more}).model_dump(),
    }


def extraction(folder: Path, runtime: Runtime) -> Extraction:
    """Return the settings that SentenceTransformer reads from that folder."""
    return settled(MODEL, folder, Options(runtime=runtime))


def texts_of(file: Path) -> list[str]:
    return [row.fields["text"] for row in Rows(str(file)).used()]


def rates(
    texts: list[str], chunk: int, folder: Path, embedders: dict[str, Embedder]
) -> dict[str, Any]:
    """Return texts per second of each embedder, and the cosines to the reference's embeddings."""
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(folder))
    contestants: dict[str, Callable[[list[str]], Any]] = {
        REFERENCE: partial(reference.encode, show_progress_bar=False)
    }
    for name, embedder in embedders.items():
        contestants[name] = partial(embed, embedder)
    for encode in contestants.values():
        encode(texts[: min(chunk, 64)])  # warm up: the first call allocates memory
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    cosines: dict[str, list[float]] = {name: [] for name in embedders}
    others, log = Others(), Console("bench")
    names = list(contestants)
    for number, start in enumerate(range(0, len(texts), chunk)):
        part, found = texts[start : start + chunk], {}
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:  # each is first as often as last
            began = time.perf_counter()
            found[name] = contestants[name](part)
            speeds[name].append(len(part) / (time.perf_counter() - began))
        for name, own in cosines.items():
            own.extend((found[name] * found[REFERENCE]).sum(1).tolist())
        log.progress(start + len(part), len(texts))
    return {
        "others_share": round(others.share(), 3),
        "texts_per_second": {name: round(median(own), 2) for name, own in speeds.items()},
        "ratio": {
            name: spread([a / b for a, b in zip(speeds[name], speeds[REFERENCE], strict=True)])
            for name in embedders
        },
        "cosine": {
            name: {"mean": float(np.mean(own)), "lowest": float(np.min(own))}
            for name, own in cosines.items()
        },
    }


def embed(embedder: Embedder, texts: list[str]) -> Any:
    return np.stack(embedder.embeddings(embedder.tokens(texts)))


def spread(ratios: list[float]) -> dict[str, float]:
    return {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def memory(texts: list[str], runtime: Runtime, work: Path) -> dict[str, float]:
    """Return the peak memory of `bertline embed` in MB by rows, each in a separate process."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    code = (
        "import pathlib, re, sys; from flows.cli.main import main; code = main(sys.argv[1:]);"
        "status = pathlib.Path('/proc/self/status').read_text();"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]); sys.exit(code)"
    )
    home = work / f"memory-{runtime}"
    home.mkdir()
    peaks = {}
    for rows in (1, len(texts) // 2 or 1, len(texts)):  # the first run exports the graph
        pq.write_table(pa.table({"text": texts[:rows]}), home / "rows.parquet")
        command = ["embed", "rows.parquet", "--out", f"{rows}.parquet", "--runtime", runtime]
        done = subprocess.run(
            [sys.executable, "-c", code, *command],
            cwd=home,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        peaks[str(rows)] = round(int(done.stdout.split()[-1]) / 1024, 1)
    return dict(list(peaks.items())[1:])


def latencies(args: argparse.Namespace, embedder: Embedder, work: Path) -> dict[str, float]:
    """Return the milliseconds from a query to its five nearest rows."""
    answers = answers_of_rows(
        Rows(str(args.answers)),
        embedder.extraction,
        lambda: embedder,
        (),
        work,
        log=Console("bench"),
    )
    queries = texts_of(args.queries)[: args.asked]
    answers.nearest(queries[:1], 5)
    milliseconds = []
    for query in queries:
        began = time.perf_counter()
        answers.nearest([query], 5)
        milliseconds.append(1000 * (time.perf_counter() - began))
    p95 = quantiles(milliseconds, n=20)[-1]
    return {"rows": answers.rows, "queries": len(queries), "p50": median(milliseconds), "p95": p95}


def markdown(content: dict[str, Any]) -> str:
    speeds = [(REFERENCE, f"{content['texts_per_second'][REFERENCE]:.1f}", "", "", "")]
    for name in OURS:
        ratio, cosine = content["ratio"][name], content["cosine"][name]
        speeds.append(
            (
                name,
                f"{content['texts_per_second'][name]:.1f}",
                f"{ratio['median']:.2f} × ({ratio['lowest']:.2f}–{ratio['highest']:.2f})",
                f"{cosine['mean']:.5f}",
                f"{cosine['lowest']:.5f}",
            )
        )
    header = ("embedder", "texts/s", f"ratio to {REFERENCE}", "mean cosine to it", "lowest")
    sizes = list(content["memory_mb"]["bertline fp32"])
    peaks = [
        (name, *(f"{own[rows]:.0f} MB" for rows in sizes))
        for name, own in content["memory_mb"].items()
    ]
    searches = [
        (name, f"{own['p50']:.1f} ms", f"{own['p95']:.1f} ms")
        for name, own in content["search_ms"].items()
    ]
    rows = next(iter(content["search_ms"].values()))["rows"]
    return f"""## Embeddings

{table(header, speeds)}

{content["rows"]:,} texts of `{content["data"]}` cut to {content["max_length"]} tokens, base
`{content["model"]}`, {content["threads"]} threads, in turns of {content["chunk"]:,} texts. The
ratio is the median over turns (lowest–highest). {others_text([content["others_share"]])}

{table(("`bertline embed`", *(f"{int(rows):,} rows" for rows in sizes)), peaks)}

The most memory that the command held.

{table(("one query, warm", "p50", "p95"), searches)}

The five nearest of {rows:,} rows of `{content["answers"]}`.

{machine_text(Machine.model_validate(content["machine"]))}
"""


if __name__ == "__main__":
    sys.exit(main())
