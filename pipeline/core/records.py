"""Records that stages write: each is one small JSON file, read back into the same class.

No record holds a path of this machine. Only `Benchmark` and `Publication` hold timings, so that all
other records are reproducible.
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
    def _rename_old_fields(cls, content: Any) -> Any:
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
    """Value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Intake(Record):
    """Record of `ingest`."""

    source: str
    rows: int
    undecodable: int
    by_split: dict[str, int]
    rows_sha256: str
    labelled: int = 0
    """Number of these rows that come from data/labels: feedback that people labelled."""
    doubts: int = 0
    """Number of rows whose labels are well formed and doubtful, such as spans that begin inside a
    word; they are kept."""
    first_doubt: str = ""
    """File, line and reason of the first of them."""

    def doubtful(self) -> str:
        """Return a sentence on the doubtful labels."""
        labels = "1 label is" if self.doubts == 1 else f"{self.doubts:,} labels are"
        return f"{labels} doubtful, the first {self.first_doubt}"


class Validation(Record):
    """Record of `validate`."""

    rows: int
    kept: int
    quarantined: int
    by_rule: dict[str, int]
    """Number of rows that each rule flags; a row can be flagged by several."""
    policies: dict[str, str]
    quarantined_by_rule: dict[str, int]
    """Number of quarantined rows, each counted once, under the first rule that quarantines it."""
    kept_by_split: dict[str, int]
    kept_by_label: dict[str, int]
    leaks: dict[str, int]
    """Number of rows with an exact or near copy in a more precious split, as 'train > test'."""
    share_lost_to_leaks: float
    labels: list[str]
    expectations: int
    expectations_met: int
    notes: list[str] = []
    """Sentences on classes that are likely mistakes, such as two names that look alike."""


class Lengths(Record):
    """Token lengths before truncation, special tokens included."""

    maximum: int
    long_text: Literal["truncate", "head_tail", "windows"]
    overlap: int
    masking: dict[str, Any] | None = None
    """Masking settings, of tasks that predict tokens."""
    truncated_share: dict[str, float]
    """Share of rows longer than `maximum`, whatever `long_text` does with them."""
    pieces: dict[str, int]
    """Number of model inputs: as many as rows, and more with windows."""
    quantiles: dict[str, int]
    """Quantiles over all splits: p5, p25, p50, p75, p95, p99, max."""
    rows: dict[str, int]
    vocabulary: int = 0
    """Number of tokens in the tokenizer's vocabulary."""
    coverage: float = 1.0
    """Share of the tokens of validation and test rows that are not the unknown token."""
    fertility: float = 0.0
    """Tokens per word of these rows; a Chinese character counts as a word."""


class Fit(Record):
    """Record of `finetune`; its curves are in training.csv and validation.csv."""

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
    """Values that the task tuned on validation rows besides the weights, such as thresholds."""
    trained: int
    """Number of trained parameters: fewer than `parameters` with LoRA."""
    pooling: Literal["cls", "mean"] | None = None
    """Pooling under a head for whole texts, as the base was trained; None under a token head."""


class SplitScores(Record):
    rows: int
    scores: dict[str, Interval]
    """Metrics of the task, higher is better; the first is its main metric."""
    per_class: dict[str, dict[str, float]]
    """Scores of each class: precision, recall, f1 and rows; empty if the task has no classes."""
    averages: dict[str, dict[str, float]]
    """Scores of each way to average: precision, recall and f1."""
    more: dict[str, float]
    """Further numbers by name, such as areas under curves."""
    calibration_error: float | None
    """Expected calibration error; None where a row can be partly right."""
    confusions: dict[str, dict[str, int]]
    """Counts by truth and answer; "" stands for nothing."""
    signatures: dict[str, str] = {}
    """Signatures of metrics that are quoted with one, such as sacreBLEU's."""


class Baseline(Record):
    name: str
    scores: dict[str, Interval]
    only_model_right: int
    only_baseline_right: int
    """Number of rows that only this one of the two has right, or better where scores are graded."""
    p_model_worse: float
    """One-sided p-value of the sign test over these rows: the chance of a result so bad if the
    model is not worse (the exact McNemar test where rows are right or wrong). If rows have groups,
    the test is over the groups in which one of the two is better."""


class Slice(Record):
    name: str
    rows: int
    score: Interval
    """Score in the task's main metric."""


class Behaviour(Record):
    """Result of one behaviour test of a suite."""

    name: str
    suite: str
    kind: str
    cases: int
    """Number of cases; 0 if it draws on test rows and its change applies to none of them."""
    failed: int
    share: float
    """Share of its cases that failed."""
    allowed: float
    """Share of its cases that may fail."""
    examples: list[dict[str, str]]
    """Some failed cases as excerpts: text, changed (empty if nothing is), expected, answered."""

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
        """Share of the behaviour tests that failed, 0 if there are none."""
        return sum(not test.passed for test in self.behaviour) / max(len(self.behaviour), 1)

    @property
    def main(self) -> str:
        """Name of the task's main metric."""
        return next(iter(self.test.scores))


class Parity(Record):
    """Difference between the answers of an exported file and of PyTorch, over real texts."""

    file: str
    sha256: str
    bytes: int
    max_difference: float
    """Largest difference of logits, over all texts and shapes tried."""
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
    """Measurements of one runtime candidate."""

    name: str
    file: str | None
    bytes: int
    load_ms: float
    peak_memory_mb: float
    provider: str
    single: Timing
    """Timing at batch 1 over real texts at their own lengths; `length` is their median."""
    turns: list[float] = []
    """Median milliseconds of each turn of these timings, in the order of the rounds, in which each
    candidate had one turn."""
    grid: list[Timing]
    speedup: float
    """Median latency of the reference over this candidate's, batch 1, real texts."""
    validation: dict[str, float]
    validation_flips: float
    test: dict[str, float]
    """Metrics of the task with the answers of this runtime."""
    test_flips: float
    """Share of rows whose answer differs from the reference's."""
    verdict: str
    """Reason why this candidate was or was not picked."""


class Machine(Record):
    processor: str
    cores: int
    memory_gb: float
    gpu: str | None
    features: list[str]
    system: str
    versions: dict[str, str]


class Benchmark(Record):
    """Measurements of all runtime candidates on this machine."""

    reference: str
    picked: str
    threads: int
    candidates: list[Candidate]
    machine: Machine
    neighbours: float = 0.0
    """Median share of the processors that other programs took during the timings at batch 1."""

    def candidate(self, name: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.name == name)


class Publication(Record):
    """Place of a registered version in MLflow."""

    model: str
    version: str
    key: str
    """Identity of the version: the lineage key and the runtime."""
    lineage: str
    run: str
    experiment: str
    tracking: str
