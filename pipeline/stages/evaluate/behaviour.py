"""Behaviour tests of a classifier (CheckList, Ribeiro et al. 2020).

A suite is a YAML or JSON file of tests of three kinds. An `invariance` test changes texts in a way
that must not change the answer. A `direction` test changes them in a way that must move the score
of one label. A `minimum functionality` test has texts that any good model answers correctly. The
suites in suites/ are ready to use; data/behaviour/README.md shows how to write one. All draws are
seeded by the suite: the same suite, rows and answers give the same cases and failures.
"""

import difflib
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline.core.config import Settings, nearest, parse, read_yaml
from pipeline.core.errors import UserError
from pipeline.core.log import Log, no_log
from pipeline.core.records import Behaviour
from pipeline.core.text import excerpt, position
from pipeline.stages.evaluate.perturbations import Change, Words

READY = Path(__file__).with_name("suites")
SUFFIXES = (".yaml", ".yml", ".json")
SLOT = re.compile(r"\{(\w+)\}")
MOST = 1000  # rows or fillings that a suite may request
EXAMPLES = 3  # failing cases that a record keeps

Scores = Mapping[str, float]  # of one text, by label
Predict = Callable[[list[str]], npt.NDArray[np.floating]]  # texts -> (texts, labels)


@dataclass(frozen=True)
class Case:
    text: str
    changed: str
    """Changed text; the text itself if the test changes nothing."""
    label: str = ""
    """Expected label, if the test names one."""


class Test(Settings):
    """Base class of all kinds of tests."""

    name: str = Field(pattern=r"^\w[\w ,'-]*$", max_length=60)
    kind: str
    allowed: float = Field(default=0.0, ge=0, lt=1)
    """Share of its cases that may fail before the test does."""
    slots: dict[str, Annotated[list[Words], Field(min_length=1)]] = Field(default={})
    """Values of each {slot} in a text, used in every combination."""

    @model_validator(mode="after")
    def _slots_fit(self) -> Self:
        named = {name for text in self.templates() for name in SLOT.findall(text)}
        for name in sorted(named - set(self.slots)):
            known = nearest(name, self.slots) if self.slots else ""
            raise ValueError(f"a text names the slot {{{name}}}, which slots does not fill{known}")
        for name in sorted(set(self.slots) - named):
            raise ValueError(f"slots.{name} fills a slot that no text names")
        return self

    @abstractmethod
    def templates(self) -> Iterable[str]:
        """Return the test's own texts with unfilled slots."""

    @abstractmethod
    def labels(self) -> Iterable[str]:
        """Return the labels that the recipe must have."""

    @abstractmethod
    def cases(self, suite: "Suite", drawn: Sequence[str]) -> list[Case]:
        """Return the cases, made of the test's own texts or else of `drawn`, texts of test rows."""

    @abstractmethod
    def failure(self, case: Case, before: Scores, after: Scores) -> tuple[str, str] | None:
        """Return the expected and the actual answer, described, if the case fails; else None."""


class Changing(Test):
    change: Change
    texts: list[Words] = Field(default=[])
    """Texts to change; if there are none, test rows are drawn."""

    def templates(self) -> Iterable[str]:
        return self.texts

    def cases(self, suite: "Suite", drawn: Sequence[str]) -> list[Case]:
        if not self.texts:
            changed = (self._case(suite, text) for text in drawn)
            touched = (case for case in changed if case.changed != case.text)
            return list(islice(touched, suite.settings.rows))
        cases = [self._case(suite, text) for t in self.texts for text in suite.filled(self, t)]
        for case in cases:
            if case.changed == case.text:
                raise UserError(
                    f"suite {suite.name}, test {self.name!r}: the change leaves"
                    f" {excerpt(case.text)!r} as it is: edit the text or the change"
                )
        return cases

    def _case(self, suite: "Suite", text: str) -> Case:
        return Case(text, self.change.apply(text, suite.random(self, text)))


class Invariance(Changing):
    kind: Literal["invariance"]
    allowed: float = Field(default=0.1, ge=0, lt=1)

    def labels(self) -> Iterable[str]:
        return ()

    def failure(self, case: Case, before: Scores, after: Scores) -> tuple[str, str] | None:
        same = _best(before) == _best(after)
        return None if same else (_described(before), _described(after))


class Direction(Changing):
    kind: Literal["direction"]
    label: str
    moves: Literal["up", "down"]
    least: float = Field(default=0.0, ge=-1, le=1)
    """Least move of the label's score, as a difference of probabilities; if negative, the largest
    move the other way that is allowed."""

    def labels(self) -> Iterable[str]:
        return (self.label,)

    def failure(self, case: Case, before: Scores, after: Scores) -> tuple[str, str] | None:
        old, new = before[self.label], after[self.label]
        if (new - old if self.moves == "up" else old - new) >= self.least:
            return None
        bound = (
            f"by {self.least:g} or more"
            if self.least > 0
            else f"at most {-self.least:g} the other way"
        )
        return f"{self.label} {self.moves}, {bound}", f"{self.label} from {old:.2f} to {new:.2f}"


class MinimumFunctionality(Test):
    kind: Literal["minimum functionality"]
    texts: dict[str, Annotated[list[Words], Field(min_length=1)]] = Field(min_length=1)
    """Texts by the label that they must get."""

    def templates(self) -> Iterable[str]:
        return (text for texts in self.texts.values() for text in texts)

    def labels(self) -> Iterable[str]:
        return self.texts

    def cases(self, suite: "Suite", drawn: Sequence[str]) -> list[Case]:
        return [
            Case(text, text, label)
            for label, templates in self.texts.items()
            for template in templates
            for text in suite.filled(self, template)
        ]

    def failure(self, case: Case, before: Scores, after: Scores) -> tuple[str, str] | None:
        return None if _best(after) == case.label else (case.label, _described(after))


KINDS: dict[str, type[Test]] = {
    "invariance": Invariance,
    "direction": Direction,
    "minimum functionality": MinimumFunctionality,
}


class SuiteSettings(Settings):
    """Content of a suite's file; each test is parsed by its kind."""

    about: Words
    seed: int = Field(default=17, ge=0)
    rows: int = Field(default=20, ge=1, le=MOST)
    """Most test rows for each test that has no texts of its own."""
    characters: int = Field(default=240, ge=20)
    """Length at which such a row is cut, so that a model reads all of it and sees the change."""
    fillings: int = Field(default=8, ge=1, le=MOST)
    """Most fillings of each text with slots; if there are more, this many are drawn."""
    tests: list[dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True)
class Suite:
    name: str
    settings: SuiteSettings
    tests: Sequence[Test]

    def random(self, test: Test, text: str) -> Random:
        """Return a generator that depends only on the seed, the test and the text."""
        return Random(f"{self.settings.seed} {test.name} {text}")

    def drawn(self, rows: Mapping[str, str]) -> list[str]:
        """Return the rows' texts, cut, in an order that depends on the seed."""
        names = sorted(rows, key=lambda name: position(f"{self.settings.seed} {name}"))
        return [_cut(rows[name], self.settings.characters) for name in names]

    def plan(self, rows: Mapping[str, str]) -> list[tuple[Test, list[Case]]]:
        """Return the cases of every test; all tests without texts use the same rows."""
        drawn = self.drawn(rows)
        return [(test, test.cases(self, drawn)) for test in self.tests]

    def filled(self, test: Test, template: str) -> Iterator[str]:
        """Yield a text with its slots filled in every way, or in a sample of `fillings` ways."""
        names = list(dict.fromkeys(SLOT.findall(template)))
        ways = prod(len(test.slots[name]) for name in names)
        most, random = self.settings.fillings, self.random(test, template)
        numbers = set(range(ways)) if ways <= most else set()
        while len(numbers) < min(ways, most):
            numbers.add(random.randrange(ways))
        for number in sorted(numbers):
            yield _filling(template, {name: test.slots[name] for name in names}, number)


class Failure(NamedTuple):
    """Failing case: a line of behaviour.csv."""

    suite: str
    test: str
    kind: str
    text: str
    changed: str
    """Empty if the test changes nothing."""
    expected: str
    answered: str


def ready() -> dict[str, Path]:
    """Return the files of the ready suites by name."""
    return {path.stem: path for path in sorted(READY.glob("*.yaml"))}


def locate(name: str) -> Path:
    """Return the file of a suite, a ready one by name or your own by path. Raises UserError if
    there is none."""
    known, path = ready(), Path(name)
    if name in known:
        return known[name]
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"evaluate.behaviour: no suite {name!r}{nearest(name, known)}; name one of your own by"
            " its path, such as data/behaviour/mine.yaml"
        )
    if not path.is_file():
        raise UserError(f"{name}: no such file: correct the path in evaluate.behaviour")
    return path


def read_suite(name: str) -> Suite:
    """Read and check a suite. Raises UserError for the first error."""
    path = locate(name)
    settings = parse(SuiteSettings, read_yaml(path), path.stem, path)
    tests = [_read_test(content, number, path) for number, content in enumerate(settings.tests, 1)]
    names = [test.name for test in tests]
    for test in names:
        if names.count(test) > 1:
            raise UserError(f"{path}: two tests are called {test!r}: rename one")
    suite = Suite(path.stem, settings, tests)
    suite.plan({})  # finds errors in the tests' own texts before the work begins
    return suite


def _read_test(content: dict[str, Any], number: int, path: Path) -> Test:
    name, kind = content.get("name", number), content.get("kind")
    where = f"{path.stem}.tests.{name}"
    if str(kind) not in KINDS:
        raise UserError(f"{path}: {where}.kind: unknown kind {kind!r}{nearest(str(kind), KINDS)}")
    return parse(KINDS[str(kind)], content, where, path)


def check_labels(suites: Iterable[Suite], labels: Sequence[str]) -> None:
    """Raise UserError for a test with a label that the recipe does not have."""
    for suite in suites:
        for test in suite.tests:
            for label in test.labels():
                if label not in labels:
                    close = difflib.get_close_matches(label, labels, n=1, cutoff=0.75)
                    hint = (
                        f"did you mean {close[0]}?" if close else "edit the suite, or leave it out"
                    )
                    raise UserError(
                        f"suite {suite.name}, test {test.name!r}: the recipe has no label"
                        f" {label!r}, it has {excerpt(', '.join(labels), 200)}; {hint}"
                    )


def run_suites(
    suites: Sequence[Suite],
    rows: Mapping[str, str],
    labels: Sequence[str],
    predict: Predict,
    *,
    log: Log = no_log,
) -> tuple[list[Behaviour], list[Failure]]:
    """Run every test of the suites; return the result of each test and all failed cases.

    `rows` are the test rows' texts by id; `predict` returns the probabilities of texts, (texts,
    labels), and gets each different text once. Raises UserError for unknown labels.
    """
    check_labels(suites, labels)
    plan = [(suite, *each) for suite in suites for each in suite.plan(rows)]
    needed = (text for *_, cases in plan for c in cases for text in (c.text, c.changed))
    texts = list(dict.fromkeys(needed))
    scores: dict[str, Scores] = {}
    if texts:
        log.info(f"{len(plan)} behaviour tests on {len(texts):,} texts")
        for text, row in zip(texts, predict(texts).tolist(), strict=True):
            scores[text] = dict(zip(labels, row, strict=True))
    results, failures = [], []
    for suite, test, cases in plan:
        failed = list(_failures(suite, test, cases, scores))
        results.append(_result(suite, test, len(cases), failed))
        failures += failed
    return results, failures


def _failures(
    suite: Suite, test: Test, cases: Iterable[Case], scores: Mapping[str, Scores]
) -> Iterator[Failure]:
    for case in cases:
        failure = test.failure(case, scores[case.text], scores[case.changed])
        if failure:
            changed = case.changed if case.changed != case.text else ""
            yield Failure(suite.name, test.name, test.kind, case.text, changed, *failure)


def _result(suite: Suite, test: Test, cases: int, failed: Sequence[Failure]) -> Behaviour:
    return Behaviour(
        name=test.name,
        suite=suite.name,
        kind=test.kind,
        cases=cases,
        failed=len(failed),
        share=len(failed) / max(cases, 1),
        allowed=test.allowed,
        examples=[
            {
                "text": excerpt(failure.text, 120),
                "changed": excerpt(failure.changed, 120),
                "expected": failure.expected,
                "answered": failure.answered,
            }
            for failure in failed[:EXAMPLES]
        ],
    )


def _best(scores: Scores) -> str:
    return max(scores, key=lambda label: scores[label])


def _described(scores: Scores) -> str:
    best = _best(scores)
    return f"{best} ({scores[best]:.2f})"


def _filling(template: str, slots: Mapping[str, Sequence[str]], number: int) -> str:
    """Return the filling of a template with that number, counted like an odometer."""
    values = {}
    for name, words in slots.items():
        number, place = divmod(number, len(words))
        values[name] = words[place]
    return SLOT.sub(lambda found: values[found[1]], template)


def _cut(text: str, most: int) -> str:
    """Return the beginning of a text, cut between words if possible."""
    if len(text) <= most:
        return text
    words = text[: most + 1].rsplit(maxsplit=1)
    return words[0] if len(words) > 1 else text[:most]
