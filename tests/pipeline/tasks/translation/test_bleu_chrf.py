"""BLEU and chrF from sums are sacrebleu's."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from pipeline.tasks.translation import bleu_chrf

words = st.lists(st.sampled_from(["le", "chat", "noir", "dort", ",", "l'été", "."]), max_size=12)
sentences = st.lists(st.tuples(words.map(" ".join), words.map(" ".join)), min_size=1, max_size=6)


@given(sentences)
def test_bleu_and_chrf_from_sums_are_those_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    answers, truths = map(list, zip(*pairs, strict=True))
    for counts, measure, own in (
        (bleu_chrf.bleu_counts, bleu_chrf.bleu, BLEU()),
        (bleu_chrf.chrf_counts, bleu_chrf.chrf, CHRF()),
    ):
        sums = np.sum([counts(*pair) for pair in pairs], axis=0)
        expected = own.corpus_score(answers, [truths]).score / 100
        assert measure(sums.astype(float)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("counts", "measure"),
    [
        (bleu_chrf.bleu_counts, bleu_chrf.bleu),
        (bleu_chrf.chrf_counts, bleu_chrf.chrf),
    ],
)
def test_many_sums_are_measured_at_once(
    counts: Callable[[str, str], list[int]], measure: Callable[..., "np.typing.NDArray[np.float64]"]
) -> None:
    one = np.array([counts("le chat noir dort bien", "le chat noir dort")] * 3, dtype=float)
    assert measure(one.reshape(3, 1, -1)).shape == (3, 1)
    same = np.array(counts("le chat noir dort", "le chat noir dort"), dtype=float)
    assert measure(same) == pytest.approx(1)


def test_the_signatures_are_told() -> None:
    told = bleu_chrf.signatures()
    assert told["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert told["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
