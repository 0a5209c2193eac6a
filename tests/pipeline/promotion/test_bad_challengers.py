"""Challengers that must never be promoted."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.promotion.evidence import Bench
from tests.pipeline.conftest import Home
from tests.pipeline.promotion.toys import (
    Publish,
    decided,
    leaked,
    spoiled_onnx,
    with_params,
)


def other_labels(names: list[str]) -> Callable[[Home], None]:
    def spoil(home: Home) -> None:
        path = home.export / "serving.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"classes": names}))

    return spoil


def other_tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Home], None]:
    def spoil(home: Home) -> None:
        path = home.export / "tokenizer.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def noisy(seed: int) -> Callable[[Home], None]:
    """Replace the weights by noise, like a broken quantization."""
    random = np.random.default_rng(seed)

    def change(name: str, values: np.ndarray) -> np.ndarray | None:
        if values.ndim != 2:
            return None
        if values.dtype == np.float32:
            return np.asarray(random.normal(size=values.shape), dtype=np.float32)
        return np.asarray(random.permuted(values), dtype=values.dtype)

    return spoiled_onnx(change)


def not_numbers(value: float, place: int | None) -> Callable[[Home], None]:
    def change(name: str, values: np.ndarray) -> np.ndarray | None:
        if not name.endswith("classifier.bias"):
            return None
        values[place if place is not None else slice(None)] = value
        return values

    return spoiled_onnx(change)


def dropped(content: dict[str, Any], word: str) -> None:
    del content["model"]["vocab"][word]


BAD: dict[str, tuple[str, list[Callable[[Home], None]]]] = {
    "labels changed": (
        "other labels than the rows have",
        [
            other_labels(["film", "money", "games"]),
            other_labels(["sport", "money", "film"]),
            other_labels(["money", "film", "sport"]),
            other_labels(["Film", "Money", "Sport"]),
            other_labels(["x", "y", "z"]),
        ],
    ),
    "tokenizer changed": (
        "another tokenizer.json",
        [
            other_tokenizer(lambda content: content.update(normalizer=None)),
            other_tokenizer(lambda content: dropped(content, "goal")),
            other_tokenizer(lambda content: dropped(content, "oscar")),
            other_tokenizer(lambda content: content["model"].update(unk_token="[PAD]")),
            other_tokenizer(lambda content: content.update(pre_tokenizer={"type": "Whitespace"})),
        ],
    ),
    "leaked rows": ("it was trained on", [leaked(rows) for rows in (1, 2, 5, 10, 10_000)]),
    "quantized worse": ("", [noisy(seed) for seed in range(5)]),
    "not numbers": (
        "",  # not numbers; or no answer, where NumPy's warnings are errors
        [
            not_numbers(np.nan, None),
            not_numbers(np.nan, 0),
            not_numbers(np.nan, 2),
            not_numbers(np.inf, 1),
            not_numbers(np.inf, None),
        ],
    ),
}


@pytest.mark.prove
def test_of_thirty_bad_challengers_none_is_promoted(bench: Bench, published: Publish) -> None:
    bench = with_params(bench, floors={"accuracy": 0.0})
    first = published()
    decided(bench, first)
    reasons: list[str] = []
    for kind, (told, spoils) in BAD.items():
        for place, spoil in enumerate(spoils):
            verdict = decided(bench, published(f"{kind} {place}", spoil))
            reasons.append(f"{kind}: {verdict.decision}: {verdict.reason}")
            assert verdict.decision != "promote", reasons[-1]
            assert told in verdict.reason, reasons[-1]
    # without their latency these would be promoted as the first champion
    bench.registry.client.delete_model_version("toy", first)
    for place in range(5):
        guardrails = bench.params.guardrails.model_copy(update={"latency_ms": 1e-3 * (place + 1)})
        late = with_params(bench, guardrails=guardrails)
        verdict = decided(late, published(f"late {place}"))
        reasons.append(f"late: {verdict.decision}: {verdict.reason}")
        assert verdict.decision == "reject", reasons[-1]
        assert "guardrail latency: " in verdict.reason, reasons[-1]
    print("\n".join(reasons))
    assert len(reasons) == 30
    assert bench.registry.champion("toy") is None
