"""The linear discriminant, against scikit-learn's and against its own definition in float64."""

import numpy as np
import pytest
import torch
from sklearn.covariance import oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from labelfix.discriminant import fit_discriminant, shrunk
from labelfix.regression import Rows

K = 3


def clusters(rows: int, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.choice(K, rows, p=[0.5, 0.3, 0.2])
    mixing = np.eye(width) + 0.2 * rng.normal(size=(width, width))
    return 1.5 * np.eye(K, width)[true] + rng.normal(size=(rows, width)) @ mixing, true


def as_rows(inputs: np.ndarray, targets: np.ndarray, inside: np.ndarray) -> Rows:
    """Inputs (P, D) without the constant, targets (P, W, K), inside (P, W)."""
    with_one = torch.from_numpy(np.hstack([inputs, np.ones((len(inputs), 1))])).float()
    soft, weight = torch.from_numpy(targets).float(), torch.from_numpy(inside).float()
    gram = torch.stack([(with_one * column.unsqueeze(1)).T @ with_one for column in weight.T])

    def chunks():
        for rows in torch.arange(len(inputs)).split(70):
            yield with_one[rows], soft[rows], weight[rows]

    return Rows(chunks=chunks, gram=gram, num_classes=K)


def log_probs(weight: torch.Tensor, inputs: np.ndarray) -> np.ndarray:
    scores = torch.from_numpy(inputs).double() @ weight[:-1].double() + weight[-1].double()
    return scores.log_softmax(-1).numpy()


def test_with_hard_labels_it_is_scikit_learns() -> None:
    inputs, true = clusters(20_000)
    weight = fit_discriminant(as_rows(inputs, np.eye(K)[true][:, None], np.ones((len(true), 1))))
    plain = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.0).fit(inputs, true)
    # neither the prior rows nor the shrinkage counts among so many rows
    np.testing.assert_allclose(np.exp(log_probs(weight[0], inputs)), plain.predict_proba(inputs), atol=0.005)


def test_soft_targets_and_worlds_follow_the_definition() -> None:
    inputs, true = clusters(400)
    rng = np.random.default_rng(1)
    targets = rng.dirichlet(np.ones(K), (400, 2)) + 2 * np.eye(K)[true][:, None]
    targets /= targets.sum(2, keepdims=True)
    inside = (rng.random((400, 2)) < 0.6).astype(float)
    found = fit_discriminant(as_rows(inputs, targets, inside))
    for world in range(2):
        chosen = inside[:, world] > 0
        x, t = inputs[chosen], targets[chosen, world]
        count = t.sum(0)
        within = sum(
            (t[:, [k]] * (x - t[:, k] @ x / count[k])).T @ (x - t[:, k] @ x / count[k]) for k in range(K)
        ) / len(x)
        covariance = shrunk(torch.from_numpy(within), len(x)).numpy()
        mean = (t.T @ x + x.mean(0)) / (count + 1)[:, None]
        scores = np.log((count + 1) / (len(x) + K)) - 0.5 * np.array(
            [[(row - m) @ np.linalg.solve(covariance, row - m) for m in mean] for row in inputs]
        )
        expected = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        np.testing.assert_allclose(log_probs(found[world], inputs), expected, atol=1e-3)


@pytest.mark.parametrize("rows", [15, 60, 1000])
def test_shrinkage_is_that_of_oas(rows: int) -> None:
    inputs = np.random.default_rng(rows).normal(size=(rows, 20)) * np.linspace(0.1, 3, 20)
    inputs -= inputs.mean(0)
    expected, share = oas(inputs, assume_centered=True)
    found = shrunk(torch.from_numpy(inputs.T @ inputs / rows), rows).numpy()
    # scikit-learn leaves out the terms 2 / D
    np.testing.assert_allclose(found, expected, atol=0.1 * share * np.trace(expected) / 20)


def test_a_class_without_rows_and_features_without_spread_leave_numbers_finite() -> None:
    inputs, true = clusters(50)
    hard = np.eye(K)[np.minimum(true, 1)][:, None]
    alone = np.ones((50, 1))
    weight = fit_discriminant(as_rows(np.hstack([inputs, np.zeros((50, 2))]), hard, alone))
    assert torch.isfinite(weight).all()
    assert torch.isfinite(fit_discriminant(as_rows(np.zeros((50, 4)), hard, alone))).all()
    probs = np.exp(log_probs(weight[0], np.hstack([inputs, np.zeros((50, 2))])))
    assert probs[:, 2].max() < 0.2
