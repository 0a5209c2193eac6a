"""Beam search finds what transformers' own finds, token for token."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

from pipeline.tasks.base.runtime import Ints
from pipeline.tasks.translation.beam_search import search

BEGIN, END, PAD, SIZE = 1, 2, 0, 40


@pytest.fixture(scope="module")
def translator() -> EncoderDecoderModel:
    torch.manual_seed(5)
    sizes = {
        "vocab_size": SIZE,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "initializer_range": 0.6,
    }
    config = EncoderDecoderConfig.from_encoder_decoder_configs(
        BertConfig(**sizes), BertConfig(**sizes, is_decoder=True, add_cross_attention=True)
    )
    config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = BEGIN, END, PAD
    model = EncoderDecoderModel(config).eval()
    model.decoder.cls.predictions.bias.data[END] += 3  # texts of different lengths
    return model


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("beams", [2, 4])
@torch.inference_mode()
def test_the_same_tokens_as_by_generate(
    translator: EncoderDecoderModel, beams: int, penalty: float
) -> None:
    sources = torch.randint(3, SIZE, (12, 7), generator=torch.manual_seed(beams))
    expected = translator.generate(
        sources,
        attention_mask=torch.ones_like(sources),
        num_beams=beams,
        max_new_tokens=12,
        length_penalty=penalty,
        decoder_start_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    states = translator.encoder(sources).last_hidden_state
    prefixes: list[list[int]] = [[] for _ in sources]

    def step(tokens: Ints, of: Ints, before: Ints) -> np.ndarray:
        nonlocal prefixes
        prefixes = [[*prefixes[old], token] for old, token in zip(before, tokens, strict=True)]
        logits = translator.decoder(
            torch.tensor(prefixes), encoder_hidden_states=states[torch.from_numpy(of)]
        ).logits
        return logits[:, -1].log_softmax(-1).numpy()

    found = search(
        step, len(sources), begin=BEGIN, end=END, beams=beams, most=12, length_penalty=penalty
    )
    truth = [[t for t in row[1:].tolist() if t not in (END, PAD)] for row in expected]
    said = [[t for t in tokens if t != PAD] for tokens, _ in found]
    assert said == truth
    assert len({len(tokens) for tokens in said}) > 1
