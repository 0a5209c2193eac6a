"""Token ids are those of the base's tokenizer, and lengths are measured before truncation."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.records import SPLITS, Lengths
from pipeline.models.heads import head_of
from pipeline.stages.tokenize.params import Masking, TokenizeParams, check
from pipeline.stages.tokenize.stage import _Tables, tokenize
from tests.pipeline.conftest import Home, up_to_tokens
from tests.pipeline.tasks.test_contract import ROWS, make
from tests.pipeline.tasks.toys import TOYS

CUT: dict[str, Any] = {
    "long_text": "truncate",
    "overlap": 0,
    "symmetric": False,
    "vocabulary": None,
    "masking": None,
}


def token_rows(tokenize: Path, split: str) -> dict[str, list[Any]]:
    from datasets import Dataset

    return dict(Dataset.from_file(str(tokenize / "tokens" / f"{split}.arrow")).to_dict())


def test_ids_are_those_of_the_tokenizer(tokens: Home) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokens.recipe.base.model)
    kept = pd.read_parquet(tokens.validate / "kept.parquet").set_index("id")
    rows = token_rows(tokens.tokenize, "test")
    assert len(rows["id"]) == (kept["split"] == "test").sum()
    expected = tokenizer(kept.loc[rows["id"], "text"].tolist(), truncation=True, max_length=24)
    assert rows["input_ids"] == expected["input_ids"]


def test_lengths_are_those_before_the_cut(tokens: Home, tmp_path: Path) -> None:
    params = TokenizeParams(max_length=8, **CUT)
    tokenize(params, tokens.task, tokens.recipe.base, tokens.validate, tmp_path)
    lengths = Lengths.read(tmp_path / "lengths.json")
    assert lengths.truncated_share["train"] == 1.0
    assert lengths.quantiles["max"] == 12  # ten words and two special tokens
    assert {len(row) for row in token_rows(tmp_path, "train")["input_ids"]} == {8}
    assert lengths.pieces == lengths.rows


def test_windows_are_pieces_of_one_row_with_its_label(tokens: Home, tmp_path: Path) -> None:
    params = TokenizeParams(max_length=8, **CUT | {"long_text": "windows", "overlap": 2})
    tokenize(params, tokens.task, tokens.recipe.base, tokens.validate, tmp_path)
    lengths = Lengths.read(tmp_path / "lengths.json")
    assert lengths.pieces["train"] == 2 * lengths.rows["train"]  # ten words: 6, and 4 from the 5th
    rows = token_rows(tmp_path, "train")
    assert rows["id"][::2] == rows["id"][1::2]
    assert rows["labels"][::2] == rows["labels"][1::2]
    first, second = rows["input_ids"][:2]
    assert first[-3:-1] == second[1:3]  # the overlap


def test_training_pairs_are_read_in_both_orders_where_that_is_asked(
    tiny_base: Path, tmp_path: Path
) -> None:
    home = up_to_tokens(make("pair", TOYS["pair"](ROWS, Random(3)), tmp_path / "data", tiny_base))
    once = {split: token_rows(home.tokenize, split) for split in SPLITS}
    params = home.recipe.tokenize.model_copy(update={"symmetric": True})
    lengths = tokenize(params, home.task, home.recipe.base, home.validate, tmp_path / "both")
    both = {split: token_rows(tmp_path / "both", split) for split in SPLITS}
    assert both["test"] == once["test"]
    assert both["validation"] == once["validation"]
    rows = lengths.rows["train"]
    assert lengths.pieces["train"] == 2 * rows == 2 * len(once["train"]["id"])
    own, turned = (
        {k: v[part] for k, v in both["train"].items()} for part in (slice(rows), slice(rows, None))
    )
    assert own == once["train"]
    assert (turned["id"], turned["labels"]) == (own["id"], own["labels"])
    for before, now in zip(own["input_ids"], turned["input_ids"], strict=True):
        begin, end = before[0], before[-1]
        split = before.index(end)
        assert now == [begin, *before[split + 1 : -1], end, *before[1:split], end]


def test_texts_that_have_their_places_are_not_turned(tokens: Home) -> None:
    params = TokenizeParams(max_length=8, **CUT | {"symmetric": True})
    with pytest.raises(ValueError, match="symmetric: the order of the texts matters for class"):
        check(params, tokens.task)


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"overlap": 4}, "for windows only"), ({"long_text": "windows", "overlap": 9}, "half")],
)
def test_an_overlap_that_means_nothing_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        TokenizeParams(**{"max_length": 16, **CUT, **changes})


def test_a_length_that_the_base_does_not_take_is_refused(tokens: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes at most 64 tokens: set"):
        params = TokenizeParams(max_length=65, **CUT)
        tokenize(params, tokens.task, tokens.recipe.base, tokens.validate, tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "t5", "llama"])
def test_a_base_that_is_not_an_encoder_is_refused(tokens: Home, tmp_path: Path, kind: str) -> None:
    shutil.copytree(tokens.recipe.base.model, tmp_path / "base")
    config = tmp_path / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": kind}))
    base = tokens.recipe.base.model_copy(update={"model": str(tmp_path / "base")})
    with pytest.raises(UserError, match=f"'{kind}', which is not a supported encoder"):
        tokenize(tokens.recipe.tokenize, tokens.task, base, tokens.validate, tmp_path / "out")


@pytest.mark.parametrize(
    ("task", "config", "message"),
    [
        ("pretraining", {"model_type": "distilbert"}, "is a distilbert, and pretraining needs"),
        (
            "masked_lm",
            {"model_type": "roberta"},
            "is a roberta, and masked_lm needs bert",
        ),
        (
            "pretraining",
            {"model_type": "bert", "type_vocab_size": 1},
            "has no token types for two texts",
        ),
        (
            "question_answering",
            {"model_type": "nomic_bert"},
            "is a nomic_bert, and question_answering needs albert or",
        ),
    ],
)
def test_a_base_that_a_tasks_heads_do_not_fit_is_refused(
    task: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        head_of(tasks.get(task)).check_base(tmp_path, "base", tasks.get(task))


def test_what_writes_reads_a_text_at_once() -> None:
    params = TokenizeParams.model_construct(
        long_text="windows", overlap=0, masking=None, vocabulary=object()
    )
    with pytest.raises(ValueError, match="long_text: translation reads a text in one piece"):
        check(params, tasks.get("translation"))


def test_pairs_are_not_asked_of_packed_documents() -> None:
    masking = Masking(probability=0.15, whole_words=True, packed=True)
    params = TokenizeParams.model_construct(
        long_text="windows", overlap=0, symmetric=False, masking=masking, vocabulary=None
    )
    check(params, tasks.get("masked_lm"))
    with pytest.raises(ValueError, match="packed: pretraining splits passages of one document"):
        check(params, tasks.get("pretraining"))


def test_words_and_tokens_are_counted_of_the_same_part_of_a_long_text(
    tokens: Home, tmp_path: Path
) -> None:
    encoder = tasks.get("classification").encoder(
        tokens.tokenize / "tokenizer" / "tokenizer.json", 8, "truncate", 0
    )
    tables = _Tables(encoder, tasks.get("classification"), [], None)
    texts = [("goal " * 1000, "")]
    tables._count(texts, encoder.encodings(texts))
    assert tables.tokens == pytest.approx(tables.words, abs=1)


def test_a_base_that_knows_little_of_the_texts_is_refused(tokens: Home, tmp_path: Path) -> None:
    kept = pd.read_parquet(tokens.validate / "kept.parquet")
    kept["text"] = "今天天气很好 " + kept["text"].str[:5]
    (tmp_path / "validate").mkdir()
    kept.to_parquet(tmp_path / "validate" / "kept.parquet")
    shutil.copy(tokens.validate / "validation.json", tmp_path / "validate")
    params = TokenizeParams(max_length=24, **CUT)
    with pytest.raises(UserError, match=r"base.model: .+ knows only [1-4]\d\.\d% of the tokens"):
        tokenize(params, tokens.task, tokens.recipe.base, tmp_path / "validate", tmp_path / "out")
