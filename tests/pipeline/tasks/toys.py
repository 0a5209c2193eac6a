"""A toy of every task: rows that a two-layer model can learn something of, as a source has them."""

import json
from collections.abc import Callable
from random import Random

from tests.conftest import FILLER, WORDS, make_rows

Rows = list[dict[str, str]]
TOPICS = sorted(WORDS)


def _words(random: Random, topic: str, count: int = 4) -> list[str]:
    words = random.choices(WORDS[topic], k=count) + random.choices(FILLER, k=4)
    random.shuffle(words)
    return words


def classification(count: int, random: Random) -> Rows:
    return make_rows(count, random.randrange(1000))


def multilabel(count: int, random: Random) -> Rows:
    rows = []
    for _ in range(count):
        topics = random.sample(TOPICS, random.choice([1, 1, 2]))
        words = [word for topic in topics for word in _words(random, topic, 3)]
        random.shuffle(words)
        rows.append({"text": " ".join(words), "label": json.dumps(topics)})
    return rows


def regression(count: int, random: Random) -> Rows:
    rows = []
    for _ in range(count):
        sport = random.randint(0, 6)
        words = random.choices(WORDS["sport"], k=sport) + random.choices(FILLER, k=10 - sport)
        random.shuffle(words)
        rows.append({"text": " ".join(words), "label": str(sport * 10)})
    return rows


def ner(count: int, random: Random) -> Rows:
    rows = []
    for _ in range(count):
        text = ""
        spans: list[list[object]] = []
        for _ in range(8):
            kind = random.choice([None, None, "sport", "money"])
            word = random.choice(WORDS[kind] if kind else FILLER)
            if kind and not any(span[1] == len(text) - 1 for span in spans):
                spans.append([len(text), len(text) + len(word), kind])
            text += word + " "
        rows.append({"text": text.strip(), "label": json.dumps(spans)})
    return rows


def pair(count: int, random: Random) -> Rows:
    rows = []
    for _ in range(count):
        first, second = random.choice(TOPICS), random.choice(TOPICS)
        same = "same" if first == second else "other"
        texts = {
            "text": " ".join(_words(random, first)),
            "second": " ".join(_words(random, second)),
        }
        rows.append({**texts, "label": same})
    return rows


def similarity(count: int, random: Random) -> Rows:
    rows = pair(count, random)
    return [row | {"label": {"same": "1.5", "other": "-0.5"}[row["label"]]} for row in rows]


def ranking(count: int, random: Random) -> Rows:
    rows = []
    for group in range(count // 4):
        query, found = random.choice(TOPICS), random.randrange(4)
        for place in range(4):
            topic = query if place == found else random.choice([t for t in TOPICS if t != query])
            rows.append(
                {
                    "text": " ".join(_words(random, query)),
                    "second": " ".join(_words(random, topic)),
                    "label": str(int(place == found)),
                    "group": f"q{group}",
                }
            )
    return rows


def question_answering(count: int, random: Random) -> Rows:
    rows = []
    for _ in range(count):
        topic = random.choice(TOPICS)
        others = random.choices([w for t in TOPICS if t != topic for w in WORDS[t]], k=14)
        answer = " ".join(random.choices(WORDS[topic], k=2))
        others.insert(random.randrange(14), answer)
        context = " ".join(others)
        given = [{"text": answer, "answer_start": context.index(answer)}]
        question = " ".join(["which", topic, *random.choices(FILLER, k=3)])
        rows.append({"text": question, "second": context, "label": json.dumps(given)})
    return rows


def pretraining(count: int, random: Random) -> Rows:
    """Documents of four sentences, all of one topic."""
    rows = []
    for _ in range(count):
        topic = random.choice(TOPICS)
        rows.append({"text": " ".join(" ".join(_words(random, topic)) + "." for _ in range(4))})
    return rows


def masked_lm(count: int, random: Random) -> Rows:
    return pretraining(count, random)


ENGLISH = [*FILLER, *(word for group in WORDS.values() for word in group)]
FRENCH = """
    le un de dans après pour neuf dernier ce avec but jeu attaquant ligue entraîneur équipe
    banque actions profit marché échange taux acteur metteur écran oscar film comédie
"""
WORD_FOR = dict(zip(ENGLISH, FRENCH.split(), strict=True))


def translation(count: int, random: Random) -> Rows:
    rows = []
    for row in classification(count, random):
        words = row["text"].split()[:5]
        rows.append({"text": " ".join(words), "label": " ".join(WORD_FOR[word] for word in words)})
    return rows


def retrieval(count: int, random: Random) -> Rows:
    return classification(count, random)


TOYS: dict[str, Callable[[int, Random], Rows]] = {
    toy.__name__: toy
    for toy in (
        classification,
        masked_lm,
        multilabel,
        ner,
        pair,
        similarity,
        pretraining,
        question_answering,
        ranking,
        regression,
        retrieval,
        translation,
    )
}
