"""What stages hand on: each record is one small JSON file, read back into the same class.

No record holds a path of this machine. Clock readings stand only in `Ladder` and `Publication`,
so that all others are equal wherever the work is done again.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UserError
from pipeline.files import write_text

Split = Literal["train", "validation", "test"]
Decision = Literal["promote", "hold", "reject"]
Event = Literal[
    "promote",  # the gate said so, and a person where the recipe asks one
    "override",  # a person against the gate
    "rebaseline",  # a person, where the labels have changed and nothing can be compared
    "rollback",  # a person, to the champion before
    "by hand",  # in MLflow's own pages, past all of this
    "await",  # the gate said promote, a person has yet to
    "hold",
    "reject",
]
MOVES: tuple[Event, ...] = ("promote", "override", "rebaseline", "rollback", "by hand")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def write(self, path: Path) -> Self:
        write_text(path, self.model_dump_json(indent=2) + "\n")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        try:
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
    truncated_share: dict[str, float]
    quantiles: dict[str, int]
    """Of all splits: p5, p25, p50, p75, p95, p99, max."""
    rows: dict[str, int]


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


class SplitScores(Record):
    rows: int
    accuracy: Interval
    macro_f1: Interval
    micro: dict[str, float]
    macro: dict[str, float]
    weighted: dict[str, float]
    """precision, recall and f1 of each average."""
    per_class: dict[str, dict[str, float]]
    roc_auc: float | None
    """One class against the rest, macro; absent where a class has no row."""
    pr_auc: float | None
    calibration_error: float
    confusion: list[list[int]]
    """Rows are the true labels, columns the answers, in the order of `labels`."""


class Baseline(Record):
    name: str
    accuracy: Interval
    macro_f1: Interval
    only_model_right: int
    only_baseline_right: int
    p_model_worse: float
    """Exact one-sided McNemar: how likely so bad a result is if the model is no worse."""


class Slice(Record):
    name: str
    rows: int
    accuracy: Interval


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


class Parity(Record):
    """How far an exported file answers from PyTorch, over real texts."""

    file: str
    sha256: str
    bytes: int
    largest_difference: float
    """Of logits, over all texts and shapes tried."""
    flips: float
    """Share of texts whose answer changed."""
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


class Rung(Record):
    """One runtime on the ladder."""

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
    """Median latency of the reference over this rung's, batch 1, real texts."""
    validation_accuracy: float
    validation_macro_f1: float
    validation_flips: float
    test_accuracy: float
    test_macro_f1: float
    test_flips: float
    verdict: str
    """Why this rung was or was not picked."""


class Machine(Record):
    processor: str
    cores: int
    memory_gb: float
    gpu: str | None
    features: list[str]
    system: str
    versions: dict[str, str]


class Ladder(Record):
    """Runtimes measured side by side on this machine."""

    reference: str
    picked: str
    threads: int
    rungs: list[Rung]
    machine: Machine

    def rung(self, name: str) -> Rung:
        return next(rung for rung in self.rungs if rung.name == name)


class Publication(Record):
    """Where a line's result stands in MLflow."""

    model: str
    version: str
    key: str
    """Lineage key and rung: what makes a version one and the same."""
    lineage: str
    run: str
    experiment: str
    tracking: str


class Comparison(Record):
    """Challenger minus champion in one metric, on the same test rows."""

    metric: str
    challenger: float
    champion: float
    difference: Interval
    test: str
    """Name of the test that the p-values are of."""
    p_better: float
    """How likely so good a result is if the challenger is not better (or, where the recipe has a
    margin, is worse by more than that); corrected where several metrics decide."""
    p_worse: float
    """How likely so bad a result is if the challenger is no worse."""
    detectable: float
    """The true difference that this question would have seen in 8 of 10 draws of as many rows."""


class Rail(Record):
    """A guard rail: one property besides the metric that decides, and its limit."""

    name: str
    value: float
    limit: float
    unit: str
    held: bool
    note: str


class Verdict(Record):
    """What the gate said of one version, and all that it said it on."""

    model: str
    version: str
    decision: Decision
    reason: str
    champion: str | None
    epoch: int
    """Which frozen test set was asked."""
    question: int
    """How many questions this epoch has answered, this one included; 0 where none was spent."""
    level: float
    """The error rate that this question could spend."""
    rows: int
    accuracy: float
    macro_f1: float
    """Of the challenger, as served, on the epoch's rows."""
    comparisons: list[Comparison]
    only_challenger_right: int
    only_champion_right: int
    rails: list[Rail]
    rule: dict[str, object]
    """The recipe's gate section."""
    unfit: bool
    """Whether what it answers may not count at all: not even a person promotes it then."""
    evidence: dict[str, str]
    """SHA-256 of what was judged: rows, and each side's answers."""


class Epoch(Record):
    """A frozen test set: versions are compared on it until so many new rows have come that they
    make the next one."""

    model: str
    number: int
    ids: list[str]
    why: str


class Entry(Record):
    """One line of the ledger: who moved a model's alias, from where to where, and why; or why the
    gate did not."""

    number: int
    """Its place in the ledger, from 1."""
    event: Event
    model: str
    version: str
    """Empty where a hand took the alias away."""
    previous: str | None
    who: str
    when: str
    reason: str
    lineage: str
    decision: Decision | None = None
    """The gate's, where it was asked."""
    epoch: int = 0
    question: int = 0
    evidence: dict[str, str] = {}

    @property
    def moves(self) -> bool:
        """Whether it moved the alias."""
        return self.event in MOVES


class Reign(Record):
    """A time for which a version was in use."""

    version: str
    since: str
    until: str | None
    how: Event
    reason: str
    ended: Event | None
