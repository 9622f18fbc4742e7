"""Linear discriminant analysis with soft targets, in several worlds at once, in closed form.

Every class is a Gaussian with a covariance that all share; what is known of the rows are probabilities of their
classes. Labels enter by class means alone, so that wrong ones average out; nothing is iterated. The covariance is
shrunk towards a sphere by the oracle-approximating estimator (OAS; Chen, Wiesel, Eldar & Hero 2010, "Shrinkage
algorithms for MMSE covariance estimation", equation 23), whose strength is a formula, so that it holds with fewer
rows than features too.

B rows of a chunk, D features and a constant, K classes, W worlds.
"""

import torch
from torch import Tensor

from labelfix.regression import Rows

__all__ = ["fit_discriminant"]

# Rows at the mean of all rows that every class has beforehand: one that has no others is equally likely everywhere.
PRIOR_ROWS = 1.0
LEAST_VARIANCE = 1e-6


def fit_discriminant(rows: Rows) -> Tensor:
    """Fit a discriminant in every world.

    Parameters
    ----------
    rows
        Inputs with a constant 1 at their end, targets that sum to 1, and what is inside each world; ``gram`` must
        be of exactly those rows.

    Returns
    -------
    Tensor
        Weights (W, D + 1, K) of the log-probabilities, up to a constant per row.
    """
    sums_WDK = torch.zeros(
        *rows.gram.shape[:2], rows.num_classes, dtype=torch.float64, device=rows.gram.device
    )
    for inputs_BD, targets_BWK, inside_BW in rows.chunks():
        weighted_BWK = targets_BWK * inside_BW.unsqueeze(-1)
        sums_WDK += (
            (inputs_BD.T @ weighted_BWK.flatten(1)).view(len(sums_WDK[0]), len(sums_WDK), -1).permute(1, 0, 2)
        )
    return torch.stack(
        [_discriminant(g.double(), s) for g, s in zip(rows.gram, sums_WDK, strict=True)]
    ).float()


def _discriminant(gram_DD: Tensor, sums_DK: Tensor) -> Tensor:
    """Weights (D + 1, K) from X^T X and X^T targets, the constant last in both."""
    count, total_D = gram_DD[-1, -1], gram_DD[:-1, -1]
    class_DK, count_K = sums_DK[:-1], sums_DK[-1]
    between_DD = (class_DK / count_K.clamp(min=1e-12)) @ class_DK.T
    within_DD = shrunk((gram_DD[:-1, :-1] - between_DD) / count, float(count))
    mean_DK = (class_DK + PRIOR_ROWS * (total_D / count).unsqueeze(1)) / (count_K + PRIOR_ROWS)
    weight_DK = torch.linalg.solve(within_DD, mean_DK)
    log_prior_K = torch.log((count_K + PRIOR_ROWS) / (count + PRIOR_ROWS * len(count_K)))
    bias_K = log_prior_K - 0.5 * (mean_DK * weight_DK).sum(0)
    return torch.cat([weight_DK, bias_K.unsqueeze(0)])


def shrunk(covariance: Tensor, rows: float) -> Tensor:
    """Return a covariance (D, D) of some rows, shrunk towards a multiple of the identity by OAS."""
    width = len(covariance)
    trace, squares = float(covariance.trace()), float(covariance.square().sum())
    spread = (rows + 1 - 2 / width) * (squares - trace**2 / width)
    share = min(1.0, ((1 - 2 / width) * squares + trace**2) / spread) if spread > 0 else 1.0
    sphere = max(trace / width, LEAST_VARIANCE)
    identity = torch.eye(width, dtype=covariance.dtype, device=covariance.device)
    return (1 - share) * covariance + share * sphere * identity
