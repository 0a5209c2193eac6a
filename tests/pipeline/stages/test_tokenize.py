"""Token ids are those of the base's tokenizer, and lengths are told before the cut."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.adapters.tokens import read_tokens
from pipeline.errors import UserError
from pipeline.records import Lengths
from pipeline.stages.tokenize import TokenizeParams, tokenize
from tests.pipeline.conftest import Home


def test_ids_are_those_of_the_tokenizer(tokens: Home) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokens.recipe.base.model)
    kept = pd.read_parquet(tokens.validate / "kept.parquet").set_index("id")
    rows = read_tokens(tokens.tokenize, "test")
    assert len(rows.ids) == (kept["split"] == "test").sum()
    expected = tokenizer(kept.loc[rows.ids, "text"].tolist(), truncation=True, max_length=24)
    assert rows.tokens == expected["input_ids"]


def test_lengths_are_those_before_the_cut(tokens: Home, tmp_path: Path) -> None:
    params = TokenizeParams(max_length=8)
    tokenize(params, tokens.recipe.base, tokens.validate, tmp_path)
    lengths = Lengths.read(tmp_path / "lengths.json")
    assert lengths.truncated_share["train"] == 1.0
    assert lengths.quantiles["max"] == 12  # ten words and two special tokens
    assert {len(row) for row in read_tokens(tmp_path, "train").tokens} == {8}


def test_a_length_that_the_base_does_not_take_is_refused(tokens: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes at most 64 tokens: set"):
        tokenize(TokenizeParams(max_length=65), tokens.recipe.base, tokens.validate, tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "t5", "llama"])
def test_a_base_that_is_not_an_encoder_is_refused(tokens: Home, tmp_path: Path, kind: str) -> None:
    shutil.copytree(tokens.recipe.base.model, tmp_path / "base")
    config = tmp_path / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": kind}))
    base = tokens.recipe.base.model_copy(update={"model": str(tmp_path / "base")})
    with pytest.raises(UserError, match=f"'{kind}', which is not an encoder"):
        tokenize(tokens.recipe.tokenize, base, tokens.validate, tmp_path / "out")
