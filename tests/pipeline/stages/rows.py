"""Parameters and tasks for the tests of ingest and validate: tasks with two texts, spans, several
classes, numbers and groups."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.stages.ingest.params import IngestParams
from pipeline.stages.validate.params import RULES, ValidateParams
from pipeline.tasks.classification import Classification

TOPICS = Classification()


class Pairs(Classification):
    two_texts = True


class Spans(Classification):
    """Task whose labels are [[start, end, type], ...]."""

    exclusive = False

    def label(self, cell: str, text: str, second: str) -> str:
        spans = sorted(json.loads(cell))
        if any(end > len(text) for _, end, _ in spans):
            raise ValueError(f"a span\nends behind the text: {cell}")
        return json.dumps(spans)

    def classes(self, label: str) -> Sequence[str]:
        return [kind for _, _, kind in json.loads(label)]


class Several(Classification):
    """Task whose labels are lists of classes."""

    exclusive = False

    def label(self, cell: str, text: str, second: str) -> str:
        return json.dumps(sorted(json.loads(cell)))

    def classes(self, label: str) -> Sequence[str]:
        return json.loads(label)


class Numbers(Classification):
    exclusive = False

    def label(self, cell: str, text: str, second: str) -> str:
        return str(float(cell))

    def classes(self, label: str) -> Sequence[str]:
        return ()

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return ["number"]


class Ranking(Pairs):
    by_group = True


def ingest_params(source: Any, **changes: Any) -> IngestParams:
    values: dict[str, Any] = {
        "source": source,
        "format": None,
        "header": None,
        "quotes": True,
        "encoding": "utf-8",
        "delimiter": None,
        "text": "text",
        "second": None,
        "label": "label",
        "separator": None,
        "offsets": "characters",
        "label_names": None,
        "group": None,
        "split": None,
        "carry": [],
        "validation_percent": 10.0,
        "test_percent": 20.0,
    }
    return IngestParams(**{**values, **changes})


def validate_params(**changes: Any) -> ValidateParams:
    """All rules at `fail` but for `changes`."""
    values: dict[str, Any] = {
        "labels": None,
        "max_characters": 100_000,
        "min_rows": 5,
        "max_quarantine_percent": 10.0,
        "near_duplicates": {"similarity": 0.8, "characters": 5},
        "rules": dict.fromkeys(RULES, "fail") | {k: v for k, v in changes.items() if k in RULES},
    }
    return ValidateParams(**values | {k: v for k, v in changes.items() if k not in RULES})
