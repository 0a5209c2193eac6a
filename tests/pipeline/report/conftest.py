"""Folders of made-up runs, for the report's tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.files import write_csv, write_json
from pipeline.core.records import (
    Export,
    Parity,
)
from tests.pipeline.report.records import (
    DIGEST,
    ONE_OF_SEVERAL,
    MakeHome,
    fit,
    intake,
    lengths,
    publication,
    runtimes,
    scores,
    validation,
    verdict,
)


@pytest.fixture
def make_home(tmp_path: Path) -> MakeHome:
    """Write a recipe's folder of records; what is given replaces the ordinary."""

    def make(
        labels: Sequence[str] = ("film", "money", "sport"),
        flagged: Sequence[Sequence[str]] = (),
        mistakes: Sequence[Sequence[str]] = (),
        samples: Sequence[Sequence[str]] = (),
        points: Sequence[Sequence[object]] = (),
        slices: Sequence[str] = ("characters: 1–20",),
        curves: tuple[Sequence[str], Sequence[Sequence[float]]] = (
            tuple(ONE_OF_SEVERAL),
            [(44, 0.3, 0.9, 0.89), (88, 0.2, 0.93, 0.92)],
        ),
        **records: Any,
    ) -> Path:
        home = tmp_path / "data" / "toy"
        files: dict[str, Any] = {
            "ingest/intake.json": intake(),
            "validate/validation.json": validation(labels),
            "tokenize/lengths.json": lengths(),
            "finetune/fit.json": fit(),
            "evaluate/scores.json": scores(labels, slices),
            "export/parity.json": Export(
                parities=[
                    Parity(
                        file="onnx/model_quantized.onnx",
                        sha256=DIGEST,
                        bytes=23_000_000,
                        max_difference=0.4,
                        flips=0.0,
                        texts=48,
                        fused={"Attention": 2},
                    )
                ]
            ),
            "benchmark/benchmark.json": runtimes(),
            "publish/publication.json": publication(),
            "gate/verdict.json": verdict(),
        }
        for name, record in files.items():
            record = records.get(Path(name).stem, record)
            if record is not None:
                record.write(home / name)
        tables = {
            "validate/report.csv": (
                "id,file,line,split,label,rule,policy,reason,excerpt",
                flagged or [("1", "a.csv", "7", "train", "film", "leak", "warn", "why", "a text")],
            ),
            "tokenize/lengths.csv": ("tokens,texts", [(0, 5), (10, 90), (20, 5)]),
            "finetune/training.csv": ("step,loss", [(i, 1 / (i + 1)) for i in range(88)]),
            "finetune/validation.csv": (
                ",".join(("step", "loss", *curves[0])),
                curves[1],
            ),
            "evaluate/calibration.csv": ("confidence,accuracy,rows", [(0.5, 0.4, 9), (0.9, 1, 90)]),
            "evaluate/mistakes.csv": (
                "id,truth,answer,confidence,file,line,excerpt",
                mistakes or [("1", "film", "money", "0.97", "a.csv", "9", "the worst one")],
            ),
            "evaluate/samples.csv": (
                "id,text,truth,answer",
                samples or [("1", "any text", "film", "film")],
            ),
            "evaluate/map.csv": ("id,x,y,class,right", points),
        }
        for name, (header, rows) in tables.items():
            write_csv(home / name, header.split(","), rows)
        write_json(home / "publish/lock.json", {})
        return home

    return make
