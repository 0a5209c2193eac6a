"""Masking follows the 15 and 80/10/10 rules, passages are whole, and the loss is BERT's."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import BertForPreTraining

from pipeline.core.config import parse
from pipeline.core.records import SPLITS, Lengths
from pipeline.models import pretraining_heads
from pipeline.models.collation import MaskedLMCollator
from pipeline.models.encoders import pooling_of
from pipeline.models.heads import masked_lm
from pipeline.models.heads.base import Start
from pipeline.recipe import Recipe
from pipeline.stages import artifacts
from pipeline.stages.finetune.batching import LengthSampler, MaskedPassages, lengths_of
from pipeline.stages.finetune.losses import Loss
from pipeline.stages.finetune.params import FinetuneParams, check
from pipeline.stages.finetune.stage import finetune
from pipeline.tasks import get
from pipeline.tasks.base import IGNORED, LossOptions
from pipeline.tasks.base.masked_lm import BEST, _Frequencies
from pipeline.tasks.base.masking import Vocabulary, masked
from pipeline.tasks.base.masking_encoder import FOLLOWS, RANDOM, MaskedPiece, MaskingEncoder
from pipeline.tasks.base.passages import Passage, packed, paired, passages, sentences
from tests.conftest import toy_block, write_csv
from tests.pipeline.conftest import Home, make_home, up_to_tokens
from tests.pipeline.tasks.test_contract import block_of, make
from tests.pipeline.tasks.toys import pretraining

MASK, FIRST, SEPARATOR = 3, 1, 2
SIZE = 1000
special = np.zeros(SIZE, bool)
special[:5] = True
continues = np.zeros(SIZE, bool)
continues[700:] = True
WORDS = Vocabulary(MASK, FIRST, SEPARATOR, special, continues)


def within(count: int, of: int, share: float) -> bool:
    """True if a count is within three standard errors of a share."""
    return abs(count - of * share) <= 3 * np.sqrt(of * share * (1 - share))


@pytest.mark.parametrize("whole_words", [False, True])
def test_of_a_million_tokens_15_percent_are_hidden_by_the_80_10_10_rule(whole_words: bool) -> None:
    random = np.random.default_rng(17)
    seen, chosen, fates = 0, 0, Counter[str]()
    while seen < 1_000_000:
        ids = random.integers(5, SIZE, size=int(random.integers(60, 254)))
        found, targets = masked(ids, WORDS, 0.15, whole_words, random)
        places = np.flatnonzero(targets != IGNORED)
        assert (targets[places] == ids[places]).all()
        untouched = np.delete(np.arange(len(ids)), places)
        assert (found[untouched] == ids[untouched]).all()
        seen, chosen = seen + len(ids), chosen + len(places)
        now, truth = found[places], ids[places]
        fates["masked"] += int((now == MASK).sum())
        fates["kept"] += int((now == truth).sum())
        fates["other"] += int(((now != MASK) & (now != truth)).sum())
    assert within(chosen, seen, 0.15)
    by_chance = 0.1 / (SIZE - 5)  # another token that is the same by chance
    assert within(fates["masked"], chosen, 0.8)
    assert within(fates["kept"], chosen, 0.1 + by_chance)
    assert within(fates["other"], chosen, 0.1 - by_chance)


def test_whole_words_are_hidden_whole() -> None:
    random = np.random.default_rng(3)
    ids = [10, 700, 701, 11, 12, 702, 13, 14, 15, 16, 703]
    words = [{0, 1, 2}, {3}, {4, 5}, {6}, {7}, {8}, {9, 10}]
    for _ in range(200):
        _, targets = masked(ids, WORDS, 0.4, True, random)
        places = set(np.flatnonzero(targets != IGNORED).tolist())
        assert all(word <= places or not word & places for word in words)


def test_special_tokens_are_neither_hidden_nor_drawn() -> None:
    random = np.random.default_rng(3)
    ids = [FIRST, *[20] * 40, SEPARATOR, *[21] * 40, SEPARATOR]
    for _ in range(200):
        found, targets = masked(ids, WORDS, 0.5, False, random)
        assert targets[[0, 41, 82]].tolist() == [IGNORED] * 3
        assert set(found[special[found]].tolist()) <= {FIRST, SEPARATOR, MASK}


def test_something_is_hidden_of_the_shortest_text_and_nothing_of_none() -> None:
    random = np.random.default_rng(3)
    assert masked([50], WORDS, 0.15, True, random)[1].tolist() == [50]
    assert masked([FIRST, SEPARATOR], WORDS, 0.15, False, random)[1].tolist() == [IGNORED] * 2
    assert (masked([50, 700, 701], WORDS, 0.15, True, random)[1] != IGNORED).all()


# passages


def test_sentences_end_at_their_marks() -> None:
    text = 'He said "No." Then Mr. X left... Really?! Yes<br />so. 好的。他说：“不！”然后走了\nend'
    assert sentences(text) == [
        'He said "No."',
        "Then Mr.",
        "X left...",
        "Really?!",
        "Yes<br />so.",
        "好的。",
        "他说：“不！”",
        "然后走了",
        "end",
    ]


documents = st.lists(
    st.lists(st.lists(st.integers(5, 99), min_size=1, max_size=9), max_size=6), min_size=1
)


@given(documents, st.integers(2, 12))
def test_passages_hold_all_of_a_document_in_order_and_end_with_sentences(
    texts: list[list[list[int]]], room: int
) -> None:
    for number, tokens in enumerate(texts):
        found = list(passages(number, tokens, room))
        assert [i for each in found for i in each.ids] == [i for part in tokens for i in part]
        for each in found:
            assert len(each.ids) <= room
            assert each.ends[-1] == len(each.ids)
            assert sorted(set(each.ends)) == list(each.ends)


@given(documents, st.integers(2, 12))
def test_packed_passages_are_full_and_hold_everything(
    texts: list[list[list[int]]], room: int
) -> None:
    found = list(packed(texts, room, SEPARATOR))
    whole = [i for each in found for i in each.ids]
    assert [i for i in whole if i != SEPARATOR] == [i for t in texts for part in t for i in part]
    assert all(len(each.ids) == room for each in found[:-1])


def pairs_of(
    asked: Iterable[Passage], of: list[Passage], room: int, draw: np.random.Generator
) -> Iterator[tuple[Passage, Sequence[int], Sequence[int], bool]]:
    """Passages that can be split, their two parts, and True if the second part is their own."""
    for own in asked:

        def another(own: Passage = own) -> Passage:
            while (found := of[int(draw.integers(len(of)))]).document == own.document:
                pass
            return found

        if pair := paired(own, another, room, draw):
            yield own, *pair


def test_half_of_the_pairs_follow_and_the_others_are_of_another_document() -> None:
    random = np.random.default_rng(5)
    of = [Passage(d, [100 * d + i for i in range(30)], range(5, 31, 5)) for d in range(1, 9)]
    follows = asked = 0
    for own, a, b, truth in pairs_of(of * 500, of, 30, random):
        assert len(a) + len(b) <= 30
        assert min(len(a), len(own.ids) - len(a)) >= 30 / 4
        assert list(a) == list(own.ids[: len(a)])
        if truth:
            assert [*a, *b] == list(own.ids)
        else:
            assert {i // 100 for i in b} == {b[0] // 100} != {own.document}
        asked, follows = asked + 1, follows + truth
    assert asked == 4000
    assert within(follows, asked, 0.5)


def test_a_passage_of_one_sentence_or_with_a_long_one_is_not_parted() -> None:
    random = np.random.default_rng(5)
    other = Passage(2, range(20), [10, 20])
    assert paired(Passage(1, range(20), [20]), lambda: other, 30, random) is None
    assert paired(Passage(1, range(20), [4, 16, 20]), lambda: other, 30, random) is None
    assert paired(other, lambda: Passage(1, range(20), [20]), 30, random) is None


def test_neither_length_nor_form_tells_whether_a_passage_follows() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import cross_val_score

    random = np.random.default_rng(5)
    of: list[Passage] = []
    for document in range(2000):
        long = random.integers(3, 60, size=int(random.integers(1, 20)))
        # the first sentence of a document begins otherwise, and each ends with a mark
        of += passages(document, [[8 + bool(i), *[9] * int(n), 7] for i, n in enumerate(long)], 125)
    shapes, truths = [], []
    for _, a, b, truth in pairs_of(of, of, 125, random):
        shapes.append((len(a), len(b), len(a) + len(b), a[-1], b[0], b[-1]))
        truths.append(truth)
    assert len(truths) > 3000
    judge = HistGradientBoostingClassifier(max_iter=40)
    assert cross_val_score(judge, np.array(shapes), truths, cv=3).mean() < 0.54


# the encoder


def beside(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Documents, each with the one before it."""
    texts = [row["text"] for row in rows]
    return [(text, texts[place - 1]) for place, text in enumerate(texts)]


def an_encoder(task: str, base: Path, packed: bool = False) -> MaskingEncoder:
    masking = {"probability": 0.15, "whole_words": True, "packed": packed}
    encoder = get(task).encoder(base / "tokenizer.json", 48, "windows", 0, masking)
    assert isinstance(encoder, MaskingEncoder)
    return encoder


@pytest.fixture
def masker(tiny_base: Path) -> MaskingEncoder:
    return an_encoder("pretraining", tiny_base)


def test_the_same_text_is_asked_in_the_same_way_whatever_is_asked_beside_it(
    masker: MaskingEncoder,
) -> None:
    rows = beside(pretraining(20, Random(1)))
    together = masker.pieces(rows)
    alone = [piece for row in rows for piece in masker.pieces([row])]
    assert [(p.ids, p.targets) for p in together] == [(p.ids, p.targets) for p in alone]
    assert {piece.targets[0] for piece in together} == {FOLLOWS, RANDOM}
    assert all(piece.targets[0] == IGNORED for piece in masker.pieces([(rows[0][0], "")]))


def test_a_person_asks_for_what_stands_at_their_masks(masker: MaskingEncoder) -> None:
    (piece,) = masker.pieces([("the [MASK] of the league", "")])
    assert [token for token in piece.targets if token != IGNORED] == [masker.vocabulary.mask]
    assert piece.user_masks


def test_a_mask_of_a_document_that_is_learned_from_is_no_question(
    masker: MaskingEncoder,
) -> None:
    (passage,) = masker.passages_of(masker.encodings([("the [MASK] of the league", "")]))
    assert masker.vocabulary.mask not in passage.ids
    piece = masker.drawn(0, passage, None, np.random.default_rng(1))
    assert not piece.user_masks


@pytest.mark.parametrize("packed", [True, False])
def test_documents_are_learned_from_packed_or_each_by_itself(packed: bool, tiny_base: Path) -> None:
    masker = an_encoder("masked_lm", tiny_base, packed)
    rows = [(row["text"], "") for row in pretraining(20, Random(1))]
    found = masker.passages_of(masker.encodings(rows))
    mixed = [p for p in found if masker.vocabulary.separator in p.ids]
    assert bool(mixed) == packed
    assert all(len(p.ids) == 46 for p in found[:-1]) == packed
    if not packed:
        assert {passage.document for passage in found} == set(range(20))


def test_passages_are_drawn_beside_any_of_another_document(masker: MaskingEncoder) -> None:
    book, note = [f"b{n}" for n in range(5000)], ["note"] * 2
    ids = [*note, *["book"] * len(book), "tail"]
    rows = Dataset.from_dict(
        {
            "id": ids,
            "input_ids": [[10 + (name != "book")] * 12 for name in ids],
            "labels": [[4, 8, 12]] * len(ids),
        }
    )
    drawn = MaskedPassages(rows, masker, LengthSampler(np.full(len(ids), 12), 4, 1))
    assert drawn.bounds.tolist() == [0, 2, 5002, 5003]
    seen = set()

    def drawn_of(place: int) -> None:
        masking_encoder_drawn = masker.drawn

        def spied(row: int, passage: Passage, another: Any, random: np.random.Generator) -> Any:
            seen.update((place, another().document) for _ in range(40))
            return masking_encoder_drawn(row, passage, another, random)

        drawn.encoder = SimpleNamespace(drawn=spied)  # type: ignore[assignment]
        drawn[place]

    for place in (0, 700, 5002):
        drawn_of(place)
    assert {of for place, of in seen if place == 700} == {"note", "tail"}
    assert {of for place, of in seen if place == 0} <= {"book", "tail"}
    assert {of for place, of in seen if place == 5002} <= {"book", "note"}


def test_no_pair_is_of_two_splits_and_no_stranger_of_the_same_document(
    tiny_base: Path, tmp_path: Path
) -> None:
    """Asked of the texts themselves: what stands in a second part is looked for in all of them."""
    home = up_to_tokens(make("pretraining", pretraining(200, Random(4)), tmp_path, tiny_base))
    tokenizer = Tokenizer.from_file(str(tiny_base / "tokenizer.json"))
    documents = {
        split: {
            row["id"]: tokenizer.encode(row["text"], add_special_tokens=False).ids
            for row in artifacts.kept_rows(home.validate, split).to_dict("records")
        }
        for split in SPLITS
    }
    encoder = artifacts.encoder(home.tokenize, home.task)
    assert isinstance(encoder, MaskingEncoder)
    for split in SPLITS:
        pieces = Dataset.from_file(str(home.tokenize / "tokens" / f"{split}.arrow"))
        ids = pieces["id"]
        if split == "train":
            order = LengthSampler(lengths_of(pieces), 4, 1)
            pieces = MaskedPassages(pieces, encoder, order)
        kinds = Counter[int]()
        for place in range(len(pieces)):
            piece = pieces[place]
            *_, end = (i for i, side in enumerate(piece["token_type_ids"]) if not side)
            whole = np.where(
                np.array(piece["labels"]) == IGNORED, piece["input_ids"], piece["labels"]
            )
            kinds[piece["labels"][0]] += 1
            for kind, part in ((FOLLOWS, whole[1:end]), (piece["labels"][0], whole[end + 1 : -1])):
                found = {
                    (of, name)
                    for of, texts in documents.items()
                    for name, tokens in texts.items()
                    if holds(tokens, part.tolist())
                }
                if kind == FOLLOWS:
                    assert (split, ids[place]) in found
                elif kind == RANDOM:
                    assert {of for of, _ in found} == {split}
                    assert (split, ids[place]) not in found
        assert min(kinds[FOLLOWS], kinds[RANDOM]) >= 5, split


def holds(tokens: list[int], part: list[int]) -> bool:
    """True if one list stands within another."""
    return any(tokens[i : i + len(part)] == part for i in range(len(tokens) - len(part) + 1))


# answers


def answer(said: list[str], right: float = 1, hidden: float = 2) -> str:
    counts = {"hidden": hidden, "right": right, "log": -1.0, "pairs": 0.0, "followed": 0.0}
    return json.dumps({**counts, "said": said})


def test_models_that_were_asked_otherwise_are_compared_by_what_they_know() -> None:
    task = get("pretraining")
    same = task.agreement([answer(["a", "b"])], [answer(["a", "c"])])
    assert same.tolist() == [0.5]
    other = task.agreement([answer(["a", "b"], 1, 2)], [answer(["a", "b", "c"], 3, 4)])
    assert other.tolist() == [0.75]
    assert task.agreement([answer(["a", "b"], 1, 2)], ["itself"]).tolist() == [0.5]


def test_the_baseline_of_pairs_counts_words_and_parts_no_equals(
    masker: MaskingEncoder,
) -> None:
    frequent = _Frequencies(Counter({20: 5, 21: 1}), masker.vocabulary)
    mask, end = masker.vocabulary.mask, masker.vocabulary.separator
    piece = MaskedPiece(0, [1, 20, mask, end, 21, mask, end], [0] * 4 + [1] * 3, [FOLLOWS], str)
    assert frequent.shared(piece) == 0  # what both must have is not shared
    frequent.shared = lambda piece: piece.row / 10  # type: ignore[method-assign]
    told = [(1, RANDOM), (2, FOLLOWS), (2, FOLLOWS), (2, RANDOM), (3, FOLLOWS)]
    frequent.learn_overlap(MaskedPiece(row, [], [], [truth], str) for row, truth in told)
    assert frequent.threshold == 0.2


# the loss


def test_the_loss_is_that_of_bert_for_pretraining(tiny_base: Path, masker: MaskingEncoder) -> None:
    torch.manual_seed(2)
    bert = BertForPreTraining.from_pretrained(tiny_base).eval()
    ours = pretraining_heads.BertForPreTraining.from_pretrained(tiny_base)
    ours.load_state_dict(bert.state_dict())
    task = get("pretraining")
    rows = beside(pretraining(20, Random(1)))
    batch = MaskedLMCollator(0, typed=True)(
        [
            {"input_ids": p.ids, "token_type_ids": p.types, "labels": p.targets}
            for p in masker.pieces(rows)
        ]
    )
    targets = batch.pop("labels")
    mask = batch["attention_mask"].bool()
    words = targets.clone()
    words[:, 0] = IGNORED
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    truth = bert(**given, labels=words, next_sentence_label=targets[:, 0]).loss
    for module in ours.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    truth.backward()
    for model in (ours.eval(), ours.train()):
        model.zero_grad()
        loss = task.loss(model(**batch).logits, targets, LossOptions(mask)) / task.counted(targets)
        loss.backward()
        assert loss.item() == pytest.approx(truth.item(), abs=1e-6)
        for (name, own), (_, other) in zip(
            model.named_parameters(), bert.named_parameters(), strict=True
        ):
            assert torch.allclose(own.grad, other.grad, atol=1e-6), name


def test_pairs_count_as_much_as_is_said_and_validation_as_in_bert() -> None:
    params = FinetuneParams(
        **toy_block("base", "rows.csv")["finetune"] | {"next_sentence_weight": 20}
    )
    loss = Loss(get("pretraining"), params, {})
    logits = torch.randn(4, 6, 1 + 2 * BEST).requires_grad_()
    targets = torch.full((4, 6), IGNORED)
    targets[:, 0] = torch.tensor([FOLLOWS, RANDOM, IGNORED, FOLLOWS])
    targets[:, 3:5] = 7
    mask = torch.ones(4, 6, dtype=torch.bool)
    of_words = -logits[:, 3:5, 0].mean()
    asked = targets[:, 0] != IGNORED
    of_pairs = torch.nn.functional.cross_entropy(logits[asked, 0, 1:3], targets[asked, 0])
    trained = loss(logits, targets, mask) / 8
    assert trained.item() == pytest.approx((of_words + 20 * of_pairs).item(), rel=1e-5)
    with torch.no_grad():
        validated = loss(logits.detach(), targets, mask) / 8
    assert validated.item() == pytest.approx((of_words + of_pairs).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["masked_lm", "classification"])
def test_a_task_without_pairs_gives_them_no_weight(name: str) -> None:
    params = FinetuneParams(
        **toy_block("base", "rows.csv")["finetune"] | {"next_sentence_weight": 2}
    )
    with pytest.raises(ValueError, match=f"next_sentence_weight: {name} has no sentence pairs"):
        check(params, get(name))


# from scratch


@pytest.mark.parametrize(("task", "pooling"), [("pretraining", "cls"), ("masked_lm", "mean")])
def test_a_base_is_made_of_random_weights_and_learned_words_and_others_start_from_it(
    task: str, pooling: str, tmp_path: Path, tiny_base: Path
) -> None:
    source = write_csv(tmp_path / "rows.csv", pretraining(120, Random(3)))
    block = block_of(task, tiny_base, source)
    block["base"] = {
        "model": "scratch",
        "sha256": None,
        "watch": "constraints.txt",
        "languages": None,
        "han_characters": False,
        "network": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 24,
        },
    }
    block["tokenize"]["vocabulary"] = {"size": 100, "lower_case": True, "min_frequency": 2}
    home = up_to_tokens(Home(tmp_path / "zh", parse(Recipe, block, "recipes.zh")))
    r, t = home.recipe, home.task
    fit = finetune(
        r.finetune, t, r.base, home.validate, home.tokenize, home.finetune, tmp_path / "s"
    )
    assert fit.base == "scratch"
    assert not (tmp_path / "s").exists()
    again = finetune(
        r.finetune, t, r.base, home.validate, home.tokenize, tmp_path / "again", tmp_path / "s"
    )
    assert again.weights_sha256 == fit.weights_sha256

    model = home.finetune / "model"
    assert BertForPreTraining.from_pretrained(model).config.vocab_size <= 100
    other = make_home(tmp_path / "news", model, rows=60)
    taught = up_to_tokens(other)
    r, t = taught.recipe, taught.task
    taught_fit = finetune(
        r.finetune, t, r.base, taught.validate, taught.tokenize, taught.finetune, tmp_path / "s"
    )
    assert taught_fit.pooling == pooling
    lengths = Lengths.read(taught.tokenize / "lengths.json")
    assert lengths.coverage > 0.9
    assert 1 <= lengths.fertility < 8


def test_what_goes_on_learning_stands_for_a_text_as_its_base_did(
    tiny_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "classifier_pooling": "mean"}))
    for folder, pooling in ((base, "mean"), (tiny_base, "cls")):
        start = Start(folder, "base", [], {}, folder)
        masked_lm.HEAD.build(start).save_pretrained(tmp_path / pooling)
        assert pooling_of(tmp_path / pooling) == pooling
