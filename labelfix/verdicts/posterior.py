"""The cross-fitted posterior of every row: that of fold f comes from a fit on the trusted rows outside fold f.

N rows, K classes, M trusted rows, E kinds of evidence, F folds.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from labelfix.stacking import LOG_FLOOR, Posterior, TrustedRows, fit_stacked
from labelfix.system.folds import assign_folds

__all__ = ["content_hashes", "fit_by_fold", "predict_by_fold", "trusted_rows_of", "verdict_folds"]

ROWS_PER_CHUNK = 65536
FOLDS = 5


def verdict_folds(
    probs: np.ndarray, labels: np.ndarray, rows: np.ndarray, true: np.ndarray, folds: np.ndarray | None
) -> np.ndarray:
    """Return the fold (N,) of every row; without trusted rows all are in one."""
    if not len(rows):
        return np.zeros(len(labels), np.int32)
    if folds is not None and len(np.unique(np.asarray(folds)[rows])) > 1:
        return np.asarray(folds)
    strata = np.full(len(labels), -1)
    strata[rows] = true
    return assign_folds(content_hashes(probs, labels), strata, FOLDS)


def content_hashes(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash (N,) of the content of every row, in float32."""
    factors = np.random.default_rng(0).integers(2**63, size=probs.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(labels), np.uint64)
    for start in range(0, len(labels), ROWS_PER_CHUNK):
        chunk = np.ascontiguousarray(probs[start : start + ROWS_PER_CHUNK], np.float32)
        mixed = (chunk.view(np.uint32) * factors).sum(1, dtype=np.uint64)
        mixed += labels[start : start + ROWS_PER_CHUNK].astype(np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        hashes[start : start + ROWS_PER_CHUNK] = mixed ^ (mixed >> np.uint64(31))
    return hashes


def _log(probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probs, LOG_FLOOR, dtype=np.float32))


def trusted_rows_of(
    sources: Sequence[np.ndarray],
    labels: np.ndarray,
    rows: np.ndarray,
    true: np.ndarray,
    count: np.ndarray,
    fold: np.ndarray,
    votes: bool,
) -> TrustedRows:
    """Return the evidence on the trusted rows `rows` (M,) with true classes `true` (M,); `fold` is (N,)."""
    return TrustedRows(
        log_probs=np.stack([_log(probs[rows]) for probs in sources]),
        given=labels[rows],
        true=true,
        count=count,
        fold=fold[rows],
        votes=votes,
    )


def fit_by_fold(
    trusted: TrustedRows, soft_counts: np.ndarray, folds: np.ndarray, prior_rows: float | None
) -> dict[int, Posterior]:
    """Return one fit per fold, on the trusted rows outside it."""
    fits = {}
    for fold in folds.tolist():
        others = trusted.only(trusted.fold != fold)
        fits[fold] = fit_stacked(others, soft_counts, prior_rows=prior_rows)
    return fits


def predict_by_fold(
    fits: Mapping[int, Posterior], sources: Sequence[np.ndarray], labels: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Return the posterior (N, K) float32 of every row under the fit of its fold, in chunks of rows."""
    posterior = np.empty(sources[0].shape, np.float32)
    for start in range(0, len(labels), ROWS_PER_CHUNK):
        chunk = slice(start, start + ROWS_PER_CHUNK)
        for number, fit in fits.items():
            rows = start + np.flatnonzero(fold[chunk] == number)
            used = [_log(probs[rows]) if fit.uses(e) else None for e, probs in enumerate(sources)]
            posterior[rows] = fit.predict(used, labels[rows])
    return posterior
