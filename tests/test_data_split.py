"""Who trains on what: no trusted label that is held out, and nothing of a fold, reaches the training."""

import numpy as np
import pytest

from labelfix.errors import InputError
from labelfix.settings import TrustedRole
from labelfix.system.folds import assign_folds, hash_keys
from labelfix.training.data_split import DataSplit, split_of_fold, split_of_one

ROWS, EXTRA, CLASSES = 200, 10, 4
Labels = tuple[np.ndarray, np.ndarray, np.ndarray]


def labels(*, trusted: int = 100, extra: int = EXTRA) -> Labels:
    """Given labels (N,), trusted labels (P,), of which `trusted` are pairs, and hashes (P,)."""
    rng = np.random.default_rng(0)
    truth = np.full(ROWS + extra, -1)
    truth[rng.permutation(ROWS)[:trusted]] = np.sort(rng.integers(0, CLASSES, trusted))
    truth[ROWS:] = rng.integers(0, CLASSES, extra)
    return rng.integers(0, CLASSES, ROWS), truth, hash_keys(map(str, range(ROWS + extra)), seed=0)


def one(data: Labels, role: TrustedRole = TrustedRole.META) -> DataSplit:
    return split_of_one(*data, hand_picked=np.zeros(len(data[0]), bool), held_out_share=0.3, role=role)


def test_one_network_holds_a_stratified_share_of_the_pairs_out() -> None:
    data = labels()
    _, trusted, _ = data
    split = one(data)
    pairs = np.flatnonzero(trusted[:ROWS] >= 0)
    assert len(split.held_out) == 30
    assert set(split.held_out) <= set(pairs)
    np.testing.assert_array_equal(split.held_out_labels, trusted[split.held_out])
    for k in range(CLASSES):
        of_class = np.flatnonzero(trusted[:ROWS] == k)
        assert abs(np.isin(of_class, split.held_out).sum() - 0.3 * len(of_class)) <= 1
    assert set(split.meta) == (set(pairs) | set(range(ROWS, ROWS + EXTRA))) - set(split.held_out)
    np.testing.assert_array_equal(split.meta_labels, trusted[split.meta])


def test_held_out_pairs_train_like_any_row_that_nobody_verified() -> None:
    data = labels()
    split = one(data)
    assert set(split.train) == set(range(ROWS)) - set(split.meta)
    np.testing.assert_array_equal(split.labels, data[0][split.train])
    assert not split.fixed.any()
    assert set(split.held_out) <= set(split.train)


def test_meta_and_train_trains_trusted_rows_on_their_fixed_trusted_labels() -> None:
    data = labels()
    split = one(data, TrustedRole.META_AND_TRAIN)
    assert set(split.train[split.fixed]) == set(split.meta)
    np.testing.assert_array_equal(split.labels[split.fixed], data[1][split.train[split.fixed]])
    np.testing.assert_array_equal(split.labels[~split.fixed], data[0][split.train[~split.fixed]])
    assert set(split.train) == set(range(ROWS + EXTRA))


@pytest.mark.parametrize("role", list(TrustedRole))
def test_a_fold_sees_nothing_of_its_rows(role: TrustedRole) -> None:
    given, trusted, hashes = labels()
    strata = np.where(trusted[:ROWS] >= 0, trusted[:ROWS], CLASSES)
    fold = assign_folds(hashes[:ROWS], strata, 3)
    for number in range(3):
        split = split_of_fold(given, trusted, hashes, fold=fold, number=number, role=role)
        inside = set(np.flatnonzero(fold == number))
        assert not inside & (set(split.train) | set(split.meta))
        assert set(split.held_out) == {row for row in inside if trusted[row] >= 0}


def test_the_order_of_the_rows_plays_no_part() -> None:
    given, trusted, hashes = labels()
    order = np.append(np.random.default_rng(1).permutation(ROWS), np.arange(ROWS, ROWS + EXTRA))
    split = one((given, trusted, hashes))
    other = one((given[order[:ROWS]], trusted[order], hashes[order]))
    for name in ("train", "meta", "held_out"):
        np.testing.assert_array_equal(order[getattr(other, name)], getattr(split, name))
        assert (np.diff(hashes[getattr(split, name)].astype(float)) > 0).all()


def test_too_little_to_train_on_is_said() -> None:
    given, trusted, hashes = labels(trusted=2, extra=0)
    inside_one_fold = np.where(trusted >= 0, 0, 1)
    with pytest.raises(InputError, match="198 images to train on and 0 trusted ones"):
        split_of_fold(given, trusted, hashes, fold=inside_one_fold, number=0, role=TrustedRole.META)


def test_one_trusted_row_for_the_meta_loss_is_too_little() -> None:
    with pytest.raises(InputError, match="1 trusted ones for the meta-loss; expected at least 2 of either"):
        one(labels(trusted=0, extra=1))
    assert len(one(labels(trusted=0, extra=2)).meta) == 2
