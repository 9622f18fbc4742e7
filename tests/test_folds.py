"""Folds follow the images and the trusted labels, not the order of a table."""

import numpy as np
import pytest

from labelfix.system.folds import assign_folds, hash_keys, stratified_folds


def labels(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    trusted = np.where(rng.random(rows) < 0.3, rng.integers(0, 4, rows), -1)
    return hash_keys(map(str, range(rows)), seed), trusted


@pytest.mark.parametrize("num_folds", [2, 5])
def test_every_fold_has_its_share_of_every_trusted_label(num_folds: int) -> None:
    hashes, trusted = labels()
    fold = stratified_folds(hashes, trusted, num_folds)
    for label in range(-1, 4):
        counts = np.bincount(fold[trusted == label], minlength=num_folds)
        assert np.ptp(counts) <= 1


def test_the_order_of_the_rows_plays_no_part() -> None:
    hashes, trusted = labels()
    order = np.random.default_rng(1).permutation(len(hashes))
    np.testing.assert_array_equal(
        stratified_folds(hashes, trusted, 5)[order], stratified_folds(hashes[order], trusted[order], 5)
    )


def test_without_trusted_rows_there_is_one_stratum() -> None:
    hashes, _ = labels()
    nothing = np.full(len(hashes), -1)
    np.testing.assert_array_equal(
        stratified_folds(hashes, nothing, 3), assign_folds(hashes, np.zeros(len(hashes), int), 3)
    )


def test_hashes_differ_from_seed_to_seed_and_are_spread_evenly() -> None:
    one, two = (hash_keys(map(str, range(5000)), seed) for seed in (0, 1))
    assert not (one == two).any()
    assert abs(float((one >> np.uint64(63)).mean()) - 0.5) < 0.03
