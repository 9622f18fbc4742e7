"""The class transition matrix T[k, j] = P(given label j | true class k), from trusted rows and a prior.

Every row of T is a Dirichlet posterior mean: pseudo-counts from the prior, plus the trusted rows of class k. The
prior has the same share of right labels in every class; the rest is spread as the given labels of rows that look
like class k. So T holds with many classes and few trusted rows, and for classes without any. The strength of the
prior maximises the likelihood of the trusted rows (empirical Bayes).

N rows, K classes, M trusted rows.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats
from scipy.special import gammaln

__all__ = ["LOG_FLOOR", "NoiseMatrix", "Transition", "confusion_prior", "label_counts"]

ROWS_PER_CHUNK = 65536
LOG_FLOOR = 1e-12
# Candidate strengths of the prior, in trusted rows.
STRENGTHS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)


@dataclass(frozen=True, kw_only=True)
class NoiseMatrix:
    """The estimated transition matrix with intervals.

    Attributes
    ----------
    probability, low, high
        (K, K) float64: P(given j | true k) in row k, column j, and its interval.
    rows
        (K, K) int64: trusted rows with true class k and given label j.
    """

    probability: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray


def label_counts(probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return soft counts (K, K): expected rows of true class k (row) that are labelled j (column)."""
    num_classes = probs.shape[1]
    counts = np.zeros((num_classes, num_classes))
    for start in range(0, len(given), ROWS_PER_CHUNK):
        labels = given[start : start + ROWS_PER_CHUNK]
        rows = np.arange(len(labels))
        one_hot = sparse.csr_matrix((np.ones(len(labels)), (labels, rows)), (num_classes, len(rows)))
        counts += (one_hot @ np.asarray(probs[start : start + ROWS_PER_CHUNK], np.float64)).T
    return counts.round(6)  # the order of summation leaves no trace


def confusion_prior(counts: np.ndarray, agree: float | None) -> np.ndarray:
    """Return the prior mean of the transition matrix, (K, K).

    Parameters
    ----------
    counts
        (K, K) from `label_counts`.
    agree
        Share of the labels that are right, the same for every class; None takes that of `counts`.
    """
    off = counts + counts.sum() / len(counts) ** 3
    np.fill_diagonal(off, 0.0)
    if agree is None:
        agree = float(np.trace(counts) / counts.sum())
    return agree * np.eye(len(counts)) + (1 - agree) * off / off.sum(1, keepdims=True)


def _likeliest_strength(prior: np.ndarray, counts: np.ndarray) -> float:
    """Return the one of `STRENGTHS` that maximises the Dirichlet-multinomial likelihood of counts (K, K)."""
    counted = counts > 0  # other cells contribute nothing, and their prior may be 0
    cell, cell_prior, totals = counts[counted], prior[counted], counts.sum(1)

    def log_likelihood(strength: float) -> float:
        cells = gammaln(cell + strength * cell_prior) - gammaln(strength * cell_prior)
        rows = gammaln(strength) - gammaln(totals + strength)
        return round(float(cells.sum() + rows.sum()), 6)  # the order of summation leaves no trace

    return max(STRENGTHS, key=log_likelihood)


@dataclass(frozen=True, kw_only=True)
class Transition:
    """A transition matrix: pseudo-counts of the prior and (weighted) counts of trusted rows, both (K, K)."""

    pseudo: np.ndarray
    counts: np.ndarray

    @classmethod
    def fit(
        cls,
        true: np.ndarray,
        given: np.ndarray,
        weight: np.ndarray,
        soft_counts: np.ndarray,
        strength: float | None,
    ) -> "Transition":
        """Count trusted rows, true (M,), given (M,), weight (M,) with mean 1, on top of `confusion_prior`.

        `strength` is the weight of the prior on each row of the matrix, in trusted rows. None takes the one of
        `STRENGTHS` that maximises the likelihood of the counts.
        """
        agree = None
        if np.sum(weight) > 0:
            agree = (np.sum(weight * (true == given)) + 1.0) / (np.sum(weight) + 2.0)
        prior = confusion_prior(soft_counts, agree)
        counts = np.zeros_like(prior)
        np.add.at(counts, (true, given), weight)
        if strength is None:
            strength = _likeliest_strength(prior, counts)
        return cls(pseudo=strength * prior, counts=counts)

    @property
    def probability(self) -> np.ndarray:
        """T (K, K)."""
        total = self.counts + self.pseudo
        return total / total.sum(1, keepdims=True)

    def log_leave_one_out(self, true: np.ndarray, given: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return log T[., given], (M, K), with each row's own count left out of its matrix."""
        rows = np.arange(len(given))
        joint = self.counts + self.pseudo
        likelihood, total = joint[:, given].T.copy(), np.tile(joint.sum(1), (len(given), 1))
        likelihood[rows, true] -= weight
        total[rows, true] -= weight
        return np.log(np.maximum(likelihood, LOG_FLOOR)) - np.log(np.maximum(total, LOG_FLOOR))

    def with_intervals(self, coverage: float, rows: np.ndarray) -> NoiseMatrix:
        """Return every cell's posterior mean and the interval of its Beta marginal; `rows` (K, K) are passed on."""
        total = self.counts + self.pseudo
        rest = total.sum(1, keepdims=True) - total
        tail = (1 - coverage) / 2
        return NoiseMatrix(
            probability=self.probability,
            low=stats.beta.ppf(tail, total, rest),
            high=stats.beta.ppf(1 - tail, total, rest),
            rows=rows,
        )
