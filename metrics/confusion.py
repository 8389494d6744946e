"""The confusion matrix of a list of images, from the counts that are kept of each image."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from metrics import counts


def of_list(classes: Sequence[str], records: Iterable[Mapping[str, np.ndarray]]) -> np.ndarray:
    """The pixels int64 [K+1,K+1] of each class (rows) that were predicted as each (columns), background first, without void.

    `classes` are the K foreground classes, `records` the kept arrays of each image (`counts.sparse`).
    """
    kept = list(records)
    return counts.of_lists(kept, len(classes))(np.ones((1, len(kept)), np.int64))["region"][0]
