"""The last layer for the first token alone: the same logits and gradients."""

import pytest
import torch
import transformers

from pipeline.adapters.last_layer import for_first_token


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_logits_and_gradients_stay_what_they_were(family: str) -> None:
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    if family != "distilbert":
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(family, vocab_size=100, num_labels=3, **sizes)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    ids = torch.randint(5, 100, (4, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    out: list[tuple[int, ...]] = []
    encoder = model.base_model
    encoder.register_forward_hook(lambda *given: out.append(given[2].last_hidden_state.shape))

    def asked() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        logits = model(input_ids=ids, attention_mask=mask).logits
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 1])).backward()
        learned = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return logits.detach(), {name: grad.clone() for name, grad in learned.items()}

    before, slopes = asked()
    for_first_token(model)
    after, same = asked()
    assert out == [(4, 9, 32), (4, 1, 32)]
    assert torch.allclose(before, after, atol=1e-6)
    assert slopes.keys() == same.keys()
    for name, slope in slopes.items():
        assert torch.allclose(slope, same[name], atol=1e-6), name
