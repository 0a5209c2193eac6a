"""Behaviour tests of a classifier (CheckList, Ribeiro et al. 2020): what a score does not show.

A suite is a YAML or JSON file of tests of three kinds. An `invariance` test changes texts in a way
that must not change their answer; a `direction` test changes them in a way that must move one
label's score; a `minimum functionality` test gives texts that any fit model answers rightly. The
suites in behaviours/ are ready to use, and data/behaviour/README.md shows how to write one. All
draws are seeded by the suite: the same suite, rows and answers give the same cases and failures.
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
MOST = 1000  # rows or fillings that a suite may ask for
EXAMPLES = 3  # failing cases that a record keeps

Chances = Mapping[str, float]  # of one text, by label
Answers = Callable[[list[str]], npt.NDArray[np.floating]]


@dataclass(frozen=True)
class Case:
    text: str
    changed: str
    """What the change made of it; the text itself where the test changes nothing."""
    label: str = ""
    """The one that is expected, where the test gives it."""


class Test(Settings):
    """What tests of all kinds have."""

    name: str = Field(pattern=r"^\w[\w ,'-]*$", max_length=60)
    kind: str
    allowed: float = Field(default=0.0, ge=0, lt=1)
    """Share of its cases that may fail before the test does."""
    slots: dict[str, Annotated[list[Words], Field(min_length=1)]] = Field(default={})
    """What a {slot} in a text is filled with, in every combination."""

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
        """Its own texts, slots unfilled."""

    @abstractmethod
    def labels(self) -> Iterable[str]:
        """Labels that the recipe must have."""

    @abstractmethod
    def cases(self, suite: "Suite", drawn: Sequence[str]) -> list[Case]:
        """What it asks; of these texts of test rows where it has none of its own."""

    @abstractmethod
    def failure(self, case: Case, before: Chances, after: Chances) -> tuple[str, str] | None:
        """What was expected and what was answered, where a case fails."""


class Changing(Test):
    change: Change
    texts: list[Words] = Field(default=[])
    """Where there are none, test rows are drawn."""

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
                    f" {excerpt(case.text)!r} as it is: mend the text or the change"
                )
        return cases

    def _case(self, suite: "Suite", text: str) -> Case:
        return Case(text, self.change.apply(text, suite.random(self, text)))


class Invariance(Changing):
    kind: Literal["invariance"]
    allowed: float = Field(default=0.1, ge=0, lt=1)

    def labels(self) -> Iterable[str]:
        return ()

    def failure(self, case: Case, before: Chances, after: Chances) -> tuple[str, str] | None:
        same = _best(before) == _best(after)
        return None if same else (_told(before), _told(after))


class Direction(Changing):
    kind: Literal["direction"]
    label: str
    moves: Literal["up", "down"]
    least: float = Field(default=0.0, ge=-1, le=1)
    """How far the label's score must move, as a difference of probabilities; below 0 it may move
    so far the other way."""

    def labels(self) -> Iterable[str]:
        return (self.label,)

    def failure(self, case: Case, before: Chances, after: Chances) -> tuple[str, str] | None:
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
    """By the label that they must be given."""

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

    def failure(self, case: Case, before: Chances, after: Chances) -> tuple[str, str] | None:
        return None if _best(after) == case.label else (case.label, _told(after))


KINDS: dict[str, type[Test]] = {
    "invariance": Invariance,
    "direction": Direction,
    "minimum functionality": MinimumFunctionality,
}


class SuiteSettings(Settings):
    """A suite's file; each test is parsed by its kind."""

    about: Words
    seed: int = Field(default=17, ge=0)
    rows: int = Field(default=20, ge=1, le=MOST)
    """Test rows for each test that has no texts of its own, at most."""
    characters: int = Field(default=240, ge=20)
    """Length at which such a row is cut: a change after the tokens that a model reads is none."""
    fillings: int = Field(default=8, ge=1, le=MOST)
    """Of each text with slots, at most: where there are more, so many are drawn."""
    tests: list[dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True)
class Suite:
    name: str
    settings: SuiteSettings
    tests: Sequence[Test]

    def random(self, test: Test, text: str) -> Random:
        """The same for the same test and text, whatever stands around them."""
        return Random(f"{self.settings.seed} {test.name} {text}")

    def drawn(self, rows: Mapping[str, str]) -> list[str]:
        """The rows' texts, cut, in an order that the seed shuffles."""
        names = sorted(rows, key=lambda name: position(f"{self.settings.seed} {name}"))
        return [_cut(rows[name], self.settings.characters) for name in names]

    def plan(self, rows: Mapping[str, str]) -> list[tuple[Test, list[Case]]]:
        """The cases of every test, the same rows for all that draw on rows."""
        drawn = self.drawn(rows)
        return [(test, test.cases(self, drawn)) for test in self.tests]

    def filled(self, test: Test, template: str) -> Iterator[str]:
        """A text with its slots filled in every way, or in so many ways as the suite allows."""
        names = list(dict.fromkeys(SLOT.findall(template)))
        ways = prod(len(test.slots[name]) for name in names)
        most, random = self.settings.fillings, self.random(test, template)
        numbers = set(range(ways)) if ways <= most else set()
        while len(numbers) < min(ways, most):
            numbers.add(random.randrange(ways))
        for number in sorted(numbers):
            yield _filling(template, {name: test.slots[name] for name in names}, number)


class Failure(NamedTuple):
    """One failing case: a line of behaviour.csv."""

    suite: str
    test: str
    kind: str
    text: str
    changed: str
    """Empty where the test changes nothing."""
    expected: str
    answered: str


def ready() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    return {path.stem: path for path in sorted(READY.glob("*.yaml"))}


def locate(name: str) -> Path:
    """The file of a ready suite or of one that is named by its path. Raises UserError."""
    known, path = ready(), Path(name)
    if name in known:
        return known[name]
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"evaluate.behaviour: no suite {name!r}{nearest(name, known)}; name one of your own by"
            " its path, such as data/behaviour/mine.yaml"
        )
    if not path.is_file():
        raise UserError(f"{name}: no such file: mend the path in evaluate.behaviour")
    return path


def read_suite(name: str) -> Suite:
    """Read and check a suite. Raises UserError with one line for the first thing that is wrong."""
    path = locate(name)
    settings = parse(SuiteSettings, read_yaml(path), path.stem, path)
    tests = [_read_test(content, number, path) for number, content in enumerate(settings.tests, 1)]
    names = [test.name for test in tests]
    for test in names:
        if names.count(test) > 1:
            raise UserError(f"{path}: two tests are called {test!r}: rename one")
    suite = Suite(path.stem, settings, tests)
    suite.plan({})  # what is wrong in a test's own texts is known before work begins
    return suite


def _read_test(content: dict[str, Any], number: int, path: Path) -> Test:
    name, kind = content.get("name", number), content.get("kind")
    where = f"{path.stem}.tests.{name}"
    if str(kind) not in KINDS:
        raise UserError(f"{path}: {where}.kind: unknown kind {kind!r}{nearest(str(kind), KINDS)}")
    return parse(KINDS[str(kind)], content, where, path)


def check_labels(suites: Iterable[Suite], labels: Sequence[str]) -> None:
    """Refuse a test of labels that the recipe does not have."""
    for suite in suites:
        for test in suite.tests:
            for label in test.labels():
                if label not in labels:
                    close = difflib.get_close_matches(label, labels, n=1, cutoff=0.75)
                    hint = (
                        f"did you mean {close[0]}?" if close else "mend the suite, or leave it out"
                    )
                    raise UserError(
                        f"suite {suite.name}, test {test.name!r}: the recipe has no label"
                        f" {label!r}, it has {excerpt(', '.join(labels), 200)}; {hint}"
                    )


def put(
    suites: Sequence[Suite],
    rows: Mapping[str, str],
    labels: Sequence[str],
    answers: Answers,
    *,
    log: Log = no_log,
) -> tuple[list[Behaviour], list[Failure]]:
    """Put every test of the suites to a model: how each came out, and every case that failed.

    `rows` are the test rows' texts by id; `answers` gives the probabilities of texts, (texts,
    labels). Each different text is asked once. Raises UserError for labels that there are not.
    """
    check_labels(suites, labels)
    plan = [(suite, *each) for suite in suites for each in suite.plan(rows)]
    asked = [text for *_, cases in plan for c in cases for text in (c.text, c.changed)]
    texts = list(dict.fromkeys(asked))
    scores: dict[str, Chances] = {}
    if texts:
        log.say(f"{len(plan)} behaviour tests on {len(texts):,} texts")
        for text, row in zip(texts, answers(texts).tolist(), strict=True):
            scores[text] = dict(zip(labels, row, strict=True))
    results, failures = [], []
    for suite, test, cases in plan:
        failed = list(_failures(suite, test, cases, scores))
        results.append(_result(suite, test, len(cases), failed))
        failures += failed
    return results, failures


def _failures(
    suite: Suite, test: Test, cases: Iterable[Case], scores: Mapping[str, Chances]
) -> Iterator[Failure]:
    for case in cases:
        told = test.failure(case, scores[case.text], scores[case.changed])
        if told:
            changed = case.changed if case.changed != case.text else ""
            yield Failure(suite.name, test.name, test.kind, case.text, changed, *told)


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


def _best(scores: Chances) -> str:
    return max(scores, key=lambda label: scores[label])


def _told(scores: Chances) -> str:
    best = _best(scores)
    return f"{best} ({scores[best]:.2f})"


def _filling(template: str, slots: Mapping[str, Sequence[str]], number: int) -> str:
    """One of a template's fillings, counted as an odometer does."""
    values = {}
    for name, words in slots.items():
        number, place = divmod(number, len(words))
        values[name] = words[place]
    return SLOT.sub(lambda found: values[found[1]], template)


def _cut(text: str, most: int) -> str:
    """The beginning of a text, whole words where it has any."""
    if len(text) <= most:
        return text
    words = text[: most + 1].rsplit(maxsplit=1)
    return words[0] if len(words) > 1 else text[:most]
