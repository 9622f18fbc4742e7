"""Which images train, which form the meta set and which are held out: the rules that keep trusted labels apart.

A trusted label either serves the meta-loss or is held out. The labels that are held out are hidden from training
altogether, so that the verdict may be fitted and measured on them:

- `split_of_one`, one network: a stratified share of the (given, trusted) pairs is held out, and their images
  train on their given labels, exactly as unverified images do. So predictions for a held-out pair are distributed
  as those for any other image, memorised labels included, and weights and estimates from these pairs hold for the
  other images.
- `split_of_fold`, one network of several: it sees neither given nor trusted labels of its fold.

N images with a given label, P = N + extra trusted ones, n images that train.
"""

from dataclasses import dataclass

import numpy as np

from labelfix.errors import InputError
from labelfix.settings import NetworkConfig, TrustedRole

__all__ = ["DataSplit", "split_of_fold", "split_of_one"]


@dataclass(frozen=True, kw_only=True)
class DataSplit:
    """What each image is for while one network trains; image numbers are those of the pixel store.

    The order of the numbers decides the order of training: it is that of the images' hashes.

    Attributes
    ----------
    train, labels, fixed
        (n,) images that train, the labels they start from, and whether these stay as they are.
    meta, meta_labels
        Trusted images of the meta-loss, and their trusted labels.
    held_out, held_out_labels
        Images whose trusted labels training does not see, and these labels.
    """

    train: np.ndarray
    labels: np.ndarray
    fixed: np.ndarray
    meta: np.ndarray
    meta_labels: np.ndarray
    held_out: np.ndarray
    held_out_labels: np.ndarray


def split_of_one(
    given: np.ndarray,
    trusted: np.ndarray,
    hashes: np.ndarray,
    *,
    hand_picked: np.ndarray,
    held_out_share: float,
    role: TrustedRole,
    group: np.ndarray | None = None,
) -> DataSplit:
    """Return the split for a single network.

    Parameters
    ----------
    given
        (N,) given labels.
    trusted
        (P,) trusted labels, -1 where there is none; the first N belong to `given`.
    hashes
        (P,) from `labelfix.system.folds.hash_keys`.
    hand_picked
        (N,) bool: trusted rows that a person chose; they represent no other rows and are not held out.
    held_out_share
        Share of the other (given, trusted) pairs of each class to hold out.
    role
        What the other trusted images do.
    group
        (N,) numbers of groups of duplicates, which are held out together; None takes every image for itself.

    Raises
    ------
    InputError
        When too little is left to train on.
    """
    pairs = np.flatnonzero((trusted[: len(given)] >= 0) & ~hand_picked)
    order = np.lexsort((hashes[pairs], trusted[pairs]))
    rank = np.arange(len(pairs))  # within and across the strata, so that every one gives its share
    chosen = np.floor((rank + 1) * held_out_share) > np.floor(rank * held_out_share)
    held_out = np.zeros(len(given), bool)
    held_out[pairs[order[chosen]]] = True
    if group is not None:  # with its first row
        held_out[pairs] = held_out[_first_of_group(pairs, group)]
    return _split(given, trusted, hashes, inside=np.ones(len(given), bool), held_out=held_out, role=role)


def _first_of_group(rows: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return for each of some rows the first of them in its group."""
    _, first, inverse = np.unique(group[rows], return_index=True, return_inverse=True)
    return rows[first][inverse]


def split_of_fold(
    given: np.ndarray,
    trusted: np.ndarray,
    hashes: np.ndarray,
    *,
    fold: np.ndarray,
    number: int,
    role: TrustedRole,
) -> DataSplit:
    """Return the split for network `number`, which sees nothing of its fold; `fold` is (N,).

    Arguments and errors are otherwise those of `split_of_one`.
    """
    in_fold = fold == number
    held_out = in_fold & (trusted[: len(given)] >= 0)
    return _split(given, trusted, hashes, inside=~in_fold, held_out=held_out, role=role)


def _split(
    given: np.ndarray,
    trusted: np.ndarray,
    hashes: np.ndarray,
    *,
    inside: np.ndarray,
    held_out: np.ndarray,
    role: TrustedRole,
) -> DataSplit:
    """Return the split where images outside of `inside` (N,) and trusted labels in `held_out` (N,) are hidden."""
    extra = np.ones(len(trusted) - len(given), bool)
    inside, hidden = np.append(inside, extra), np.append(held_out, ~extra)
    labels = np.append(given.astype(np.int64), np.full(len(extra), -1))
    meta = (trusted >= 0) & inside & ~hidden
    train = inside & ~meta & (labels >= 0)
    if role is TrustedRole.META_AND_TRAIN:
        train, labels = train | meta, np.where(meta, trusted, labels)
    by_hash = np.argsort(hashes, kind="stable")
    train_rows, meta_rows, hidden_rows = (by_hash[mask[by_hash]] for mask in (train, meta, hidden))
    least = NetworkConfig.least_batch
    if min(len(meta_rows), len(train_rows)) < least:
        raise InputError(
            f"--train full: {len(train_rows)} images to train on and {len(meta_rows)} trusted ones for the "
            f"meta-loss; expected at least {least} of either. Give more trusted labels, or use --train head."
        )
    return DataSplit(
        train=train_rows,
        labels=labels[train_rows],
        fixed=meta[train_rows],
        meta=meta_rows,
        meta_labels=trusted[meta_rows],
        held_out=hidden_rows,
        held_out_labels=trusted[hidden_rows],
    )
