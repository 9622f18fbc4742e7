"""The linear discriminant, against scikit-learn's, its own definition in float64, and fits without the row."""

import numpy as np
import pytest
import torch
from sklearn.covariance import oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from labelfix.cross_fitting.lda import LDA, shrinkage

K = 3


def clusters(rows: int, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.choice(K, rows, p=[0.5, 0.3, 0.2])
    mixing = np.eye(width) + 0.2 * rng.normal(size=(width, width))
    return 3.0 + 1.5 * np.eye(K, width)[true] + rng.normal(size=(rows, width)) @ mixing, true


def soft(true: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    """Targets (B, K) of which `share` is Dirichlet noise."""
    noise = np.random.default_rng(seed).dirichlet(np.ones(K), len(true))
    return (1 - share) * np.eye(K)[true] + share * noise


def fitted(inputs: np.ndarray, targets: np.ndarray) -> LDA:
    with_one = torch.from_numpy(np.hstack([inputs, np.ones((len(inputs), 1))]))
    return LDA.fit(with_one.T @ with_one, with_one.T @ torch.from_numpy(targets))


def log_probs(found: LDA, inputs: np.ndarray, targets: np.ndarray | None = None) -> np.ndarray:
    """Log-probabilities (B, K); without targets, those of rows that had no part in the fit."""
    own = np.zeros((len(inputs), len(found.count))) if targets is None else targets
    scores = found.scores(torch.from_numpy(inputs).float(), torch.from_numpy(own).float())
    return scores.double().log_softmax(-1).numpy()


def test_with_hard_labels_it_is_scikit_learns() -> None:
    inputs, true = clusters(20_000)
    plain = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.0).fit(inputs, true)
    found = np.exp(log_probs(fitted(inputs, np.eye(K)[true]), inputs))
    # neither the prior rows nor the shrinkage counts among so many rows
    np.testing.assert_allclose(found, plain.predict_proba(inputs), atol=0.005)


def test_it_follows_its_definition() -> None:
    """Soft targets, a prior row of every class at the mean of all, a shrunk covariance within classes."""
    inputs, true = clusters(400)
    targets = soft(true, 0.4)
    x = np.vstack([inputs, np.tile(inputs.mean(0), (K, 1))])
    t = np.vstack([targets, np.eye(K)])
    mean = t.T @ x / t.sum(0)[:, None]
    within = sum((t[:, [k]] * (x - mean[k])).T @ (x - mean[k]) for k in range(K)) / len(x)
    share, sphere = shrinkage(torch.from_numpy(within), len(x))
    covariance = (1 - share) * within + share * sphere * np.eye(6)
    scores = np.log(t.sum(0)) - 0.5 * np.array(
        [[(row - m) @ np.linalg.solve(covariance, row - m) for m in mean] for row in inputs]
    )
    expected = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    np.testing.assert_allclose(log_probs(fitted(inputs, targets), inputs), expected, atol=1e-4)


@pytest.mark.parametrize(("rows", "width"), [(120, 30), (60, 80), (400, 10)])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_row_is_judged_as_by_a_fit_without_it(rows: int, width: int, share: float) -> None:
    inputs, true = clusters(rows, width)
    targets = soft(true, share)
    whole = fitted(inputs, targets)
    expected = np.concatenate(
        [
            log_probs(fitted(np.delete(inputs, i, 0), np.delete(targets, i, 0)), inputs[[i]])
            for i in range(rows)
        ]
    )
    error = np.abs(log_probs(whole, inputs, targets) - expected)
    taken_as_new = np.abs(log_probs(whole, inputs) - expected)
    assert error.mean() < 0.15 * taken_as_new.mean()
    assert error.mean() < 3 / rows


def test_few_rows_of_many_classes_far_apart_are_not_drawn_to_their_own_label() -> None:
    """A wrong label would defend itself, were the row's part in the mean and covariance of its class left in."""
    rng = np.random.default_rng(0)
    for rows, width, classes, apart in ((600, 100, 60, 1.0), (400, 40, 8, 4.0)):
        true = rng.integers(0, classes, rows)
        inputs = 3 * apart / width**0.5 * rng.normal(size=(classes, width))[true] + rng.normal(
            size=(rows, width)
        )
        label = np.where(rng.random(rows) < 0.3, rng.integers(0, classes, rows), true)
        targets = np.eye(classes)[label]
        judged = rng.permutation(rows)[:40]
        expected = np.concatenate(
            [
                log_probs(fitted(np.delete(inputs, i, 0), np.delete(targets, i, 0)), inputs[[i]])
                for i in judged
            ]
        )
        whole = fitted(inputs, targets)
        own = np.arange(40), label[judged]
        bias = (log_probs(whole, inputs[judged], targets[judged]) - expected)[own].mean()
        assert abs(bias) < 0.1
        assert (log_probs(whole, inputs[judged]) - expected)[own].mean() > 0.5


@pytest.mark.parametrize("rows", [15, 60, 1000])
def test_shrinkage_is_that_of_oas(rows: int) -> None:
    inputs = np.random.default_rng(rows).normal(size=(rows, 20)) * np.linspace(0.1, 3, 20)
    inputs -= inputs.mean(0)
    covariance = inputs.T @ inputs / rows
    share, sphere = shrinkage(torch.from_numpy(covariance), rows)
    # scikit-learn leaves out the terms 2 / D
    assert share == pytest.approx(oas(inputs, assume_centered=True)[1], rel=0.1)
    assert sphere == pytest.approx(np.trace(covariance) / 20)


def test_a_class_without_rows_and_features_without_spread_leave_numbers_finite() -> None:
    inputs, true = clusters(50)
    hard = np.eye(K)[np.minimum(true, 1)]
    wide = np.hstack([inputs, np.zeros((50, 2))])
    found = log_probs(fitted(wide, hard), wide, hard)
    assert np.isfinite(found).all()
    assert np.exp(found)[:, 2].max() < 0.2
    assert np.isfinite(log_probs(fitted(np.zeros((50, 4)), hard), np.zeros((50, 4)), hard)).all()
    one_row = np.eye(K)[np.append(np.zeros(49, int), 1)]  # what is left of its class is the prior
    assert np.isfinite(log_probs(fitted(inputs, one_row), inputs, one_row)).all()
