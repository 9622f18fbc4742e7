"""Linear discriminant analysis (LDA) with soft targets, leave-one-out in closed form.

Every class is a Gaussian with a covariance that all share; what is known of the rows are probabilities of their
classes. Labels enter by class means alone, so that wrong ones average out; nothing is iterated. The covariance is
shrunk towards a sphere by the oracle-approximating estimator (OAS; Chen, Wiesel, Eldar & Hero 2010, "Shrinkage
algorithms for MMSE covariance estimation", equation 23), whose strength is a formula, so that it holds with fewer
rows than features too.

With class means m_k, class sizes c_k and the covariance S within classes, the scores are

    -(x - m_k)^T S^-1 (x - m_k) / 2 + log c_k.

One factor of S serves all rows. Without a row of its own, of which the targets t_k sum to 1,

    x - m_k   becomes  r_k (x - m_k),  r_k = c_k / (c_k - t_k),
    S         loses    sum_k a_k (x - m_k)(x - m_k)^T,  a_k = t_k r_k (1 - s) / n,

with s the share of the sphere in S. With a the sum of the a_k and z = x - sum_k a_k m_k / a, the sum is taken as
a z z^T, which it is where the row is of one class, so that S^-1 follows from Sherman & Morrison (1950). So no fold
is held out: every row is judged by all others. Only the row's part in s, n and the mean of all rows is not taken
back.

B rows of a chunk, D features, K classes, n rows in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LDA"]

# Rows at the mean of all rows that every class has beforehand.
PRIOR_ROWS = 1.0
LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class LDA:
    """A fitted linear discriminant.

    Attributes
    ----------
    mean
        (D,) of all rows, from which x and m_k are taken.
    whiten
        (D, D): L^-T, where L L^T = S.
    direction
        (D, K): S^-1 M.
    inner
        (K, K): M^T S^-1 M.
    count
        (K,) rows of every class, those that it has beforehand included.
    own_part
        What a row's outer product counts for in S: (1 - s) / n.
    """

    mean: Tensor
    whiten: Tensor
    direction: Tensor
    inner: Tensor
    count: Tensor
    own_part: float

    @classmethod
    def fit(cls, gram: Tensor, sums: Tensor) -> "LDA":
        """Fit to X^T X (D + 1, D + 1) and X^T targets (D + 1, K) of n rows, a constant 1 the last feature."""
        device, gram, sums = gram.device, gram.cpu().double(), sums.cpu().double()
        mean_D = gram[:-1, -1] / gram[-1, -1]
        count_K = sums[-1] + PRIOR_ROWS
        total = float(count_K.sum())
        mean_DK = (sums[:-1] - mean_D.unsqueeze(1) * sums[-1]) / count_K
        moments_DD = gram[:-1, :-1] - gram[-1, -1] * torch.outer(mean_D, mean_D)
        within_DD = (moments_DD - (mean_DK * count_K) @ mean_DK.T) / total
        share, sphere = shrinkage(within_DD, total)
        identity_DD = torch.eye(len(mean_D), dtype=gram.dtype)
        factor_DD = torch.linalg.cholesky((1 - share) * within_DD + share * sphere * identity_DD)
        whiten_DD = torch.linalg.solve_triangular(factor_DD, identity_DD, upper=False).T
        direction_DK = whiten_DD @ (whiten_DD.T @ mean_DK)
        return cls(
            mean=mean_D.float().to(device),
            whiten=whiten_DD.float().to(device),
            direction=direction_DK.float().to(device),
            inner=(mean_DK.T @ direction_DK).float().to(device),
            count=count_K.float().to(device),
            own_part=(1 - share) / total,
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
        length_B1 = (centred_BD @ self.whiten).square().sum(1, keepdim=True)  # x^T S^-1 x
        towards_BK = centred_BD @ self.direction  # x^T S^-1 M
        ratio_BK = self.count / (self.count - targets)
        part_BK = self.own_part * targets * ratio_BK
        part_B1 = part_BK.sum(1, keepdim=True)
        of_class_BK = part_BK / part_B1.clamp(min=1e-30)
        inner_BK = of_class_BK @ self.inner
        along_B1 = (of_class_BK * towards_BK).sum(1, keepdim=True)
        own_B1 = length_B1 - 2 * along_B1 + (of_class_BK * inner_BK).sum(1, keepdim=True)  # z^T S^-1 z
        across_BK = length_B1 - towards_BK - along_B1 + inner_BK  # z^T S^-1 (x - m)
        distance_BK = length_B1 - 2 * towards_BK + self.inner.diagonal()
        distance_BK = distance_BK + part_B1 / (1 - part_B1 * own_B1) * across_BK.square()
        return torch.log(self.count - targets) - 0.5 * ratio_BK.square() * distance_BK


def shrinkage(covariance: Tensor, rows: float) -> tuple[float, float]:
    """Return the share of the sphere in a covariance (D, D) of some rows, by OAS, and the sphere's variance."""
    width = len(covariance)
    trace, squares = float(covariance.trace()), float(covariance.square().sum())
    spread = (rows + 1 - 2 / width) * (squares - trace**2 / width)
    share = min(1.0, ((1 - 2 / width) * squares + trace**2) / spread) if spread > 0 else 1.0
    return share, max(trace / width, LEAST_VARIANCE)
