"""Votes of the nearest neighbours, against a plain computation of the same thing."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import labelfix.cross_fitting.knn as knn
from labelfix.cross_fitting.knn import neighbour_votes

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


def by_hand(features: np.ndarray, targets: np.ndarray, fold: np.ndarray, voters: int) -> np.ndarray:
    """In float64 and row by row: components over the fourth root of their variance, cosines, weighted votes."""
    variance, direction = np.linalg.eigh(features.T @ features)
    components = features @ direction / variance**0.25
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    shares = np.empty((len(fold), K))
    neighbours = min(100, max(voters // 50, 20))
    for row in range(len(fold)):
        cosine = components[:voters] @ components[row]
        others = np.array([other for other in range(voters) if other != row])
        near = others[np.argsort(-cosine[others])[:neighbours]]
        counted = np.full(K, 0.5 / K)
        counted += np.exp(15 * (cosine[near] - cosine[near[0]])) @ targets[fold[row], near]
        shares[row] = counted / counted.sum()
    return shares


def votes_on_labels(features: Tensor, given: np.ndarray) -> np.ndarray:
    """Votes where everybody's target is the given label, in one fold."""
    targets = np.eye(K, dtype=np.float32)[given][None]
    return neighbour_votes(chunked(features), features.T @ features, targets, np.zeros(len(given), int))


@pytest.mark.parametrize("voters", [700, 120])
def test_equals_a_plain_computation(voters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "REFERENCE_ROWS", voters)
    monkeypatch.setattr(knn, "COSINES_PER_CHUNK", 10_000)
    features, _, _ = clusters(700)
    rng = np.random.default_rng(3)
    targets, fold = rng.dirichlet(np.ones(K), (4, 700)).astype(np.float32), rng.integers(0, 4, 700)
    found = neighbour_votes(chunked(features), features.T @ features, targets, fold)
    np.testing.assert_allclose(found, by_hand(features.numpy(), targets, fold, voters), rtol=1e-5)


def test_a_row_has_no_part_in_its_own_votes() -> None:
    features, given, _ = clusters()
    before = votes_on_labels(features, given)
    changed = given.copy()
    changed[7] = (given[7] + 1) % K
    after = votes_on_labels(features, changed)
    np.testing.assert_array_equal(before[7], after[7])
    assert (before != after).any()


def test_votes_see_through_noise() -> None:
    features, given, true = clusters(1500)
    found = votes_on_labels(features, given)
    assert (found.argmax(1) == true).mean() > 0.95 > (given == true).mean()
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-6)


def test_rows_beyond_the_labels_and_features_that_never_vary_are_left_out() -> None:
    features, given, _ = clusters()
    wider = torch.cat([features, torch.zeros(300, 2, dtype=features.dtype)], dim=1)
    more = torch.cat([wider, torch.randn(20, 10, dtype=features.dtype)])
    targets = np.eye(K, dtype=np.float32)[given][None]
    found = neighbour_votes(chunked(more), wider.T @ wider, targets, np.zeros(len(given), int))
    np.testing.assert_allclose(found, votes_on_labels(features, given), rtol=1e-5)


def test_a_single_row_has_no_neighbours() -> None:
    np.testing.assert_allclose(
        neighbour_votes(chunked(torch.ones(1, 2)), torch.eye(2), np.ones((1, 1, 2)), np.array([0])), 0.5
    )
