"""The transition matrix against counts by hand: what a row's own label adds is taken out again."""

import numpy as np
import pytest

from labelfix.stacking.transition_matrix import Transition, label_counts

K = 4


def trusted_rows(rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, K, rows)
    given = np.where(rng.random(rows) < 0.3, rng.integers(0, K, rows), true)
    return true, given, rng.uniform(0.5, 1.5, rows), rng.dirichlet(np.ones(K), 500)


def test_leaving_a_row_out_equals_a_matrix_without_it() -> None:
    true, given, weight, probs = trusted_rows()
    soft_counts = label_counts(probs, np.arange(500) % K)
    whole = Transition.fit(true, given, weight, soft_counts, 10.0)
    left_out = whole.log_leave_one_out(true, given, weight)
    for row in range(len(true)):
        counts = np.zeros((K, K))
        rest = np.arange(len(true)) != row
        np.add.at(counts, (true[rest], given[rest]), weight[rest])
        joint = counts + whole.pseudo
        np.testing.assert_allclose(left_out[row], np.log(joint[:, given[row]] / joint.sum(1)), atol=1e-9)


def test_rows_count_by_their_weight() -> None:
    true, given, weight, probs = trusted_rows()
    fit = Transition.fit(true, given, weight, label_counts(probs, np.arange(500) % K), 10.0)
    for k in range(K):
        for j in range(K):
            assert fit.counts[k, j] == pytest.approx(weight[(true == k) & (given == j)].sum())
    np.testing.assert_allclose(fit.probability.sum(1), 1)
    np.testing.assert_allclose(fit.pseudo.sum(1), 10.0)


def test_soft_counts_are_sums_of_probabilities() -> None:
    _, _, _, probs = trusted_rows()
    given = np.arange(500) % K
    counts = label_counts(probs, given)
    for j in range(K):
        np.testing.assert_allclose(counts[:, j], probs[given == j].sum(0), atol=1e-5)
