"""Beam search over a decoder, on any runtime.

Stopping and length penalty are the defaults of transformers' `generate`
(https://huggingface.co/docs/transformers/main_classes/text_generation), so it returns the same
tokens.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..base.runtime import Step


@dataclass
class _Search:
    """Hypotheses of one source."""

    live: list[tuple[np.float32, list[int], int]]
    """Unfinished ones: summed log probability, tokens, and index in the last step."""
    done: list[tuple[np.float32, list[int]]] = field(default_factory=list)
    """Finished ones, best first: penalized log probability, and tokens."""

    def grow(
        self,
        logs: npt.NDArray[np.float32],
        first: int,
        end: int,
        beams: int,
        last: bool,
        per: float,
    ) -> None:
        """Extend the unfinished hypotheses by one token.

        `logs` are their log probabilities, (live, vocabulary); `first` is the index of the first of
        them in the step; `last` is True if no token may follow; `per` divides summed logs.
        """
        scores = np.array([score for score, *_ in self.live], np.float32)
        total = (logs + scores[:, None]).ravel()
        most = min(2 * beams, len(total))
        best = np.argpartition(-total, most - 1)[:most]
        best = best[np.lexsort((best, -total[best]))]
        live: list[tuple[np.float32, list[int], int]] = []
        for rank, place in enumerate(best.tolist()):
            beam, token = divmod(place, logs.shape[1])
            tokens = [*self.live[beam][1], token]
            if token == end or last:
                if rank < beams:
                    self.done.append((np.float32(total[place] / np.float32(per)), tokens))
            elif len(live) < beams:
                live.append((total[place], tokens, first + beam))
        self.done = sorted(self.done, key=lambda found: -found[0])[:beams]
        full = len(self.done) == beams
        if full and live and live[0][0] / np.float32(per) <= self.done[-1][0]:
            live = []
        self.live = live


def search(
    step: Step,
    sources: int,
    *,
    begin: int,
    end: int,
    beams: int,
    most: int,
    length_penalty: float = 1.0,
) -> list[tuple[list[int], float]]:
    """Best hypothesis of each source, without `begin` and `end`, and its score: the log probability
    divided by its length to the power of the penalty."""
    found = [_Search([(np.float32(0), [begin], place)]) for place in range(sources)]
    for length in range(1, most + 1):
        going = [(place, each) for place, each in enumerate(found) if each.live]
        if not going:
            break
        flat = [(tokens[-1], place, old) for place, each in going for _, tokens, old in each.live]
        logs = step(*np.array(flat, np.int64).T)
        first = 0
        for _, each in going:
            count = len(each.live)
            each.grow(
                logs[first : first + count],
                first,
                end,
                beams,
                length == most,
                length**length_penalty,
            )
            first += count
    return [_best(each.done[0], end) for each in found]


def _best(done: tuple[np.float32, list[int]], end: int) -> tuple[list[int], float]:
    score, tokens = done
    return tokens[1:-1] if tokens[-1] == end else tokens[1:], float(score)
