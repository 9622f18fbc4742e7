"""Softmax regression on frozen features: several fits at once, each without some of the rows.

The Hessian of the softmax loss is at most 1/2 X^T X for every class (Böhning 1992, "Multinomial logistic
regression algorithm"), so that one Cholesky factor per fit serves all steps: a step is two matrix products over
the rows, shared by all fits, and a few dozen steps with Nesterov's momentum reach the optimum.

P rows, B rows of a chunk, D features and a constant, K classes, W fits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labelfix.training.standardisation import Standardisation

__all__ = ["Design", "FitRows", "fit_softmax"]

CACHED_BYTES = 1 << 30


class Design:
    """The standardised features of P rows, in chunks, each with a constant 1 at its end.

    Parameters
    ----------
    features
        (P, D) float16 or float32.
    chunk
        B, rows at a time.
    device
        Where torch computes.
    """

    def __init__(self, features: np.ndarray, chunk: int, device: torch.device):
        self.features = torch.from_numpy(np.ascontiguousarray(features))
        self.standardised = Standardisation.fit(self.features, device)
        self.device = device
        self.starts = range(0, len(features), chunk)
        self.chunk = chunk
        self.cached: dict[int, Tensor] | None = {} if features.size * 4 <= CACHED_BYTES else None

    @property
    def width(self) -> int:
        """D + 1."""
        return self.features.shape[1] + 1

    def rows(self, rows: Tensor | slice) -> Tensor:
        """Return the inputs (B, D + 1) float32 of some rows."""
        values = self.standardised(self.features[rows])
        return torch.cat([values, values.new_ones(len(values), 1)], dim=1)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield every chunk of rows with its inputs."""
        for start in self.starts:
            rows = slice(start, start + self.chunk)
            if self.cached is None:
                yield rows, self.rows(rows)
            else:
                if start not in self.cached:
                    self.cached[start] = self.rows(rows)
                yield rows, self.cached[start]


@dataclass(frozen=True, kw_only=True)
class FitRows:
    """What a fit passes over.

    Attributes
    ----------
    chunks
        Yields (inputs (B, D + 1), targets (B, W or 1, K), inside (B, W), 1 where the row takes part in the fit).
    gram
        (W, D + 1, D + 1): X^T X over the rows of each fit, or more.
    num_classes
        K.
    """

    chunks: Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]]
    gram: Tensor
    num_classes: int


def fit_softmax(rows: FitRows, *, penalty: Tensor, steps: int, start: Tensor | None = None) -> Tensor:
    """Minimise cross-entropy to soft targets + penalty / 2 * |weight|^2 in every fit, with penalties (W,).

    Returns
    -------
    Tensor
        Weights (W, D + 1, K).
    """
    gram_WDD, num_classes = rows.gram, rows.num_classes
    num_fits, width = gram_WDD.shape[:2]
    penalty_W11 = penalty.view(-1, 1, 1)
    factor_WDD = torch.linalg.cholesky(
        0.5 * gram_WDD + penalty_W11 * torch.eye(width, device=gram_WDD.device)
    )
    weight_WDK = gram_WDD.new_zeros(num_fits, width, num_classes) if start is None else start
    ahead_WDK, momentum = weight_WDK, 1.0
    for _ in range(steps):
        climb_DX = _flat(-penalty_W11 * ahead_WDK)
        for inputs_BD, targets_BWK, inside_BW in rows.chunks():
            scores_BWK = (inputs_BD @ _flat(ahead_WDK)).view(len(inputs_BD), num_fits, num_classes)
            rest_BWK = (targets_BWK - scores_BWK.softmax(-1)) * inside_BW.unsqueeze(-1)
            climb_DX += inputs_BD.T @ rest_BWK.flatten(1)
        climb_WDK = climb_DX.view(width, num_fits, num_classes).permute(1, 0, 2)
        new_WDK = ahead_WDK + torch.cholesky_solve(climb_WDK, factor_WDD)
        new_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead_WDK = new_WDK + (momentum - 1) / new_momentum * (new_WDK - weight_WDK)
        weight_WDK, momentum = new_WDK, new_momentum
    return weight_WDK


def _flat(weight_WDK: Tensor) -> Tensor:
    """(D, W * K): one matrix product serves all fits."""
    return weight_WDK.permute(1, 0, 2).flatten(1)
