"""Records of all earlier stages, which describe a version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.core.records import (
    Benchmark,
    Candidate,
    Export,
    Fit,
    Intake,
    Lengths,
    Scores,
    Validation,
)


@dataclass(frozen=True)
class Records:
    """Records of the stages from ingest to benchmark."""

    intake: Intake
    validation: Validation
    lengths: Lengths
    fit: Fit
    scores: Scores
    exported: Export
    benchmark: Benchmark
    files: Sequence[Path] = ()
    """Files that they were read from, except that of validate."""

    @classmethod
    def read(cls, *folders: Path) -> Self:
        """Read the records from the stages' folders, in order from ingest to benchmark.

        Raises UserError for a missing or broken record.
        """
        names = (
            *("intake.json", "validation.json", "lengths.json", "fit.json", "scores.json"),
            *("parity.json", "benchmark.json"),
        )
        files = [folder / name for folder, name in zip(folders, names, strict=True)]
        intake, validation, lengths, fit, scores, exported, benchmark = files
        return cls(
            Intake.read(intake),
            Validation.read(validation),
            Lengths.read(lengths),
            Fit.read(fit),
            Scores.read(scores),
            Export.read(exported),
            Benchmark.read(benchmark),
            [file for file in files if file != validation],
        )

    @property
    def served(self) -> Candidate:
        """Candidate that was picked to serve."""
        return self.benchmark.candidate(self.benchmark.picked)
