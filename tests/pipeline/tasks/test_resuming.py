"""A resumed training draws the same random numbers in every epoch."""

from pathlib import Path
from random import Random

import pytest

from tests.pipeline.conftest import up_to_tokens
from tests.pipeline.stages.test_finetune import Killed, StopAfter, train
from tests.pipeline.tasks.test_contract import ROWS, make
from tests.pipeline.tasks.toys import TOYS


@pytest.mark.parametrize("name", ["pretraining", "retrieval", "translation"])
def test_a_stopped_training_goes_on_to_the_same_bytes(
    name: str, tiny_base: Path, tmp_path: Path
) -> None:
    home = up_to_tokens(make(name, TOYS[name](ROWS, Random(3)), tmp_path / "data", tiny_base))
    out, state = tmp_path / "out", tmp_path / "state"
    undisturbed = train(home, out, state, evaluations_per_epoch=2)
    with pytest.raises(Killed):
        train(home, out, state, StopAfter(undisturbed.steps - 1), evaluations_per_epoch=2)
    again = StopAfter(-1)
    assert train(home, out, state, again, evaluations_per_epoch=2) == undisturbed
    assert any("going on from step" in text for text in again.said)
