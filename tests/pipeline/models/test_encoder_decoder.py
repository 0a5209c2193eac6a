"""The exported parts of a translator compute the same as transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from pipeline.models import encoder_decoder
from pipeline.models.heads.seq2seq import Decoder
from pipeline.tasks.base.runtime import Ints
from pipeline.tasks.translation.beam_search import search

DECODER = Decoder(layers=2, max_length=20, num_beams=3, length_penalty=1.0)
TEXTS = ["the goal of the team", "a bank", "new shares in the last market of this trade"]


@pytest.fixture(scope="module")
def words(tiny_base: Path) -> Tokenizer:
    words = Tokenizer.from_file(str(tiny_base / "tokenizer.json"))
    words.enable_padding()
    return words


@pytest.fixture(scope="module")
def model(tiny_base: Path, words: Tokenizer) -> torch.nn.Module:
    torch.manual_seed(3)
    made = encoder_decoder.new(tiny_base, "base", DECODER, words, {})
    for name, weights in made.decoder.named_parameters():
        if "LayerNorm" not in name:
            torch.nn.init.normal_(weights, std=0.3)
    return made.eval()


@torch.inference_mode()
def test_the_parts_that_are_exported_write_what_transformers_writes(
    model: torch.nn.Module, words: Tokenizer
) -> None:
    encoded = words.encode_batch(TEXTS)
    ids = torch.tensor([each.ids for each in encoded])
    mask = torch.tensor([each.attention_mask for each in encoded])
    settings = {
        "begin": words.token_to_id("[CLS]"),
        "end": words.token_to_id("[SEP]"),
        "beams": 3,
        "most": 10,
    }
    expected = search(encoder_decoder.steps(model, ids, mask), len(TEXTS), **settings)
    generated = model.generate(
        ids,
        attention_mask=mask,
        num_beams=3,
        max_new_tokens=10,
        eos_token_id=settings["end"],
        pad_token_id=0,
    )
    ends = (0, settings["end"])
    assert [[t for t in row[1:].tolist() if t not in ends] for row in generated] == [
        [t for t in tokens if t not in ends] for tokens, _ in expected
    ]

    reading = encoder_decoder.EncoderExport(model)
    writing = encoder_decoder.DecoderExport(model)
    read = reading(ids, mask)
    past = read[:, :, :, :0]
    logs = []

    def step(tokens: Ints, of: Ints, before: Ints) -> np.ndarray:
        nonlocal past
        found, past = writing(*map(torch.from_numpy, (tokens, of, before)), past, read, mask)
        logs.append(found)
        return found.numpy()

    assert search(step, len(TEXTS), **settings) == [
        (tokens, pytest.approx(score, abs=1e-5)) for tokens, score in expected
    ]
    assert len(logs) > 3
