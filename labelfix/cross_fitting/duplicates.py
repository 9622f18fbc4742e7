"""Images that are there twice: the same file, or so nearly the same that their features say so.

A group shares a fold, so that no row is predicted by a fit that has seen its twin. Near duplicates are searched for
trusted rows alone: figures are measured on these.

N rows, M trusted rows, D features.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from labelfix.inputs import LabelTable
from labelfix.inputs.classes import count_of

__all__ = ["contradictions", "duplicate_groups"]

# Cosine of two feature vectors, less the mean of all. With the embedded backbone, no two different images of 600
# photos of clothes, 600 of CIFAR-10 and 600 scanned digits reach it; the same image saved again as a JPEG of
# quality 90 mostly does (lowest decile of 60 images each .985, .945 and .970).
NEAR = 0.95
ROWS_PER_CHUNK = 8192
# As large a part of the rows is no group of duplicates; their features tell nothing.
LARGEST_SHARE = 0.1
SHOWN = 3


def duplicate_groups(features: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Return the group of every row, (N,) int64: the number of its first row; most rows are alone.

    Parameters
    ----------
    features
        (N, D).
    trusted
        (M,) row numbers.
    """
    count = len(features)
    same = _first_of_the_same(features)
    near_row, near_trusted = _near(features, trusted)
    ends = np.concatenate([near_trusted, same])
    starts = np.concatenate([near_row, np.arange(count)])
    pairs = coo_array((np.ones(len(starts), bool), (starts, ends)), shape=(count, count))
    component = connected_components(pairs, directed=False)[1]
    _, first, size = np.unique(component, return_index=True, return_counts=True)
    group = first[component]
    return np.where(size[component] > max(LARGEST_SHARE * count, 2), np.arange(count), group)


def contradictions(table: LabelTable, group: np.ndarray) -> list[str]:
    """Return a warning, or none, that names duplicates whose trusted labels differ; group (N,)."""
    rows = table.pairs
    order = rows[np.lexsort((rows, group[rows]))]
    pairs = [
        (a, b) for a, b in pairwise(order) if group[a] == group[b] and table.trusted[a] != table.trusted[b]
    ]
    if not pairs:
        return []
    named = [_name(table, pair) for pair in pairs[:SHOWN]]
    more = ", …" if len(pairs) > SHOWN else ""
    return [
        f"{count_of(len(pairs), 'pair', 'pairs')} of duplicate images with different trusted labels: "
        f"{'; '.join(named)}{more}. Correct the wrong ones."
    ]


def _name(table: LabelTable, rows: Sequence[int]) -> str:
    return " and ".join(f"{table.images[int(i)].as_py()!r} ({table.classes[table.trusted[i]]})" for i in rows)


def _first_of_the_same(features: np.ndarray) -> np.ndarray:
    """Return the number of the first row with equal features, (N,)."""
    factors = np.random.default_rng(0).integers(2**63, size=features.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(features), np.uint64)
    for start in range(0, len(features), ROWS_PER_CHUNK):
        chunk = np.ascontiguousarray(features[start : start + ROWS_PER_CHUNK])
        hashes[start : start + ROWS_PER_CHUNK] = chunk.view(f"u{chunk.itemsize}").astype(np.uint64) @ factors
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return first[inverse]


def _near(features: np.ndarray, trusted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of a row and a trusted row whose features are near duplicates: two arrays of row numbers."""
    mean = features.mean(0, dtype=np.float32)
    looked_for = _unit(features[trusted], mean)
    rows, twins = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(features), ROWS_PER_CHUNK):
        near = _unit(features[start : start + ROWS_PER_CHUNK], mean) @ looked_for.T >= NEAR
        row, twin = np.nonzero(near)
        rows.append(row + start)
        twins.append(trusted[twin])
    return np.concatenate(rows), np.concatenate(twins)


def _unit(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    centred = features.astype(np.float32) - mean
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
