"""Draws with known chances, and what several of them say together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.sampling import draw, effective_rows, inclusion_chances, pool_weights


def hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(2**63, size=count, dtype=np.uint64)


@given(
    sizes=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=60),
    share=st.floats(0.0, 1.0),
)
@settings(max_examples=200, deadline=None)
def test_chances_sum_to_the_count_and_none_is_above_one(sizes: list[float], share: float) -> None:
    size = np.array(sizes)
    count = int(share * (size > 0).sum())
    chance = inclusion_chances(size, count)
    assert chance.sum() == pytest.approx(count, abs=1e-6)
    assert chance.max(initial=0.0) <= 1.0 + 1e-12
    assert chance.min(initial=0.0) >= 0.0
    assert (chance[size == 0] == 0).all()


@pytest.mark.parametrize("sizes", [[2.2e-313], [5e-324, 1e6, 5e-324], [1e6, 5e-324, 1e-300]])
def test_tiny_sizes_do_not_overflow(sizes: list[float]) -> None:
    chance = inclusion_chances(np.array(sizes), len(sizes))
    np.testing.assert_allclose(chance, 1.0)


def test_chances_are_in_proportion_until_one_is_certain() -> None:
    np.testing.assert_allclose(inclusion_chances(np.array([1.0, 2.0, 1.0]), 1), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(inclusion_chances(np.array([8.0, 1.0, 1.0]), 2), [1.0, 0.5, 0.5])


def test_a_draw_has_exactly_the_stated_chances() -> None:
    chance = inclusion_chances(np.random.default_rng(0).random(40) ** 3, 7)
    times = np.zeros(40)
    for number in range(4000):
        chosen = draw(chance, hashes(40, number), number)
        assert len(np.unique(chosen)) == 7
        times[chosen] += 1
    error = np.sqrt(np.maximum(chance * (1 - chance), 1e-3) / 4000)
    assert (np.abs(times / 4000 - chance) < 4.5 * error).all()


def test_a_draw_follows_the_rows_and_not_their_places() -> None:
    chance, keys = inclusion_chances(np.arange(1.0, 51.0), 10), hashes(50)
    order = np.random.default_rng(3).permutation(50)
    assert set(order[draw(chance[order], keys[order], 5)]) == set(draw(chance, keys, 5))


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


def test_pooled_shares_are_unbiased() -> None:
    """Rows of a rare kind are drawn ten times as often in the second draw; their share comes out right."""
    rng = np.random.default_rng(0)
    rare = rng.random(5000) < 0.05
    chances = inclusion_chances(np.where(rare, 10.0, 1.0), 300)
    found = []
    for number in range(300):
        first = rng.permutation(5000)[:300]
        second = draw(chances, hashes(5000, number), number)
        rows = np.concatenate([first, second])
        weight = np.concatenate([np.ones(300), 1 / chances[second]])
        pooled = pool_weights(weight, np.repeat([0, 1], 300))
        found.append(pooled[rare[rows]].sum() / pooled.sum())
    assert np.mean(found) == pytest.approx(rare.mean(), abs=4 * np.std(found) / 300**0.5)
