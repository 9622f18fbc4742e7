"""Design weights: what a trusted row counts for, given the probability that it was sampled.

Trusted rows may come from several draws: simple random samples, samples by class, tables with weights. Within a
draw, a row counts by its weight 1 / pi, pi its inclusion probability (Horvitz & Thompson 1952). In estimates for
the whole data set, each draw counts by its effective number of rows, (sum w)^2 / sum w^2 (Kish 1965): `row_counts`.

n rows of a set, M trusted rows, N rows in all, S draws.
"""

import numpy as np

__all__ = ["HAND_PICKED", "RANDOM_SAMPLE", "effective_rows", "pool_weights", "row_counts"]

RANDOM_SAMPLE = 0
"""The number of the draw that is a simple random sample; rows of every other draw have weights."""


HAND_PICKED = -1
"""In place of the number of a draw: rows that represent no others, such as those that a person chose."""


def effective_rows(weight: np.ndarray) -> float:
    """Return Kish's effective number of rows of weights (n,): n where all are equal."""
    squares = float(np.square(weight).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def pool_weights(weight: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Return weights (n,) of a set of rows, scaled so that each draw sums to its effective number of rows.

    Parameters
    ----------
    weight, sample
        (n,) weight of each row within its draw, and the number of that draw; only rows of the set.
    """
    pooled = np.empty(len(weight))
    for number in np.unique(sample):
        in_draw = sample == number
        pooled[in_draw] = weight[in_draw] * (weight[in_draw].sum() / np.square(weight[in_draw]).sum())
    return pooled


def row_counts(weight: np.ndarray, sample: np.ndarray, rows: int) -> np.ndarray:
    """Return what each trusted row counts for, (M,), in estimates for the whole data set and for any part of it.

    A row of the random sample counts for 1. Rows of another draw sum to its effective number of rows, times the
    share of the data set that their weights add up to. A small draw may hold no row at all of a part that it hardly
    sampled; it then does not represent the data set. Hand-picked rows represent nothing and count for 0.

    Parameters
    ----------
    weight, sample
        (M,) 1 / inclusion probability, and the number of the draw, of all trusted rows.
    rows
        N, of the data set.
    """
    sampled = sample != HAND_PICKED
    counts = np.zeros(len(weight))
    if sampled.any():
        counts[sampled] = _counts_of_samples(weight[sampled], sample[sampled], rows)
    return counts


def _counts_of_samples(weight: np.ndarray, sample: np.ndarray, rows: int) -> np.ndarray:
    at_random = sample == RANDOM_SAMPLE
    counts = np.where(at_random, 1.0, pool_weights(weight, sample))
    covered = np.ones(len(weight))  # share of the data set that the draw of each row represents
    for number in np.unique(sample[~at_random]):
        in_draw = sample == number
        covered[in_draw] = min(1.0, float(weight[in_draw].sum()) / rows)
    # a draw on its own represents all rows, whatever the scale of its weights
    return counts * (covered / covered.max())
