"""Linear discriminant analysis with soft targets, in closed form, that judges every row as if it had not seen it.

Every class is a Gaussian with a covariance that all share; what is known of the rows are probabilities of their
classes. Labels enter by class means alone, so that wrong ones average out; nothing is iterated. The covariance is
shrunk towards a sphere by the oracle-approximating estimator (OAS; Chen, Wiesel, Eldar & Hero 2010, "Shrinkage
algorithms for MMSE covariance estimation", equation 23), whose strength is a formula, so that it holds with fewer
rows than features too.

With features x from the mean of all rows, class means M and shares P, the scores are

    x^T S^-1 m_k - m_k^T S^-1 m_k / 2 + log p_k,    S = A - M P M^T,    A = (1 - s) X^T X / n + s v I.

One factor of A serves all rows: without a row of its own, A and M lose a matrix and vectors of rank one, and its
scores follow from x^T A^-1 M and x^T A^-1 x (Sherman & Morrison 1950). So no fold has to be held out, and every row
is judged by all others. What is not taken back is the row's small part in the mean of all, in the shrinkage, and in
the (K, K) matrix that leads from A to S: the tests hold it to 5 / n on average, in log-probability.

B rows of a chunk, D features, K classes, n rows in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Discriminant"]

# Rows at the mean of all rows that every class has beforehand.
PRIOR_ROWS = 1.0
LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Discriminant:
    """A fitted discriminant.

    Attributes
    ----------
    mean
        (D,) of all rows.
    whiten
        (D, D): L^-T, where L L^T = A.
    direction
        (D, K): A^-1 M.
    inner, outer
        (K, K): M^T A^-1 M, and what leads from x^T A^-1 M to x^T S^-1 M.
    count
        (K,) rows of every class, those that it has beforehand included.
    own_part
        What a row's outer product counts for in A: (1 - s) / n.
    """

    mean: Tensor
    whiten: Tensor
    direction: Tensor
    inner: Tensor
    outer: Tensor
    count: Tensor
    own_part: float

    @classmethod
    def fit(cls, gram: Tensor, sums: Tensor) -> "Discriminant":
        """Fit to X^T X (D + 1, D + 1) and X^T targets (D + 1, K) of n rows, a constant 1 the last feature."""
        gram, sums = gram.double(), sums.double()
        mean_D = gram[:-1, -1] / gram[-1, -1]
        count_K = sums[-1] + PRIOR_ROWS
        total = count_K.sum()
        mean_DK = (sums[:-1] - mean_D.unsqueeze(1) * sums[-1]) / count_K
        moments_DD = (gram[:-1, :-1] - gram[-1, -1] * torch.outer(mean_D, mean_D)) / total
        share, sphere = shrinkage(moments_DD - (mean_DK * (count_K / total)) @ mean_DK.T, float(total))
        identity_DD = torch.eye(len(mean_D), dtype=gram.dtype, device=gram.device)
        factor_DD = torch.linalg.cholesky((1 - share) * moments_DD + share * sphere * identity_DD)
        whiten_DD = torch.linalg.solve_triangular(factor_DD, identity_DD, upper=False).T
        direction_DK = whiten_DD @ (whiten_DD.T @ mean_DK)
        inner_KK = mean_DK.T @ direction_DK
        outer_KK = torch.linalg.inv(
            torch.eye(len(count_K), dtype=gram.dtype, device=gram.device)
            - (1 - share) * (count_K / total).unsqueeze(1) * inner_KK
        )
        return cls(
            mean=mean_D.float(),
            whiten=whiten_DD.float(),
            direction=direction_DK.float(),
            inner=inner_KK.float(),
            outer=outer_KK.float(),
            count=count_K.float(),
            own_part=(1 - share) / float(total),
        )

    def scores(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return log-probabilities (B, K), up to a constant per row, of rows of the fit, each without its own part.

        Parameters
        ----------
        inputs
            (B, D) features, without the constant.
        targets
            (B, K) what each row was in the fit; 0 for rows that had no part in it.
        """
        centred_BD = inputs - self.mean
        length_B1 = (centred_BD @ self.whiten).square().sum(1, keepdim=True)  # x^T A^-1 x
        part_B1 = self.own_part * (targets.sum(1, keepdim=True) > 0)
        towards_BK = centred_BD @ self.direction  # x^T A^-1 M
        # a class mean without the row is m - pull (x - m)
        pull_BK = targets / (self.count - targets)
        without_BK = towards_BK - pull_BK * (length_B1 - towards_BK)
        rest_B1 = 1 - part_B1 * length_B1
        inner_K = self.inner.diagonal()
        gap_BK = length_B1 - 2 * towards_BK + inner_K  # (x - m)^T A^-1 (x - m)
        change_BK = pull_BK**2 * gap_BK - 2 * pull_BK * (towards_BK - inner_K)
        change_BK = change_BK + part_B1 / rest_B1 * without_BK**2
        norm_BK = (self.inner @ self.outer).diagonal() + change_BK
        prior_BK = torch.log(self.count - targets)
        return (without_BK / rest_B1) @ self.outer - 0.5 * norm_BK + prior_BK


def shrinkage(covariance: Tensor, rows: float) -> tuple[float, float]:
    """Return the share of the sphere in a covariance (D, D) of some rows, by OAS, and the sphere's variance."""
    width = len(covariance)
    trace, squares = float(covariance.trace()), float(covariance.square().sum())
    spread = (rows + 1 - 2 / width) * (squares - trace**2 / width)
    share = min(1.0, ((1 - 2 / width) * squares + trace**2) / spread) if spread > 0 else 1.0
    return share, max(trace / width, LEAST_VARIANCE)
