"""Votes of the nearest neighbours, against a plain computation of the same thing."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import labelfix.votes as votes
from labelfix.votes import neighbour_votes

K = 3


def chunked(features: Tensor, size: int = 50) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(features), size):
        yield slice(start, start + size), features[start : start + size]


def clusters(rows: int = 300, noise: float = 0.3, seed: int = 0) -> tuple[Tensor, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, K, rows)
    features = 5.0 * np.eye(K, 8)[true] + rng.normal(size=(rows, 8))
    features -= features.mean(0)
    given = np.where(rng.random(rows) < noise, (true + 1) % K, true)
    return torch.from_numpy(features), given, true


def by_hand(features: np.ndarray, given: np.ndarray, voters: int) -> np.ndarray:
    """In float64 and row by row: components over the fourth root of their variance, cosines, weighted votes."""
    variance, direction = np.linalg.eigh(features.T @ features)
    components = features @ direction / variance**0.25
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    shares = np.empty((len(given), K))
    for row in range(len(given)):
        cosine = components[:voters] @ components[row]
        others = np.array([other for other in range(voters) if other != row])
        near = others[np.argsort(-cosine[others])[:30]]
        counted = np.full(K, 0.5 / K)
        np.add.at(counted, given[near], np.exp(10 * (cosine[near] - cosine[near[0]])))
        shares[row] = counted / counted.sum()
    return shares


@pytest.mark.parametrize("voters", [300, 120])
def test_equals_a_plain_computation(voters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "REFERENCE_ROWS", voters)
    monkeypatch.setattr(votes, "COSINES_PER_CHUNK", 10_000)
    features, given, _ = clusters()
    found = neighbour_votes(chunked(features), features.T @ features, given, K)
    np.testing.assert_allclose(found, by_hand(features.numpy(), given, voters), rtol=1e-5)


def test_a_row_has_no_part_in_its_own_votes() -> None:
    features, given, _ = clusters()
    before = neighbour_votes(chunked(features), features.T @ features, given, K)
    changed = given.copy()
    changed[7] = (given[7] + 1) % K
    after = neighbour_votes(chunked(features), features.T @ features, changed, K)
    np.testing.assert_array_equal(before[7], after[7])
    assert (before != after).any()


def test_votes_see_through_noise() -> None:
    features, given, true = clusters()
    found = neighbour_votes(chunked(features), features.T @ features, given, K)
    assert (found.argmax(1) == true).mean() > 0.95 > (given == true).mean()
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-6)


def test_rows_beyond_the_labels_and_features_that_never_vary_are_left_out() -> None:
    features, given, _ = clusters()
    wider = torch.cat([features, torch.zeros(300, 2, dtype=features.dtype)], dim=1)
    more = torch.cat([wider, torch.randn(20, 10, dtype=features.dtype)])
    found = neighbour_votes(chunked(more), wider.T @ wider, given, K)
    np.testing.assert_allclose(
        found, neighbour_votes(chunked(features), features.T @ features, given, K), rtol=1e-5
    )


def test_a_single_row_has_no_neighbours() -> None:
    np.testing.assert_allclose(
        neighbour_votes(chunked(torch.ones(1, 2)), torch.eye(2), np.array([0]), 2), 0.5
    )
