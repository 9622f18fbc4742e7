"""Folds and order that follow the images, not their place in a table.

Everything random is drawn from a hash of the image's key and the seed: permuting the rows of a label table
permutes the result and changes nothing else.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

__all__ = ["assign_folds", "hash_keys", "names_digest", "stratified_folds"]


def hash_keys(keys: Iterable[str], seed: int) -> np.ndarray:
    """Return a uniform 64-bit hash of every key, (N,) uint64, that differs from seed to seed."""
    salt = seed.to_bytes(8, "little")
    digests = (
        hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8, key=salt) for key in keys
    )
    return np.frombuffer(b"".join(d.digest() for d in digests), np.uint64)


def names_digest(names: Iterable[str]) -> int:
    """Return a number below 2^63 that identifies a set of names, in whatever order."""
    hashes = hash_keys(names, 0)
    return int(hashes.sum(dtype=np.uint64) ^ np.uint64(len(hashes))) >> 1


def assign_folds(hashes: np.ndarray, strata: np.ndarray, num_folds: int) -> np.ndarray:
    """Deal every stratum out to the folds in the order of its hashes.

    Parameters
    ----------
    hashes
        (N,) uint64 from `hash_keys`.
    strata
        (N,) integers; the folds' shares of each stratum differ by at most one row.
    num_folds
        F, at least 1.

    Returns
    -------
    numpy.ndarray
        (N,) int32, the fold of every row, 0 to F - 1.
    """
    order = np.lexsort((hashes, strata))
    fold = np.empty(len(hashes), np.int32)
    # Dealing goes on from stratum to stratum, so that small strata do not all start with fold 0.
    fold[order] = np.arange(len(hashes)) % num_folds
    return fold


def stratified_folds(hashes: np.ndarray, trusted: np.ndarray, num_folds: int) -> np.ndarray:
    """Return folds (N,) with even shares of the rows of every trusted label, and of those without one.

    Parameters
    ----------
    hashes, num_folds
        As in `assign_folds`.
    trusted
        (N,) trusted labels, negative where there is none.
    """
    without = trusted.max(initial=-1) + 1
    return assign_folds(hashes, np.where(trusted >= 0, trusted, without), num_folds)
