"""Samples with known inclusion probabilities, and estimates from several of them together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.inputs.design_weights import effective_rows, pool_weights, row_counts
from labelfix.risk_control.systematic_sampling import inclusion_probabilities, systematic_sample
from labelfix.verdicts.estimates import share


def hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(2**63, size=count, dtype=np.uint64)


@given(
    sizes=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=60),
    share=st.floats(0.0, 1.0),
)
@settings(max_examples=200, deadline=None)
def test_inclusion_probabilities_sum_to_the_count_and_none_is_above_one(
    sizes: list[float], share: float
) -> None:
    size = np.array(sizes)
    count = int(share * (size > 0).sum())
    inclusion = inclusion_probabilities(size, count)
    assert inclusion.sum() == pytest.approx(count, abs=1e-6)
    assert inclusion.max(initial=0.0) <= 1.0 + 1e-12
    assert inclusion.min(initial=0.0) >= 0.0
    assert (inclusion[size == 0] == 0).all()


@pytest.mark.parametrize("sizes", [[2.2e-313], [5e-324, 1e6, 5e-324], [1e6, 5e-324, 1e-300]])
def test_tiny_sizes_do_not_overflow(sizes: list[float]) -> None:
    inclusion = inclusion_probabilities(np.array(sizes), len(sizes))
    np.testing.assert_allclose(inclusion, 1.0)


def test_inclusion_probabilities_are_in_proportion_until_one_is_certain() -> None:
    np.testing.assert_allclose(inclusion_probabilities(np.array([1.0, 2.0, 1.0]), 1), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(inclusion_probabilities(np.array([8.0, 1.0, 1.0]), 2), [1.0, 0.5, 0.5])


def test_a_sample_has_exactly_the_stated_inclusion_probabilities() -> None:
    inclusion = inclusion_probabilities(np.random.default_rng(0).random(40) ** 3, 7)
    times = np.zeros(40)
    for number in range(4000):
        chosen = systematic_sample(inclusion, hashes(40, number), number)
        assert len(np.unique(chosen)) == 7
        times[chosen] += 1
    error = np.sqrt(np.maximum(inclusion * (1 - inclusion), 1e-3) / 4000)
    assert (np.abs(times / 4000 - inclusion) < 4.5 * error).all()


def test_a_sample_follows_the_rows_and_not_their_places() -> None:
    inclusion, keys = inclusion_probabilities(np.arange(1.0, 51.0), 10), hashes(50)
    order = np.random.default_rng(3).permutation(50)
    sample = systematic_sample(inclusion[order], keys[order], 5)
    assert set(order[sample]) == set(systematic_sample(inclusion, keys, 5))


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
    inclusion = inclusion_probabilities(np.where(aimed_at, 0.95 * 100 / 500, 5 / 19_500), 100)
    found, held = [], 0
    for number in range(200):
        second = systematic_sample(inclusion, hashes(20_000, number), number)[:length]
        rows = np.concatenate([rng.permutation(20_000)[:500], second])
        weight = np.concatenate([np.ones(500), 1 / inclusion[second]])
        sample = np.repeat([0, 1], [500, length])
        counts = row_counts(weight, sample, 20_000)
        estimate = share(hits[rows][part[rows]], counts[part[rows]], 0.95)
        found.append(estimate.value)
        held += estimate.low <= hits[part].mean() <= estimate.high
    assert np.mean(found) == pytest.approx(hits[part].mean(), abs=4 * np.std(found) / 200**0.5)
    assert held >= 183
