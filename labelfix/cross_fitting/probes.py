"""Probes: softmax regressions on the trusted rows alone, without one fold or without two.

M trusted rows, B rows of a chunk, D features, K classes, W fits.
"""

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from labelfix.cross_fitting.softmax_regression import Design, FitRows, fit_softmax
from labelfix.training.linear_head import LabelledFeatures

__all__ = ["Probes"]

PENALTY = 3.0
STEPS = 12


class Probes:
    """Softmax regressions on the trusted rows for every fold left out, and for every pair of folds."""

    def __init__(self, design: Design, data: LabelledFeatures, fold_P: Tensor, num_folds: int):
        self.design = design
        self.rows = np.flatnonzero(data.trusted >= 0)
        self.left_out = [(f, f) for f in range(num_folds)] + list(combinations(range(num_folds), 2))
        inputs_MD = design.rows(torch.from_numpy(self.rows))
        fold_M = fold_P[torch.from_numpy(self.rows).to(fold_P.device)]
        inside_MW = torch.stack([(fold_M != f) & (fold_M != g) for f, g in self.left_out], dim=1).float()
        true_M = torch.from_numpy(data.trusted[self.rows].astype(np.int64)).to(design.device)
        targets_M1K = torch.nn.functional.one_hot(true_M, data.num_classes).float().unsqueeze(1)
        gram_WDD = torch.stack(
            [(inputs_MD * inside_MW[:, [w]]).T @ inputs_MD for w in range(len(self.left_out))]
        )
        rows = FitRows(
            chunks=lambda: iter([(inputs_MD, targets_M1K, inside_MW)]),
            gram=gram_WDD,
            num_classes=data.num_classes,
        )
        penalty_W = torch.full((len(self.left_out),), PENALTY, device=design.device)
        self.weight_WDK = fit_softmax(rows, penalty=penalty_W, steps=STEPS)

    def probs(self, fold: int, inputs_BD: Tensor) -> np.ndarray:
        """Probabilities (B, K) from the probe without a fold."""
        return (inputs_BD @ self.weight_WDK[fold]).softmax(-1).cpu().numpy()

    def nested(self, left_out: int, rows: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Probabilities (M, K) of trusted rows in `fold` (M,), each without the folds `left_out` and its own."""
        inputs_MD = self.design.rows(torch.from_numpy(rows))
        probs_MK = np.empty((len(rows), self.weight_WDK.shape[2]), np.float32)
        for number in np.unique(fold).tolist():
            here = torch.from_numpy(np.flatnonzero(fold == number)).to(inputs_MD.device)
            fit = self.left_out.index((min(number, left_out), max(number, left_out)))
            scores_MK = inputs_MD[here] @ self.weight_WDK[fit]
            probs_MK[fold == number] = scores_MK.softmax(-1).cpu().numpy()
        return probs_MK
