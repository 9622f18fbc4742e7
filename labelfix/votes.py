"""Votes of the nearest neighbours: how images that look alike are labelled.

A linear classifier sees a class as one direction; neighbours see it as the places where its images are. Distances
are cosines among the principal components of the features, each divided by the fourth root of its variance, so that
a few strong directions do not decide alone. A neighbour counts by its closeness next to the closest one; an image
does not vote on itself, and trusted labels take no part, so that the votes may serve every fold.

Beyond `REFERENCE_ROWS` rows, neighbours are sought among that many of them: the cost grows with N, not with N^2.

N rows with a given label, B rows of a chunk, R rows that vote, C components, K classes.
"""

from collections.abc import Iterator

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["REFERENCE_ROWS", "neighbour_votes"]

REFERENCE_ROWS = 100_000
COMPONENTS = 128
NEIGHBOURS = 30
# exp(SHARPNESS * (cosine - cosine of the closest)) is what a neighbour counts.
SHARPNESS = 10.0
# Votes that are spread over all classes beforehand, so that none is out of the question.
PRIOR_VOTES = 0.5
COSINES_PER_CHUNK = 1 << 25


def neighbour_votes(
    features: Iterator[tuple[slice, Tensor]], moments: Tensor, given: np.ndarray, num_classes: int
) -> np.ndarray:
    """Return shares of the votes (N, K) float32; rows sum to 1.

    Parameters
    ----------
    features
        Chunks of the rows' standardised features, in order: (rows, (B, D)). Rows from N on are left out.
    moments
        (D, D) the features' matrix of second moments, up to a factor.
    given
        (N,) given labels. The first `REFERENCE_ROWS` of them vote: sort the rows at random (by a hash) beforehand.
    num_classes
        K.
    """
    components_ND = _principal_components(features, moments)[: len(given)]
    voters_RC = components_ND[:REFERENCE_ROWS]
    labels_R = torch.from_numpy(given[: len(voters_RC)].astype(np.int64)).to(voters_RC.device)
    count = min(NEIGHBOURS, len(voters_RC) - 1)
    votes_NK = np.full((len(given), num_classes), 1 / num_classes, np.float32)
    if count < 1:
        return votes_NK
    for rows_B in torch.arange(len(given)).split(max(1, COSINES_PER_CHUNK // len(voters_RC))):
        cosine_BR = components_ND[rows_B] @ voters_RC.T
        own = torch.nonzero(rows_B < len(voters_RC)).squeeze(1)
        cosine_BR[own, rows_B[own]] = -torch.inf
        nearest_BJ, voter_BJ = cosine_BR.topk(count, dim=1)
        weight_BJ = (SHARPNESS * (nearest_BJ - nearest_BJ[:, :1])).exp()
        votes_BK = voters_RC.new_full((len(rows_B), num_classes), PRIOR_VOTES / num_classes)
        votes_BK.scatter_add_(1, labels_R[voter_BJ], weight_BJ)
        votes_NK[rows_B.numpy()] = (votes_BK / votes_BK.sum(1, keepdim=True)).cpu().numpy()
    return votes_NK


def _principal_components(features: Iterator[tuple[slice, Tensor]], moments: Tensor) -> Tensor:
    """Return the components (N, C) of all rows, each row of length 1."""
    # LAPACK's syevr, through scipy: torch's driver fails where there are far fewer rows than features
    wide = len(moments)
    found = scipy.linalg.eigh(
        moments.double().cpu().numpy(), subset_by_index=(max(wide - COMPONENTS, 0), wide - 1)
    )
    variance_C, direction_DC = (torch.from_numpy(values).to(moments.device).flip(-1) for values in found)
    spread = variance_C > 1e-8 * variance_C[0]
    basis_DC = (direction_DC[:, spread] / variance_C[spread] ** 0.25).to(moments.dtype)
    return torch.cat([F.normalize(rows_BD @ basis_DC, dim=1) for _, rows_BD in features])
