"""What rows of several draws count for in estimates."""

import numpy as np
import pytest

from labelfix.inputs.design_weights import effective_rows, pool_weights, row_counts
from labelfix.verdicts.estimates import share


def test_a_draw_counts_by_the_share_of_the_data_set_that_it_covers() -> None:
    weight = np.array([1.0, 1.0, 1.0, 40.0, 3.0, 3.0, 2.0, 2.0])
    sample = np.array([0, 0, 1, 1, 2, 2, 0, 0])
    counts = row_counts(weight, sample, 41)
    np.testing.assert_array_equal(counts[sample == 0], 1)  # a random sample, whatever is in its column
    assert counts[sample == 1].sum() == pytest.approx(41**2 / 1601)
    assert counts[3] / counts[2] == pytest.approx(40)
    np.testing.assert_allclose(counts[sample == 2], 6 / 41)  # its two rows represent nothing of the other 35
    np.testing.assert_allclose(
        row_counts(np.full(3, 0.1), np.full(3, 1), 1000), 1
    )  # alone: any scale will do
    assert row_counts(np.empty(0), np.empty(0, int), 10).shape == (0,)


def test_equal_weights_count_one_each_whatever_their_scale() -> None:
    sample = np.array([0, 0, 1, 1, 1])
    np.testing.assert_allclose(pool_weights(np.array([3.0, 3.0, 9.0, 9.0, 9.0]), sample), 1.0)
    assert effective_rows(np.full(7, 2.5)) == pytest.approx(7)
    assert effective_rows(np.empty(0)) == 0


def test_draws_count_by_their_effective_rows() -> None:
    weight, sample = np.array([1.0, 1.0, 1.0, 9.0, 1.0]), np.array([0, 0, 1, 1, 1])
    pooled = pool_weights(weight, sample)
    assert pooled[sample == 0].sum() == pytest.approx(2)
    assert pooled[sample == 1].sum() == pytest.approx(11**2 / 83)
    np.testing.assert_allclose(pooled[3] / pooled[2], 9)


@pytest.mark.parametrize("length", [100, 30])
def test_shares_after_a_chosen_draw_are_unbiased_and_their_intervals_hold(length: int) -> None:
    """Of 20,000 rows, nearly the whole second draw goes to 500 in which what is counted abounds."""
    rng = np.random.default_rng(0)
    aimed_at = np.arange(20_000) < 500
    hits = rng.random(20_000) < np.where(aimed_at, 0.9, 0.1)
    part = rng.random(20_000) < 0.3  # any part of the data set
    inclusion = np.where(aimed_at, 95 / 500, 5 / 19_500)
    found, held = [], 0
    for _ in range(200):
        second = rng.permutation(_systematic(inclusion, rng))[:length]
        rows = np.concatenate([rng.permutation(20_000)[:500], second])
        weight = np.concatenate([np.ones(500), 1 / inclusion[second]])
        sample = np.repeat([0, 1], [500, length])
        counts = row_counts(weight, sample, 20_000)
        estimate = share(hits[rows][part[rows]], counts[part[rows]], 0.95)
        found.append(estimate.value)
        held += estimate.low <= hits[part].mean() <= estimate.high
    assert np.mean(found) == pytest.approx(hits[part].mean(), abs=4 * np.std(found) / 200**0.5)
    assert held >= 183


def _systematic(inclusion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return row numbers with exactly these inclusion probabilities, which sum to a whole number (Madow 1949)."""
    order = rng.permutation(len(inclusion))
    ends = np.cumsum(inclusion[order])
    marks = rng.random() + np.arange(round(float(ends[-1])))
    return order[np.minimum(np.searchsorted(ends, marks, side="right"), len(order) - 1)]
