"""Behaviour tests pass, fail and draw as specified; an error in a suite takes one line."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline import recipe as recipes
from pipeline.core.errors import UserError
from pipeline.core.records import Behaviour
from pipeline.stages.evaluate import behaviour
from pipeline.stages.evaluate.behaviour import Failure, Suite, check_labels, read_suite, run_suites
from pipeline.stages.evaluate.perturbations import Change
from tests.conftest import ROOT, news_block, write_params

LABELS = ["negative", "positive"]
ROWS = {
    f"row{i}": f"Guest {i} from London stayed {i + 10} nights in a lovely room." for i in range(50)
}
PLAIN = {
    "name": "plain",
    "kind": "minimum functionality",
    "texts": {"positive": ["The {room} was lovely."], "negative": ["It was awful."]},
    "slots": {"room": ["room", "bed"]},
}
TYPOS = {"name": "typos", "kind": "invariance", "change": {"typos": 2}}
PRAISE = {
    "name": "praise",
    "kind": "direction",
    "label": "positive",
    "moves": "up",
    "texts": ["We came late."],
    "change": {"after": ["I loved it."]},
}


def written(folder: Path, *tests: dict[str, Any], **settings: Any) -> str:
    path = folder / "mine.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML().dump({"about": "Opinions.", **settings, "tests": list(tests)}, file)
    return str(path)


def scorer(words: dict[str, float]) -> behaviour.Predict:
    """A model that sums the scores of words: above 0 is positive."""

    def answers(texts: list[str]) -> np.ndarray:
        worth = np.array([sum(w for word, w in words.items() if word in t) for t in texts])
        positive = 1 / (1 + np.exp(-worth))
        return np.stack([1 - positive, positive], axis=1)

    return answers


def tried(
    folder: Path, test: dict[str, Any], words: dict[str, float]
) -> tuple[Behaviour, list[Failure]]:
    """Run one test against a model that scores words."""
    (result,), failures = run_suites(
        [read_suite(written(folder, test))], ROWS, LABELS, scorer(words)
    )
    assert (result.cases, result.failed) >= (1, len(failures))
    return result, failures


def test_minimum_functionality_fails_where_another_label_is_answered(tmp_path: Path) -> None:
    good, none = tried(tmp_path, PLAIN, {"lovely": 1, "awful": -1})
    assert (good.cases, good.failed, good.passed, none) == (3, 0, True, [])
    bad, failures = tried(tmp_path, PLAIN, {"lovely": 1, "awful": -1, "bed": -9})
    assert (bad.failed, bad.passed) == (1, False)
    (failure,) = failures
    assert failure.text == "The bed was lovely."
    assert (failure.changed, failure.expected) == ("", "positive")
    assert failure.answered == "negative (1.00)"
    assert bad.examples == [
        {
            "text": failure.text,
            "changed": "",
            "expected": "positive",
            "answered": "negative (1.00)",
        }
    ]


def test_invariance_fails_where_the_answer_changes(tmp_path: Path) -> None:
    test = {"name": "places", "kind": "invariance", "change": {"swap": [["London", "Paris"]]}}
    fair, _ = tried(tmp_path, test, {"lovely": 1})
    assert (fair.cases, fair.failed) == (20, 0)
    unfair, failures = tried(tmp_path, test, {"lovely": 1, "Paris": -3})
    assert (unfair.share, unfair.passed) == (1.0, False)
    assert "Paris" in failures[0].changed
    assert failures[0].expected.startswith("positive")
    assert len(failures) == 20
    assert len(unfair.examples) == behaviour.EXAMPLES


def test_direction_fails_where_the_score_does_not_move(tmp_path: Path) -> None:
    assert tried(tmp_path, PRAISE, {"loved": 1})[0].passed
    result, failures = tried(tmp_path, PRAISE, {"loved": -1})
    assert not result.passed
    assert failures[0].answered == "positive from 0.50 to 0.27"
    assert tried(tmp_path, PRAISE | {"moves": "down"}, {"loved": -1})[0].passed


@pytest.mark.parametrize(("least", "passed"), [(0.0, True), (-0.1, True), (0.1, False)])
def test_a_score_must_move_at_least_so_far(tmp_path: Path, least: float, passed: bool) -> None:
    assert tried(tmp_path, PRAISE | {"least": least}, {})[0].passed is passed


def test_a_score_that_is_no_number_fails(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, PRAISE))
    (result,), _ = run_suites([suite], ROWS, LABELS, lambda texts: np.full((len(texts), 2), np.nan))
    assert not result.passed


def test_a_test_passes_with_as_many_failures_as_it_allows(tmp_path: Path) -> None:
    failing = PLAIN | {"texts": {"negative": [f"Room {i} was awful." for i in range(9)] + ["Ah."]}}
    del failing["slots"]
    words = {"awful": -1.0, "Ah": 1.0}
    assert tried(tmp_path, failing | {"allowed": 0.1}, words)[0].passed
    assert not tried(tmp_path, failing | {"allowed": 0.09}, words)[0].passed


def test_the_share_counts_tests_not_cases() -> None:
    from pipeline.core.records import Scores

    one = Behaviour(
        name="a", suite="s", kind="k", cases=10, failed=9, share=0.9, allowed=0.0, examples=[]
    )
    tests = [one, one.model_copy(update={"share": 0.0}), one.model_copy(update={"allowed": 0.9})]
    scores = Scores.model_construct(behaviour=tests)
    assert scores.behaviour_failed == pytest.approx(1 / 3)
    assert Scores.model_construct(behaviour=[]).behaviour_failed == 0


def test_each_text_is_asked_once_and_told(tmp_path: Path) -> None:
    asked: list[str] = []

    def answers(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.full((len(texts), 2), 0.5)

    more = TYPOS | {"name": "case", "change": {"case": "upper"}}
    run_suites([read_suite(written(tmp_path, TYPOS, more, rows=10))], ROWS, LABELS, answers)
    assert len(asked) == len(set(asked)) == 30  # ten rows, each unchanged and changed twice


def test_no_suite_asks_nothing() -> None:
    def answers(texts: list[str]) -> np.ndarray:
        raise AssertionError

    assert run_suites([], ROWS, LABELS, answers) == ([], [])


def test_rows_that_a_change_leaves_alone_are_passed_over(tmp_path: Path) -> None:
    test = TYPOS | {"change": {"swap": [["Guest 7", "Guest 8"], ["Rome", "Oslo"]]}}
    assert tried(tmp_path, test, {})[0].cases == 2
    test = TYPOS | {"change": {"swap": [["Rome", "Oslo"]]}}
    suite = read_suite(written(tmp_path, test))
    (result,), _ = run_suites([suite], ROWS, LABELS, scorer({}))
    assert (result.cases, result.passed) == (0, True)


def cases(suite: Suite, rows: dict[str, str]) -> list[str]:
    return [case.changed for _, drawn in suite.plan(rows) for case in drawn]


@pytest.mark.parametrize("name", sorted(behaviour.ready()))
def test_draws_are_the_same_again_whatever_the_order_of_rows(name: str) -> None:
    first = cases(read_suite(name), ROWS)
    assert first == cases(read_suite(name), dict(reversed(ROWS.items())))
    assert len(first) == len(cases(read_suite(name), ROWS))


def test_another_seed_draws_otherwise(tmp_path: Path) -> None:
    one, two = (cases(read_suite(written(tmp_path, TYPOS, seed=seed)), ROWS) for seed in (1, 2))
    assert one != two


def test_slots_are_filled_in_every_way_up_to_a_limit(tmp_path: Path) -> None:
    slots = {f"s{i}": [f"{i}{j}" for j in range(100)] for i in range(30)}  # 10^60 ways
    text = " ".join(f"{{{name}}}" for name in slots)
    wide = PLAIN | {"texts": {"positive": [text, "{s1} and {s1}"]}, "slots": slots}
    found = cases(read_suite(written(tmp_path, wide, fillings=7)), ROWS)
    assert len(set(found)) == len(found) == 14
    assert all(re.fullmatch(r"(1\d+) and \1", text) for text in found[7:])
    few = PLAIN | {"texts": {"positive": ["{a}{b}"]}, "slots": {"a": ["x", "y"], "b": ["1", "2"]}}
    assert sorted(cases(read_suite(written(tmp_path, few)), ROWS)) == ["x1", "x2", "y1", "y2"]


def test_rows_are_cut_between_words(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, TYPOS, characters=20))
    texts = {"a": "Twenty characters and more of them", "b": "字" * 50, "c": "short"}
    assert sorted(suite.drawn(texts)) == ["Twenty characters", "short", "字" * 20]


def refused(name: str) -> str:
    with pytest.raises(UserError) as caught:
        read_suite(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (TYPOS | {"chnge": {}}, "mine.tests.typos.chnge: unknown key; did you mean change?"),
        (TYPOS | {"change": {"typo": 1}}, "typos.change.typo: unknown key; did you mean typos?"),
        (TYPOS | {"change": {}}, "changes nothing: name one of swap, digits, typos"),
        (TYPOS | {"change": {"swap": [["London"]]}}, "at least 2 items"),
        (TYPOS | {"kind": "invarience"}, "unknown kind 'invarience'; did you mean invariance?"),
        (TYPOS | {"kind": ["invariance"]}, "unknown kind"),
        ({"name": "a"}, "mine.tests.a.kind: unknown kind None"),
        ({"kind": "invariance", "change": {"typos": 1}}, "mine.tests.1.name: is missing"),
        (TYPOS | {"name": "a/b"}, "name: string should match pattern"),
        (TYPOS | {"allowed": 1.0}, "allowed: should be less than 1"),
        (TYPOS | {"texts": ["a b c"]}, "the change leaves 'a b c' as it is"),
        (TYPOS | {"texts": [""]}, "at least 1 character"),
        (PLAIN | {"texts": {}}, "at least 1 item"),
        (PLAIN | {"texts": {"positive": []}}, "at least 1 item"),
        (PLAIN | {"slots": {}}, "a text names the slot {room}, which slots does not fill"),
        (PLAIN | {"slots": {"rom": ["a"]}}, "{room}, which slots does not fill; did you mean rom?"),
        (PLAIN | {"slots": {"room": []}}, "at least 1 item"),
        (PLAIN | {"slots": {"room": ["a"], "bed": ["b"]}}, "slots.bed fills a slot that no text"),
        (PRAISE | {"moves": "sideways"}, "'up' or 'down'"),
        ({k: v for k, v in PRAISE.items() if k != "label"}, "praise.label: is missing"),
    ],
)
def test_a_broken_test_is_told_by_suite_and_name(
    tmp_path: Path, test: dict[str, Any], message: str
) -> None:
    name = written(tmp_path, test)
    told = refused(name)
    assert message in told.replace("String", "string").replace("Input ", "")
    assert "mine" in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "mine: should be an object"),
        ("tests: []", "about: is missing"),
        ("about: a\ntests: []", "mine.tests: List should have at least 1 item"),
        ("about: a\ntests: [typos]", "should be an object"),
        ("about: a\nrow: 3\ntests: [{}]", "mine.row: unknown key; did you mean rows?"),
        ("about: a\nrows: 99999\ntests: [{}]", "less than or equal to 1000"),
        ("about: a\ntests: [{}", "not YAML"),
        ("about: a\nabout: b", "not YAML"),
        ("about: &a [*a]", "not YAML"),
        ("about: !!python/object:os.system x", "not YAML"),
        ("about: 2001-99-99", "not YAML"),
        ("? [1, 2]\n: a", "not YAML"),
        ("[" * 1200, "not YAML"),
        ('about: "\\ud800"\ntests: [{}]', "mine"),
        ("\x00\x01", "not YAML"),
    ],
)
def test_a_file_that_is_no_suite_is_told_in_one_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    assert message in refused(str(path))


def test_bytes_that_are_no_text_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"about: \xff\xfe\n")
    assert "not YAML" in refused(str(path))


def test_two_tests_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "two tests are called 'typos'" in refused(written(tmp_path, TYPOS, TYPOS))


def test_a_suite_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"about": "Opinions.", "tests": [PLAIN, TYPOS, PRAISE]}))
    assert [test.name for test in read_suite(str(path)).tests] == ["plain", "typos", "praise"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpoic", "no suite 'tpoic'; did you mean topic?"),
        ("", "no suite ''"),
        ("data/behaviour", "no suite 'data/behaviour'"),
        ("no/such.yaml", "no/such.yaml: no such file"),
    ],
)
def test_a_suite_that_is_not_there_is_told(name: str, message: str) -> None:
    assert message in refused(name)


def test_a_label_that_the_recipe_lacks_is_refused_with_the_nearest(tmp_path: Path) -> None:
    suites = [read_suite(written(tmp_path, PLAIN))]
    check_labels(suites, LABELS)
    with pytest.raises(UserError) as caught:
        run_suites(suites, ROWS, ["negativ", "positive"], scorer({}))
    assert str(caught.value) == (
        "suite mine, test 'plain': the recipe has no label 'negative', it has negativ, positive;"
        " did you mean negativ?"
    )


def test_the_ready_suites_are_of_the_labels_that_they_promise() -> None:
    news = ["business", "entertainment", "politics", "sports", "tech"]
    assert set(behaviour.ready()) == {"topic", "sentiment", "sentiment-zh"}
    check_labels([read_suite("topic")], news)
    check_labels([read_suite("sentiment"), read_suite("sentiment-zh")], LABELS)
    for name in behaviour.ready():
        suite = read_suite(name)
        asked = [case for _, cases in suite.plan(ROWS) for case in cases]
        assert len({text for case in asked for text in (case.text, case.changed)}) <= 300


def test_the_example_in_the_readme_is_a_suite(tmp_path: Path) -> None:
    readme = (ROOT / "data" / "behaviour" / "README.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    path = tmp_path / "example.yaml"
    path.write_text(example)
    suite = read_suite(str(path))
    assert {test.kind for test in suite.tests} == set(behaviour.KINDS)
    for field in Change.model_fields:
        assert f"`{field}: " in readme


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's suite in its place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "behaviour").mkdir(parents=True)
    written(tmp_path / "data" / "behaviour", PLAIN)
    return tmp_path


def load(suites: list[str], labels: list[str] | None = None) -> recipes.Recipe:
    block = news_block()
    block["evaluate"]["behaviour"], block["validate"]["labels"] = suites, labels
    write_params(Path("params.yaml"), {"news": block})
    return recipes.load("news")


def test_a_recipe_takes_ready_suites_and_ones_of_its_own(own: Path) -> None:
    names = ["topic", "data/behaviour/mine.yaml"]
    assert load(names).evaluate.behaviour == names


def test_a_suite_that_dvc_does_not_watch_is_refused(own: Path) -> None:
    written(own, PLAIN)
    with pytest.raises(UserError, match=r"'mine.yaml' lies outside data/behaviour.*move it there"):
        load(["mine.yaml"])
    with pytest.raises(UserError, match="lies outside data/behaviour"):
        load(["data/behaviour/../../mine.yaml"])


def test_a_broken_suite_or_a_wrong_label_is_known_before_work_begins(own: Path) -> None:
    with pytest.raises(UserError, match="no label 'positive', it has bad, good"):
        load(["data/behaviour/mine.yaml"], labels=["bad", "good"])
    (own / "data" / "behaviour" / "mine.yaml").write_text("about: a\n")
    with pytest.raises(UserError, match=r"mine\.tests: is missing"):
        load(["data/behaviour/mine.yaml"])


def test_two_suites_of_one_name_are_refused(own: Path) -> None:
    with pytest.raises(UserError, match="behaviour holds two suites of the same name"):
        load(["topic", "data/behaviour/topic.yaml"])
