"""A draw of rows with known inclusion probabilities: systematic sampling (Madow 1949).

N rows.
"""

import numpy as np

__all__ = ["draw", "inclusion_chances"]


def inclusion_chances(size: np.ndarray, count: int) -> np.ndarray:
    """Return chances (N,) in proportion to `size`, at most 1, that sum to `count`.

    Parameters
    ----------
    size
        (N,) at least 0; a row of size 0 is never drawn.
    count
        How many rows are to be drawn; at most the number of rows above 0.
    """
    size = np.asarray(size, np.float64)
    chance = np.zeros(len(size))
    certain = np.zeros(len(size), bool)
    while True:
        left = count - certain.sum()
        total = size[~certain].sum()
        # first the share, which is at most 1: a quotient of the total can overflow
        chance[~certain] = left * (size[~certain] / total) if total > 0 else 0.0
        chance[certain] = 1.0
        above = (chance > 1.0) & ~certain
        if not above.any():
            return chance
        certain |= above


def draw(chance: np.ndarray, hashes: np.ndarray, seed: int) -> np.ndarray:
    """Return row numbers, drawn so that each row's chance is exactly as given, in an order without meaning.

    Systematic sampling along the order of the hashes (Madow 1949): the number of rows is fixed, and the draw
    follows the images, not their places in a table.

    Parameters
    ----------
    chance
        (N,) from `inclusion_chances`; sums to a whole number.
    hashes
        (N,) uint64 from `labelfix.system.folds.hash_keys`.
    seed
        Of the starting point.
    """
    order = np.argsort(hashes, kind="stable")
    ends = np.cumsum(chance[order])
    count = round(float(ends[-1])) if len(ends) else 0
    rng = np.random.default_rng([seed, len(chance)])
    marks = rng.random() + np.arange(count)
    chosen = order[np.minimum(np.searchsorted(ends, marks, side="right"), len(order) - 1)]
    return rng.permutation(chosen)
