"""Made-up verdicts, and changes to a toy's files before it is published."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline.promotion import champion as promotion
from pipeline.promotion.evidence import Bench, ask_and_decide
from pipeline.promotion.gate import GateParams
from pipeline.registry.ledger import Ledger
from pipeline.registry.records import Entry, Verdict
from pipeline.registry.versions import Registry
from tests.pipeline.conftest import Home

Publish = Callable[..., str]


def verdict(number: str, champion: str | None, decision: str = "promote", **facts: Any) -> Verdict:
    """A made-up verdict."""
    defaults: dict[str, Any] = {
        "model": "toy",
        "version": number,
        "decision": decision,
        "reason": f"reason {number}",
        "champion": champion,
        "epoch": 1,
        "question": 0,
        "level": 0.0,
        "rows": 100,
        "scores": {"accuracy": 0.9, "macro_f1": 0.9},
        "comparisons": [],
        "only_challenger_right": 0,
        "only_champion_right": 0,
        "guardrails": [],
        "rule": {},
        "unfit": False,
        "evidence": {"challenger": number, "champion": str(champion)},
    }
    return Verdict(**(defaults | facts))


def promote(registry: Registry, number: str) -> Entry | None:
    judged = verdict(number, promotion.rival_of(registry, "toy"))
    return promotion.decide(registry, judged, approved=True)


def history(registry: Registry) -> list[tuple[str, str, str | None]]:
    """Event, version and predecessor of each entry, which must be numbered and settled."""
    entries = Ledger(registry, "toy").written()
    assert [entry.number for _, entry, _ in entries] == list(range(1, len(entries) + 1))
    assert all(settled for _, _, settled in entries)
    return [(entry.event, entry.version, entry.previous) for _, entry, _ in entries]


def with_params(bench: Bench, **changes: object) -> Bench:
    return replace(bench, params=GateParams(**(dict(bench.params) | changes)))


def decided(bench: Bench, number: str) -> Verdict:
    return ask_and_decide(bench, number, approved=True)[0]


def spoiled_onnx(change: Callable[[str, np.ndarray], np.ndarray | None]) -> Callable[[Home], None]:
    """Return a function that changes initializers of every exported model by name."""

    def spoil(home: Home) -> None:
        from onnx import load, numpy_helper, save

        for path in home.export.rglob("*.onnx"):
            model = load(path)
            for tensor in model.graph.initializer:
                changed = change(tensor.name, numpy_helper.to_array(tensor).copy())
                if changed is not None:
                    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
            save(model, path)

    return spoil


def leaked(rows: int) -> Callable[[Home], None]:
    def spoil(home: Home) -> None:
        kept = set(pd.read_parquet(home.validate / "kept.parquet")["id"])
        read = pd.read_parquet(home.ingest / "rows.parquet")
        asked = read["id"].isin(kept) & (read["split"] == "test")
        read.loc[read.index[asked][:rows], "split"] = "train"
        read.to_parquet(home.ingest / "rows.parquet")

    return spoil
