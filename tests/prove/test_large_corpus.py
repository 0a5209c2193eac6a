"""A corpus four times as large takes no more memory: rows stream from the source to the tokens."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest

from pipeline import recipe as recipes
from pipeline.core.config import parse
from pipeline.stages.benchmark.machine import peak_memory_mb
from tests.pipeline.conftest import Home, up_to_tokens
from tests.pipeline.tasks.test_contract import block_of

pytestmark = pytest.mark.prove
MB = 1024 * 1024


def written(path: Path, megabytes: int) -> Path:
    """Documents of words that are drawn by how common words are, about 8 kB each."""
    random = Random(megabytes)
    letters = "etaoinshrdlucmfw"
    words = ["".join(random.choices(letters, k=2 + n % 9)) for n in range(20_000)]
    weights = [1 / (n + 10) for n in range(len(words))]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * MB:
            drawn = random.choices(words, weights, k=1_400)
            sentences = (" ".join(drawn[start : start + 14]) for start in range(0, 1_400, 14))
            file.write(json.dumps({"text": ". ".join(sentences)}) + "\n")
    return path


def peak(folder: Path, base: Path, megabytes: int) -> float:
    """Megabytes of memory that the stages up to tokens took, in a process of their own."""
    source = written(folder / f"{megabytes}.jsonl", megabytes)
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        return alone.submit(_up_to_tokens, folder / str(megabytes), base, source).result()


def _up_to_tokens(folder: Path, base: Path, source: Path) -> float:
    block = block_of("pretraining", base, source)
    block["ingest"].update({"validation_percent": 2, "test_percent": 2})
    up_to_tokens(Home(folder, parse(recipes.Recipe, block, "recipes.toy")))
    return peak_memory_mb()


def test_memory_does_not_grow_with_the_corpus(tiny_base: Path, tmp_path: Path) -> None:
    small, large = (peak(tmp_path, tiny_base, megabytes) for megabytes in (50, 200))
    print(f"50 MB: {small:.0f} MB of memory; 200 MB: {large:.0f} MB")
    assert large - small < 0.25 * 150
