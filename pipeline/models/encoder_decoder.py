"""Encoder-decoder models that write text, in PyTorch and in the form that is exported.

Import it inside a function: it loads PyTorch.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertLMHeadModel,
    DynamicCache,
    EncoderDecoderCache,
    EncoderDecoderModel,
    GenerationConfig,
)

from pipeline.models import encoders
from pipeline.models.families import BERT, family_of

if TYPE_CHECKING:
    from pipeline.tasks.base.runtime import Ints, Step


def new(
    folder: Path,
    name: str,
    decoder: Any,
    tokenizer: Any,
    dropouts: Mapping[str, Any],
    dropout: float = 0.0,
) -> Any:
    """Return the encoder of a base with a new decoder of random weights.

    The decoder is as wide as the encoder and attends to its output (Rothe et al. 2020); `decoder`
    holds its settings, `tokenizer` (`tokenizers.Tokenizer`) its vocabulary. `dropouts` are the
    encoder's settings, `dropout` is that of the decoder's states.
    """
    encoder = encoders.load(AutoModel, folder, name, **dropouts)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # the decoder reads each token
    source = encoder.config
    family = family_of(source)
    begin, end, padding = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", "[PAD]"))
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=source.hidden_size,
        num_hidden_layers=decoder.layers,
        num_attention_heads=source.num_attention_heads,
        intermediate_size=getattr(source, family.inner_size),
        max_position_embeddings=decoder.max_length,
        type_vocab_size=1,
        is_decoder=True,
        add_cross_attention=True,
        pad_token_id=padding,
        bos_token_id=begin,
        eos_token_id=end,
        **BERT.dropouts(dropout, dropouts.get(family.attention_dropout, 0.0)),
    )
    model = EncoderDecoderModel(encoder=encoder, decoder=BertLMHeadModel(config))
    model.config.decoder_start_token_id = begin
    model.config.pad_token_id = source.pad_token_id or 0
    model.generation_config = GenerationConfig(
        decoder_start_token_id=begin,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=padding,
        max_length=decoder.max_length,
        num_beams=decoder.num_beams,
        length_penalty=decoder.length_penalty,
    )
    for each in (model.config, source, config):
        each._name_or_path = ""
    return model


def greedy(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return greedily decoded texts, (texts, 1 + tokens): a 0, then the tokens before the end
    token, then -1."""
    config = model.decoder.config
    generated = model.generate(
        ids,
        attention_mask=mask,
        num_beams=1,
        do_sample=False,
        max_new_tokens=config.max_position_embeddings - 1,
        decoder_start_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    tokens = generated[:, 1:]
    ended = (tokens == config.eos_token_id).cumsum(1) > 0
    return torch.cat([torch.zeros_like(generated[:, :1]), tokens.masked_fill(ended, -1)], 1)


def steps(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> "Step":
    """Return the decoding step of some texts, by transformers' own decoder and cache."""
    with torch.inference_mode():
        states = model.encoder(ids, attention_mask=mask).last_hidden_state
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    started = False

    def step(tokens: "Ints", of: "Ints", before: "Ints") -> "np.typing.NDArray[np.float32]":
        nonlocal started
        with torch.inference_mode():
            if started:
                cache.reorder_cache(torch.from_numpy(before).to(ids.device))
            started = True
            source = torch.from_numpy(of).to(ids.device)
            logits = model.decoder(
                torch.from_numpy(tokens).to(ids.device)[:, None],
                encoder_hidden_states=states[source],
                encoder_attention_mask=mask[source],
                past_key_values=cache,
                use_cache=True,
            ).logits
            logs = logits[:, -1].float().log_softmax(-1)
        return np.asarray(logs.cpu().numpy())

    return step


# export


class EncoderExport(torch.nn.Module):
    """Encoder whose output is the keys and values for the cross-attention of each decoder layer,
    (2 x layers, texts, heads, tokens, width)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.layers = model.decoder.bert.encoder.layer

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(ids, attention_mask=mask).last_hidden_state
        found = []
        for layer in self.layers:
            attention = layer.crossattention.self
            found += [_heads(part(states), attention) for part in (attention.key, attention.value)]
        return torch.stack(found)


def examples(read: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return inputs of `DecoderExport` for three hypotheses of three tokens each; `read` is the
    encoder's output for two texts of eight tokens."""
    device = read.device
    place = torch.ones(3, dtype=torch.int64, device=device)
    mask = torch.ones(2, 8, dtype=torch.int64, device=device)
    return place, place, place, read[:, :, :, :3], read, mask


class DecoderExport(torch.nn.Module):
    """Decoding step: log probabilities of the next token, and all keys and values so far.

    `before` and `of`, (hypotheses,), index `past`, (2 x layers, hypotheses before, heads, tokens,
    width), and `read`, (2 x layers, texts, heads, tokens, width).
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(
        self,
        tokens: torch.Tensor,
        of: torch.Tensor,
        before: torch.Tensor,
        past: torch.Tensor,
        read: torch.Tensor,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        bert = self.decoder.bert
        past = past.index_select(1, before)
        read = read.index_select(1, of)
        hidden = (1 - mask.index_select(0, of).to(past.dtype))[:, None, None] * torch.finfo(
            past.dtype
        ).min  # (hypotheses, 1, 1, tokens)
        place = torch.full_like(tokens, 0) + past.shape[3]
        embedded = bert.embeddings
        states = (
            embedded.word_embeddings(tokens)
            + embedded.position_embeddings(place)
            + embedded.token_type_embeddings(torch.zeros_like(tokens))
        )
        states = embedded.LayerNorm(states)[:, None]  # (hypotheses, 1, width)
        now = []
        for i, layer in enumerate(bert.encoder.layer):
            own, cross = layer.attention, layer.crossattention
            key = torch.cat([past[2 * i], _heads(own.self.key(states), own.self)], 2)
            value = torch.cat([past[2 * i + 1], _heads(own.self.value(states), own.self)], 2)
            now += [key, value]
            states = own.output(_attended(own.self, states, key, value), states)
            looked = _attended(cross.self, states, read[2 * i], read[2 * i + 1], hidden)
            states = cross.output(looked, states)
            states = layer.output(layer.intermediate(states), states)
        logits = self.decoder.cls(states)[:, 0]
        return logits.log_softmax(-1), torch.stack(now)


def _heads(states: torch.Tensor, attention: Any) -> torch.Tensor:
    """Split states by head: (texts, tokens, width) -> (texts, heads, tokens, width of a head)."""
    count, width = attention.num_attention_heads, attention.attention_head_size
    return states.view(states.shape[0], states.shape[1], count, width).transpose(1, 2)


def _attended(
    attention: Any,
    states: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    hidden: torch.Tensor | None = None,
) -> torch.Tensor:
    query = _heads(attention.query(states), attention)
    scores = query @ key.transpose(-1, -2) / math.sqrt(attention.attention_head_size)
    if hidden is not None:
        scores = scores + hidden
    found = (scores.softmax(-1) @ value).transpose(1, 2)
    return found.reshape(states.shape)
