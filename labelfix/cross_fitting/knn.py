"""k-NN: votes of the nearest neighbours.

A linear classifier models a class as one direction; neighbours follow its shape. Similarities are cosines among the
principal components of the features, each divided by the fourth root of its variance, so that a few strong
directions do not decide alone. A neighbour's weight follows from its similarity relative to the nearest one. It
votes with its pseudo-label for the fold of the row instead of its given label: wrong labels hardly vote, and the
votes for a fold use no trusted label of that fold. An image does not vote on itself.

Neighbours are sought among at most `REFERENCE_ROWS` rows: the cost grows with N, not with N^2.

N rows with a given label, B rows of a chunk, R rows that vote, J neighbours of a row, C components, K classes, F
folds.
"""

from collections.abc import Iterator

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor

__all__ = ["neighbour_votes"]

REFERENCE_ROWS = 100_000
COMPONENTS = 256
# At most so many neighbours, and in a small set one row in so many.
NEIGHBOURS, ROWS_PER_NEIGHBOUR, LEAST_NEIGHBOURS = 100, 50, 20
# exp(SHARPNESS * (cosine - cosine of the closest)) is what a neighbour counts.
SHARPNESS = 15.0
# Votes that are spread over all classes beforehand, so that none is out of the question.
PRIOR_VOTES = 0.5
COSINES_PER_CHUNK = 1 << 25


def neighbour_votes(
    features: Iterator[tuple[slice, Tensor]], moments: Tensor, targets: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Return shares of the votes (N, K) float32; rows sum to 1.

    Parameters
    ----------
    features
        Chunks of the rows' standardised features, in order: (rows, (B, D)). Rows from N on are left out.
    moments
        (D, D) X^T X of all rows, up to a factor.
    targets
        (F, R, K) pseudo-labels of the first R rows, at most `REFERENCE_ROWS`, for each fold; rows sum to 1. Where
        not all rows vote, they are to be in a random order.
    fold
        (N,) the fold of each row.
    """
    targets = targets[:, :REFERENCE_ROWS]
    num_given, num_voters, num_classes = len(fold), *targets.shape[1:]
    components_NC = _principal_components(features, moments)[:num_given]
    voters_RC = components_NC[:num_voters]
    count = min(NEIGHBOURS, max(len(voters_RC) // ROWS_PER_NEIGHBOUR, LEAST_NEIGHBOURS), len(voters_RC) - 1)
    votes_NK = np.full((num_given, num_classes), 1 / num_classes, np.float32)
    if count < 1:
        return votes_NK
    for rows_B in torch.arange(num_given).split(max(1, COSINES_PER_CHUNK // len(voters_RC))):
        cosine_BR = components_NC[rows_B] @ voters_RC.T
        voting = torch.nonzero(rows_B < len(voters_RC)).squeeze(1)
        cosine_BR[voting, rows_B[voting]] = -torch.inf
        nearest_BJ, voter_BJ = cosine_BR.topk(count, dim=1)
        weight_BJ = (SHARPNESS * (nearest_BJ - nearest_BJ[:, :1])).exp()
        votes_NK[rows_B.numpy()] = _counted(
            weight_BJ.cpu().numpy(),
            voter_BJ.cpu().numpy(),
            targets,
            fold[rows_B.numpy()],
        )
    return votes_NK


def _counted(weight: np.ndarray, voter: np.ndarray, targets: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return shares of the votes (B, K) of rows with weights and voters, (B, J) each, and folds (B,)."""
    num_classes = targets.shape[2]
    votes = np.empty((len(weight), num_classes), np.float32)
    for number in np.unique(fold).tolist():
        rows = np.flatnonzero(fold == number)
        starts = np.arange(len(rows) + 1) * weight.shape[1]
        by_voter = sparse.csr_array(
            (weight[rows].ravel(), voter[rows].ravel(), starts), (len(rows), targets.shape[1])
        )
        votes[rows] = by_voter @ targets[number] + PRIOR_VOTES / num_classes
    return votes / votes.sum(1, keepdims=True)


def _principal_components(features: Iterator[tuple[slice, Tensor]], moments: Tensor) -> Tensor:
    """Return the components (N, C) of all rows, each row of length 1."""
    # LAPACK's syevr, through scipy: torch's driver fails where there are far fewer rows than features
    width = len(moments)
    components = scipy.linalg.eigh(
        moments.double().cpu().numpy(), subset_by_index=(max(width - COMPONENTS, 0), width - 1)
    )
    variance_C, direction_DC = (torch.from_numpy(values).to(moments.device).flip(-1) for values in components)
    spread = variance_C > 1e-8 * variance_C[0]
    basis_DC = (direction_DC[:, spread] / variance_C[spread] ** 0.25).to(moments.dtype)
    return torch.cat([F.normalize(rows_BD @ basis_DC, dim=1) for _, rows_BD in features])
