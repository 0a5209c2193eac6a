"""Rows of a recipe for `bertline check`: counts, classes, a sample, and what validate would say."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import recipe as recipes
from pipeline.core.files import parquet_batches
from pipeline.core.log import Log
from pipeline.core.records import SPLITS
from pipeline.core.text import excerpt
from pipeline.core.workspace import LABELS, STATE
from pipeline.stages.ingest.stage import ingest
from pipeline.stages.validate.findings import Finding, examine
from pipeline.stages.validate.refusal import advice
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import Texts

SAMPLE = 500  # training rows whose tokens are counted
STOP = "the run would stop there"


class ExaminedRows:
    """Rows of a recipe, read and examined once as the stages would, in a temporary folder."""

    def __init__(self, name: str, recipe: recipes.Recipe, task: Task, log: Log) -> None:
        self.sources = recipe.ingest.sources()
        log.info(f"reading {', '.join(self.sources)}")
        labels = LABELS / f"{name}.jsonl"
        self.sources += [str(labels)] if labels.exists() else []
        STATE.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="check-", dir=STATE) as home:
            folder = Path(home)
            self.intake = ingest(recipe.ingest, task, folder, labels, log=log)
            self.sample = _sample(folder / "rows.parquet")
            log.info("examining the rows by the rules of validate")
            self.found = examine(recipe.validate_, task, folder, log)
        self.classes: Counter[str] = Counter()
        for label, rows in self.found.frame["label"].value_counts().items():
            for each in self.found.classes.get(str(label), ()):
                self.classes[each] += int(rows)

    def facts(self) -> list[tuple[str, str]]:
        """Pairs of a name and a fact; one that ends in STOP would stop the run."""
        return [*self._counts(), *self._rules(), *self._classes()]

    def _counts(self) -> Iterator[tuple[str, str]]:
        splits = ", ".join(f"{self.intake.by_split[split]:,} {split}" for split in SPLITS)
        yield "data", f"{', '.join(self.sources)}: {self.intake.rows:,} rows ({splits})"
        if self.intake.doubts:
            yield "", self.intake.doubtful()

    def _rules(self) -> Iterator[tuple[str, str]]:
        found = self.found.findings()
        told = [_line(finding) for finding in found]
        told += [f"{sentence}: {STOP}" for sentence in self.found.shortfalls()]
        if any(finding.stops for finding in found):
            told.append(f"to go on: {advice(self.found, 'fix these rows')}")
        yield from zip(["rules", *[""] * len(told)], told, strict=False)

    def _classes(self) -> Iterator[tuple[str, str]]:
        if self.classes:
            named = ", ".join(f"{name} {rows:,}" for name, rows in self.classes.most_common(99))
            kind = "class" if len(self.classes) == 1 else "classes"
            yield "label", f"{len(self.classes):,} {kind}: {excerpt(named, 160)}"
        for note in self.found.notes():
            yield "", note


def _line(finding: Finding) -> str:
    """Return a finding as one line: rule, rows, share, policy and first row."""
    rows = f"{finding.rows:,} {'row' if finding.rows == 1 else 'rows'}"
    share = f"{100 * finding.share:.3g} %"
    line = f"{finding.rule}: {rows} ({share}), {finding.policy}, first {finding.first[0]}"
    return f"{line}: {STOP}" if finding.stops else line


def _sample(rows: Path) -> list[Texts]:
    """Draw training rows, or the first rows if there is none, by reservoir sampling (Vitter
    1985)."""
    draw, seen = random.Random(0), 0
    sample: list[Texts] = []
    others: list[Texts] = []
    for batch in parquet_batches(rows, columns=["split", "text", "second"]):
        for row in batch.to_pylist():
            texts = (row["text"], row["second"])
            if row["split"] != "train":
                others += [texts] if len(others) < SAMPLE else []
                continue
            seen += 1
            place = draw.randrange(seen)
            if len(sample) < SAMPLE:
                sample.append(texts)
            elif place < SAMPLE:
                sample[place] = texts
    return sample or others
