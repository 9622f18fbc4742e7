"""Systematic sampling with known inclusion probabilities (Madow 1949).

N rows.
"""

import numpy as np

__all__ = ["inclusion_probabilities", "systematic_sample"]


def inclusion_probabilities(size: np.ndarray, count: int) -> np.ndarray:
    """Return inclusion probabilities (N,) in proportion to `size`, capped at 1, that sum to `count`.

    Parameters
    ----------
    size
        (N,) at least 0; a row of size 0 is never sampled.
    count
        Size of the sample; at most the number of rows above 0.
    """
    size = np.asarray(size, np.float64)
    inclusion = np.zeros(len(size))
    certain = np.zeros(len(size), bool)
    while True:
        left = count - certain.sum()
        total = size[~certain].sum()
        # first the share, which is at most 1: a quotient of the total can overflow
        inclusion[~certain] = left * (size[~certain] / total) if total > 0 else 0.0
        inclusion[certain] = 1.0
        above = (inclusion > 1.0) & ~certain
        if not above.any():
            return inclusion
        certain |= above


def systematic_sample(inclusion: np.ndarray, hashes: np.ndarray, seed: int) -> np.ndarray:
    """Return the row numbers of a sample with exactly the given inclusion probabilities, in random order.

    Rows are sampled systematically along the order of their hashes (Madow 1949). So the size of the sample is
    fixed, and which images are in it does not depend on the order of the table.

    Parameters
    ----------
    inclusion
        (N,) from `inclusion_probabilities`; sums to a whole number.
    hashes
        (N,) uint64 from `labelfix.system.folds.hash_keys`.
    seed
        Of the starting point.
    """
    order = np.argsort(hashes, kind="stable")
    ends = np.cumsum(inclusion[order])
    count = round(float(ends[-1])) if len(ends) else 0
    rng = np.random.default_rng([seed, len(inclusion)])
    marks = rng.random() + np.arange(count)
    chosen = order[np.minimum(np.searchsorted(ends, marks, side="right"), len(order) - 1)]
    return rng.permutation(chosen)
