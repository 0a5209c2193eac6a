"""What stages hand on: each record is one small JSON file, read back into the same class.

No record holds a path of this machine. Clock readings stand only in `Benchmark` and `Publication`,
so that all others are equal wherever the work is done again.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pipeline.core import old_names
from pipeline.core.errors import UserError
from pipeline.core.files import write_text

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, content: Any) -> Any:
        names = old_names.FIELDS.get(cls.__name__)
        return old_names.renamed(content, names) if names and isinstance(content, dict) else content

    def write(self, path: Path) -> Self:
        write_text(path, self.model_dump_json(indent=2) + "\n")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        old = (Path(each) for each in old_names.earlier(path))
        try:
            if not path.exists():
                path = next((file for file in old if file.exists()), path)
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"{path}: no such file: run the stages before this one") from None
        except ValidationError as error:
            what = error.errors(include_url=False)[0]["msg"]
            raise UserError(f"{path}: {what}: delete it and run its stage again") from None


class Interval(Record):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Intake(Record):
    """What `ingest` read."""

    source: str
    rows: int
    undecodable: int
    by_split: dict[str, int]
    rows_sha256: str
    labelled: int = 0
    """Of the rows: answers that people gave the right label, from data/labels."""


class Validation(Record):
    """What `validate` found and kept."""

    rows: int
    kept: int
    quarantined: int
    by_rule: dict[str, int]
    """Rows that each rule flags; a row can be flagged by several."""
    policies: dict[str, str]
    quarantined_by_rule: dict[str, int]
    """Rows kept aside, each counted once, under the first rule that asked for it."""
    kept_by_split: dict[str, int]
    kept_by_label: dict[str, int]
    leaks: dict[str, int]
    """Rows whose exact or near copy sits in a more precious split, as 'train > test'."""
    share_lost_to_leaks: float
    labels: list[str]
    expectations: int
    expectations_met: int


class Lengths(Record):
    """Token lengths before truncation, special tokens included."""

    maximum: int
    long_text: Literal["truncate", "head_tail", "windows"]
    overlap: int
    masking: dict[str, Any] | None = None
    """Masking settings, of tasks that predict tokens."""
    truncated_share: dict[str, float]
    """Of rows longer than that, whatever long_text makes of them."""
    pieces: dict[str, int]
    """What the model reads: as many as rows, and more with windows."""
    quantiles: dict[str, int]
    """Of all splits: p5, p25, p50, p75, p95, p99, max."""
    rows: dict[str, int]
    vocabulary: int = 0
    """Tokens that the tokenizer knows."""
    coverage: float = 1.0
    """Share of the tokens of validation and test rows that are not the unknown one."""
    fertility: float = 0.0
    """Tokens a word of these rows; a Chinese character is a word."""


class Fit(Record):
    """What `finetune` did. Its curves stand in curves.csv."""

    key: str
    """Hash of everything that the weights depend on."""
    base: str
    parameters: int
    precision: str
    device: str
    steps: int
    epochs: float
    best_step: int
    best_metric: str
    best_value: float
    stopped_early: bool
    weights_sha256: str
    decision: dict[str, Any]
    """What the task tuned on validation rows besides the weights, such as thresholds."""
    trained: int
    """Parameters that were trained: fewer than there are with LoRA."""
    pooling: Literal["cls", "mean"] | None = None
    """What a head for whole texts reads, as its base was trained; None under a head for tokens."""


class SplitScores(Record):
    rows: int
    scores: dict[str, Interval]
    """The task's metrics, the higher the better; it is known by the first."""
    per_class: dict[str, dict[str, float]]
    """precision, recall, f1 and rows of each class; empty where the task has no classes."""
    averages: dict[str, dict[str, float]]
    """precision, recall and f1 of each way to average them."""
    more: dict[str, float]
    """Further numbers by name, such as areas under curves."""
    calibration_error: float | None
    """Where a row is right or wrong as a whole."""
    confusions: dict[str, dict[str, int]]
    """truth -> answer -> how often; "" for nothing."""
    signatures: dict[str, str] = {}
    """How metrics were computed, where people quote that beside them."""


class Baseline(Record):
    name: str
    scores: dict[str, Interval]
    only_model_right: int
    only_baseline_right: int
    """Rows that just this one of the two has right, or better where no row is simply right."""
    p_model_worse: float
    """One-sided, of those rows by the sign test: how likely so bad a result is if the model is no
    worse (the exact McNemar test, where rows are right or wrong). Where rows have groups, of the
    groups in which one of the two is better."""


class Slice(Record):
    name: str
    rows: int
    score: Interval
    """Of the task's first metric."""


class Behaviour(Record):
    """How one behaviour test of a suite came out."""

    name: str
    suite: str
    kind: str
    cases: int
    """0 where it draws on test rows and its change touches none of them."""
    failed: int
    share: float
    """Of its cases that failed."""
    allowed: float
    """The share that may."""
    examples: list[dict[str, str]]
    """A few failing cases, as excerpts: text, changed (empty where nothing is), expected,
    answered."""

    @property
    def passed(self) -> bool:
        return self.share <= self.allowed


class Scores(Record):
    task: str
    labels: list[str]
    validation: SplitScores
    test: SplitScores
    baselines: list[Baseline]
    slices: list[Slice]
    behaviour: list[Behaviour] = []

    @property
    def behaviour_failed(self) -> float:
        """Share of the behaviour tests that failed, 0 where there are none."""
        return sum(not test.passed for test in self.behaviour) / max(len(self.behaviour), 1)

    @property
    def main(self) -> str:
        """The metric that the task is known by."""
        return next(iter(self.test.scores))


class Parity(Record):
    """How far an exported file answers from PyTorch, over real texts."""

    file: str
    sha256: str
    bytes: int
    max_difference: float
    """Of logits, over all texts and shapes tried."""
    flips: float
    """Share of rows whose answer changed."""
    texts: int
    fused: dict[str, int]


class Export(Record):
    parities: list[Parity]


class Timing(Record):
    batch: int
    length: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    texts_per_second: float


class Candidate(Record):
    """One runtime that was measured."""

    name: str
    file: str | None
    bytes: int
    load_ms: float
    peak_memory_mb: float
    provider: str
    single: Timing
    """Batch 1 over real texts at their own lengths; `length` is their median."""
    grid: list[Timing]
    speedup: float
    """Median latency of the reference over this candidate's, batch 1, real texts."""
    validation: dict[str, float]
    validation_flips: float
    test: dict[str, float]
    """The task's metrics, as this runtime answers."""
    test_flips: float
    """Share of rows that are answered otherwise than by the reference."""
    verdict: str
    """Why this candidate was or was not picked."""


class Machine(Record):
    processor: str
    cores: int
    memory_gb: float
    gpu: str | None
    features: list[str]
    system: str
    versions: dict[str, str]


class Benchmark(Record):
    """Runtimes measured side by side on this machine."""

    reference: str
    picked: str
    threads: int
    candidates: list[Candidate]
    machine: Machine

    def candidate(self, name: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.name == name)


class Publication(Record):
    """Where a line's result stands in MLflow."""

    model: str
    version: str
    key: str
    """Lineage key and runtime: what makes a version one and the same."""
    lineage: str
    run: str
    experiment: str
    tracking: str
