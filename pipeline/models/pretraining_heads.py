"""BERT with its pretraining heads, computed for masked tokens only.

Import it inside a function: it loads PyTorch.
"""

import torch
import transformers
from torch.nn.functional import pad
from transformers.modeling_outputs import TokenClassifierOutput

from pipeline.tasks.base.masked_lm import BEST


class BertForPreTraining(transformers.BertForPreTraining):
    """Pretraining model, saved and loaded as transformers' own, with logits (batch, tokens, 1 + 2 x
    BEST) in the form of pipeline/tasks/base/masked_lm.py.

    The product with the whole vocabulary costs as much as six layers of a small encoder, so it is
    computed for masked tokens only.
    """

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        targets: torch.Tensor,
    ) -> TokenClassifierOutput:
        """Return the logits; `targets` (batch, tokens) holds the original of each masked token, and
        a negative number elsewhere. The first token is never masked."""
        encoded = self.bert(input_ids, attention_mask, token_type_ids)
        states = encoded.last_hidden_state[:, 1:]  # (batch, tokens - 1, width)
        truths = targets[:, 1:]
        hidden = truths >= 0
        scores = self.cls.predictions(states[hidden]).float()  # (hidden, vocabulary)
        logs = scores.log_softmax(-1)
        truth = logs.gather(1, truths[hidden][:, None])
        if self.training:
            best = logs.new_zeros(len(logs), 2 * BEST)
        else:
            values, places = logs.topk(BEST)
            best = torch.cat([values, places.to(values.dtype)], 1)
        guesses = logs.new_zeros(*truths.shape, 1 + 2 * BEST)
        guesses[hidden] = torch.cat([truth, best], 1)
        pairs = self.cls.seq_relationship(encoded.pooler_output).float()  # (batch, 2)
        first = pad(pairs, (1, 2 * BEST - 2))[:, None]
        return TokenClassifierOutput(logits=torch.cat([first, guesses], 1))
