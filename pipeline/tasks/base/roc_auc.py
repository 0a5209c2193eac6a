"""ROC-AUC and average precision of classes, one against the rest."""

import numpy as np
import numpy.typing as npt

from . import Floats


def areas(hits: npt.NDArray[np.bool_], scores: Floats) -> dict[str, float]:
    """Areas under the ROC and precision-recall curves from (rows, classes) arrays.

    Each is the mean over the classes that some rows have and others lack; empty without such a
    class.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    both = [c for c in range(hits.shape[1]) if hits[:, c].any() and not hits[:, c].all()]
    if not both:
        return {}
    return {
        "roc_auc": float(np.mean([roc_auc_score(hits[:, c], scores[:, c]) for c in both])),
        "pr_auc": float(np.mean([average_precision_score(hits[:, c], scores[:, c]) for c in both])),
    }
