"""A number for a pair of texts: how alike, how relevant."""

from collections.abc import Sequence

from . import Labelled
from .encoding import Encoder
from .number import Number, labels_of, mean_label
from .terms import Overlap


class PairScore(Number):
    two_texts = True
    symmetric = True

    def baselines(
        self,
        train: Labelled,
        validation: Labelled,
        test: Labelled,
        classes: Sequence[str],
        kind: str,
        seed: int,
        encoder: Encoder,
    ) -> dict[str, list[str]]:
        """The mean of the training labels, and ridge regression on how much two texts share."""
        from sklearn.linear_model import Ridge

        overlap = Overlap(train.texts, kind)
        regression = Ridge(random_state=seed)
        regression.fit(overlap.shares(train.texts), list(map(float, train.labels)))
        return {
            "mean": [mean_label(train.labels)] * len(test.texts),
            f"TF-IDF {kind} overlap + ridge regression": labels_of(
                regression.predict(overlap.shares(test.texts))
            ),
        }
