"""Design weights: what a trusted row counts for, by its chance of having been drawn.

Trusted rows may come from several draws: a plain random sample first, then rows that ``labelfix next`` chose, most
of them where a look is worth most. Within a draw, a row counts by its weight 1 / pi, pi its chance of having been
drawn (Horvitz & Thompson 1952). For figures of the whole data set, the draws count by their effective numbers of
rows, (sum w)^2 / sum w^2 (Kish 1965): `row_counts`. A draw that went for the proposed fixes counts for little
there, and decides about the fixes, whose promise compares like with like: `pool_weights`,
`labelfix.risk_control.fixed_sequence`.

n rows of a set, M trusted rows, N rows in all, S draws.
"""

import numpy as np

__all__ = ["RANDOM_SAMPLE", "effective_rows", "pool_weights", "row_counts"]

RANDOM_SAMPLE = 0
"""The number of the draw that is a simple random sample; every other draw goes by its weights."""


def effective_rows(weight: np.ndarray) -> float:
    """Return Kish's effective number of rows of weights (n,): n where all are equal."""
    squares = float(np.square(weight).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def pool_weights(weight: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Return weights (n,) of a set of rows by which each draw's rows sum to its effective number of rows.

    Parameters
    ----------
    weight, sample
        (n,) weight of each row within its draw, and the number of that draw, of the rows of one set alone.
    """
    pooled = np.empty(len(weight))
    for number in np.unique(sample):
        own = sample == number
        pooled[own] = weight[own] * (weight[own].sum() / np.square(weight[own]).sum())
    return pooled


def row_counts(weight: np.ndarray, sample: np.ndarray, rows: int) -> np.ndarray:
    """Return what each trusted row counts for, (M,), in figures of the whole data set and of any part of it.

    A row of the random sample counts for 1. The others sum to the effective number of rows of their draw, times the
    share of the data set that its weights add up to: in a short draw there may be no row at all from where it
    hardly looked, and then it cannot speak for the data set.

    Parameters
    ----------
    weight, sample
        (M,) 1 / chance of having been drawn, and the number of the draw, of all trusted rows.
    rows
        N, of the data set.
    """
    if not len(weight):
        return np.ones(0)
    at_random = sample == RANDOM_SAMPLE
    counts = np.where(at_random, 1.0, pool_weights(weight, sample))
    covered = np.ones(len(weight))  # what the draw of each row says of the data set
    for number in np.unique(sample[~at_random]):
        own = sample == number
        covered[own] = min(1.0, float(weight[own].sum()) / rows)
    # alone, even a draw with weights in proportion speaks for all
    return counts * (covered / covered.max())
