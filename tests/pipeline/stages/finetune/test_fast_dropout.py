"""Fast dropout has the share, scale, gradient and repeatability of dropout."""

import math

import pytest
import torch

from pipeline.stages.finetune.fast_dropout import QuickDropout, fast_dropout


@pytest.mark.parametrize("p", [0.1, 0.37, 0.9])
def test_the_share_and_the_mean_are_those_of_dropout(p: float) -> None:
    torch.manual_seed(5)
    ones = torch.ones(1000, 1001)  # not a multiple of four
    out = QuickDropout(p)(ones)
    error = math.sqrt(p * (1 - p) / ones.numel())
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=4 * error)
    assert float(out.mean()) == pytest.approx(1, abs=4 * error / (1 - p))
    assert out.unique().numel() == 2
    # neighbours, which share a draw, are independent of each other
    dropped = (out == 0).double().flatten()
    for apart in (1, 2, 3, 4):
        both = float((dropped[:-apart] * dropped[apart:]).mean())
        assert both == pytest.approx(p * p, abs=5 * math.sqrt(p * p * (1 - p * p) / ones.numel()))


def test_the_gradient_goes_where_the_value_went() -> None:
    torch.manual_seed(5)
    x = torch.randn(7, 33, requires_grad=True)
    out = QuickDropout(0.5)(x)
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, out)


def test_a_generator_state_brings_the_mask_back() -> None:
    x, layer = torch.ones(64, 64), QuickDropout(0.1)
    state = torch.get_rng_state()
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(layer(x), first)


def test_nothing_is_dropped_in_evaluation_or_at_zero() -> None:
    x = torch.ones(8, 8)
    assert torch.equal(QuickDropout(0.5).eval()(x), x)
    assert torch.equal(QuickDropout(0.0)(x), x)
    assert not QuickDropout(1.0)(x).any()


def test_every_dropout_of_a_model_is_replaced() -> None:
    model = torch.nn.Sequential(
        torch.nn.Dropout(0.2), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.3))
    )
    before = model.state_dict().keys()
    fast_dropout(model)
    found = [m.p for m in model.modules() if isinstance(m, QuickDropout)]
    assert found == [0.2, 0.3]
    assert model.state_dict().keys() == before
