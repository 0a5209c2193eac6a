"""Classes of two texts, and what little effort makes of them."""

import csv
from random import Random

import pytest

from pipeline.metrics import scoring
from pipeline.tasks import get
from pipeline.tasks.base import Labelled, Setting
from tests.conftest import SHARED

TASK = get("pair")
NOTHING = Labelled([], [])
MRPC = SHARED / "mrpc"


def accuracy(truths: list[str], answers: list[str], classes: list[str]) -> float:
    tallied = scoring.tallies(TASK, truths, answers, classes)
    return scoring.metrics(TASK.measure, tallied)["accuracy"]


def learned(train: Labelled, test: Labelled, classes: list[str], kind: str) -> tuple[float, float]:
    """Accuracy of the most frequent class and of the regression."""
    found = TASK.baselines(Setting(train, NOTHING, test, classes, kind, 0, None))
    assert set(found) == {"majority class", f"overlap + TF-IDF {kind} + logistic regression"}
    majority, regression = (accuracy(list(test.labels), said, classes) for said in found.values())
    return majority, regression


def made_up(random: Random, letters: str, count: int, space: str) -> Labelled:
    """Words of random letters; a `same` second text has the first's words in another order."""
    texts, labels = [], []
    for _ in range(count):
        first, other = (["".join(random.choices(letters, k=2)) for _ in range(8)] for _ in range(2))
        label = random.choice(["same", "other", "other"])
        second = random.sample(first, k=8) if label == "same" else other
        texts.append((space.join(first), space.join(second)))
        labels.append(label)
    return Labelled(texts, labels)


@pytest.mark.parametrize(
    ("kind", "early", "late", "space"),
    [
        ("words", "abcdefg", "tuvwxyz", " "),
        ("characters", "春眠不觉晓处闻啼鸟夜来", "风雨声花落知多少床前月", ""),
    ],
)
def test_that_two_texts_share_words_is_learned_whatever_the_words(
    kind: str, early: str, late: str, space: str
) -> None:
    random = Random(1)
    train, test = (made_up(random, letters, 300, space) for letters in (early, late))
    majority, regression = learned(train, test, ["other", "same"], kind)
    assert majority < 0.75
    assert regression > 0.95


def test_which_text_holds_the_other_is_learned() -> None:
    random = Random(2)

    def rows(words: list[str]) -> Labelled:
        texts, labels = [], []
        for _ in range(300):
            long = random.sample(words, k=9)
            short = random.sample(long, k=4) + random.sample(words, k=5)
            follows = random.random() < 0.5
            part = long[:4] * 2 + ["so"]
            texts.append((" ".join(long if follows else part), " ".join(part if follows else long)))
            labels.append("follows" if follows else "does not")
            texts.append((" ".join(long), " ".join(short)))
            labels.append("open")
        return Labelled(texts, labels)

    words = [f"{a}{b}" for a in "bcdfghkl" for b in "aeiou"]
    majority, regression = learned(
        rows(words[:20]), rows(words[20:]), ["does not", "follows", "open"], "words"
    )
    assert majority == pytest.approx(0.5)
    assert regression > 0.95


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_that_two_texts_share_emoji_is_learned(kind: str) -> None:
    random = Random(3)
    train, test = (made_up(random, "😀🎉🚀🍎🌍🎸🐙🌵", 300, " ") for _ in range(2))
    _, regression = learned(train, test, ["other", "same"], kind)
    assert regression > 0.95


def test_the_majority_is_that_of_training_rows() -> None:
    train = Labelled([("a b", "a b"), ("a c", "b c"), ("c a", "c b")], ["no", "yes", "yes"])
    test = Labelled([("a b", "b c")] * 2, ["no", "no"])
    found = TASK.baselines(Setting(train, NOTHING, test, ["no", "yes"], "words", 0, None))
    assert found["majority class"] == ["yes", "yes"]


def test_a_row_has_two_texts() -> None:
    assert TASK.two_texts
    assert TASK.exclusive
    assert TASK.metrics == ("accuracy", "macro_f1")


@pytest.mark.skipif(not MRPC.exists(), reason=f"{MRPC} is absent")
def test_real_paraphrases_are_told_better_than_by_the_majority() -> None:
    def rows(name: str, most: int) -> Labelled:
        with (MRPC / f"{name}.tsv").open(newline="", encoding="utf-8") as file:
            read = list(csv.reader(file, delimiter="\t"))[1 : most + 1]
        return Labelled([(row[3], row[4]) for row in read], [row[0] for row in read])

    train, test = rows("train", 1200), rows("test", 600)
    majority, regression = learned(train, test, ["0", "1"], "words")
    assert regression > majority + 0.05
